"""Blocks against layers written out by hand, with the same weights."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mernas.components.blocks.convolution import Convolution
from mernas.components.blocks.residual import Residual
from mernas.space.errors import SpaceError


def layers_of(module: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, kind)]


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with all weights and running statistics random, so that none hides behind a 0 or a 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
                if tensor.ndim > 1:
                    tensor.sub_(0.6)
    return module


def normed(maps: Tensor, norm: nn.Module) -> Tensor:
    """Batch normalisation in evaluation mode, by its formula."""
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale, offset = norm.get_parameter("weight"), norm.get_parameter("bias")
    columns = [values[:, None, None] for values in (mean, variance, scale, offset)]
    return (maps - columns[0]) / torch.sqrt(columns[1] + 1e-5) * columns[2] + columns[3]


MAPS = torch.randn(4, 3, 28, 28, generator=torch.Generator().manual_seed(7))


def test_default_convolution_is_conv_norm_relu_maxpool() -> None:
    module, shape = Convolution(width=6).build((3, 28, 28))
    randomised(module).eval()
    (conv,), (norm,) = layers_of(module, nn.Conv2d), layers_of(module, nn.BatchNorm2d)
    by_hand = F.conv2d(MAPS, conv.get_parameter("weight"), conv.get_parameter("bias"), padding=1)
    by_hand = F.max_pool2d(torch.clamp(normed(by_hand, norm), min=0), 2)
    assert shape == (6, 14, 14)
    torch.testing.assert_close(module(MAPS), by_hand)


def test_late_norm_comes_after_the_activation() -> None:
    module, _ = Convolution(width=6, norm="late", pool="none").build((3, 28, 28))
    randomised(module).eval()
    (conv,), (norm,) = layers_of(module, nn.Conv2d), layers_of(module, nn.BatchNorm2d)
    by_hand = F.conv2d(MAPS, conv.get_parameter("weight"), conv.get_parameter("bias"), padding=1)
    torch.testing.assert_close(module(MAPS), normed(torch.clamp(by_hand, min=0), norm))


def test_gelu_average_pool_and_no_norm() -> None:
    module, _ = Convolution(width=6, kernel=5, norm="none", activation="gelu", pool="average2").build((3, 28, 28))
    (conv,) = layers_of(module, nn.Conv2d)
    by_hand = F.conv2d(MAPS, conv.get_parameter("weight"), conv.get_parameter("bias"), padding=2)
    by_hand = by_hand * 0.5 * (1 + torch.erf(by_hand / 2**0.5))
    by_hand = (
        by_hand[..., ::2, ::2] + by_hand[..., 1::2, ::2] + by_hand[..., ::2, 1::2] + by_hand[..., 1::2, 1::2]
    ) / 4
    torch.testing.assert_close(module(MAPS), by_hand, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pool", ["none", "max2", "max3", "average2"])
@pytest.mark.parametrize("padding", ["same", "full"])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("sides", [(28, 28), (9, 14), (3, 4)])
def test_announced_shape_of_convolution_is_the_real_one(
    pool: str, padding: str, kernel: int, sides: tuple[int, int]
) -> None:
    module, shape = Convolution(width=2, kernel=kernel, pool=pool, padding=padding).build((3, *sides))
    assert module(torch.zeros(2, 3, *sides)).shape[1:] == shape


def test_pools_of_28_pixels_leave_what_the_release_leaves() -> None:
    sides = {pool: Convolution(pool=pool).build((3, 28, 28))[1][1] for pool in ("none", "max2", "max3", "average2")}
    assert sides == {"none": 28, "max2": 14, "max3": 10, "average2": 14}


def test_dropout_zeroes_its_share_in_training_only() -> None:
    module, _ = Convolution(width=32, dropout=0.5, norm="none", pool="none").build((3, 28, 28))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        layers_of(module, nn.Conv2d)[0].get_parameter("bias").fill_(1.0)
    torch.manual_seed(0)
    assert float((module(MAPS) == 0).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert bool((module.eval()(MAPS) == 1).all())


@pytest.mark.parametrize(("pool", "side"), [("max2", 1), ("average2", 1), ("max3", 2), ("max3", 1)])
def test_pool_larger_than_the_map_is_refused(pool: str, side: int) -> None:
    with pytest.raises(SpaceError, match=f"found {side}x28"):
        Convolution(pool=pool).build((3, side, 28))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [3, 5])
def test_residual_is_relu_of_shortcut_plus_branch(stride: int, channels: int) -> None:
    maps = torch.randn(4, channels, 11, 14, generator=torch.Generator().manual_seed(3))
    module, shape = Residual(width=5, stride=stride).build((channels, 11, 14))
    randomised(module).eval()
    convs, norms = layers_of(module, nn.Conv2d), layers_of(module, nn.BatchNorm2d)
    first, second = (conv.get_parameter("weight") for conv in convs[:2])
    branch = torch.clamp(normed(F.conv2d(maps, first, stride=stride, padding=1), norms[0]), min=0)
    branch = normed(F.conv2d(branch, second, padding=1), norms[1])
    shortcut = maps
    if (stride, channels) != (1, 5):
        shortcut = normed(F.conv2d(maps, convs[2].get_parameter("weight"), stride=stride), norms[2])
    else:
        assert len(convs) == 2
    given = module(maps)
    torch.testing.assert_close(given, torch.clamp(shortcut + branch, min=0), atol=1e-5, rtol=1e-4)
    assert given.shape[1:] == shape


def test_residual_with_a_silent_branch_is_its_shortcut() -> None:
    module, _ = Residual(width=3, stride=1, dropout=0.3).build((3, 28, 28))
    with torch.no_grad():
        layers_of(module, nn.BatchNorm2d)[1].get_parameter("weight").zero_()
    assert torch.equal(module(MAPS), torch.clamp(MAPS, min=0))


def test_residual_counts_are_those_of_the_formula() -> None:
    module, _ = Residual(width=8, stride=2).build((3, 28, 28))
    by_hand = 3 * 8 * 9 + 2 * 8 + 8 * 8 * 9 + 2 * 8 + 3 * 8 + 2 * 8
    assert sum(parameter.numel() for parameter in module.parameters()) == by_hand


def test_stride_larger_than_the_map_is_refused() -> None:
    with pytest.raises(SpaceError, match="found 1x5"):
        Residual(stride=2).build((3, 1, 5))


@pytest.mark.parametrize("block", [Convolution(dropout=0.3), Residual(dropout=0.3)])
def test_gradients_reach_every_parameter_of_a_block(block: Convolution | Residual) -> None:
    module, _ = block.build((3, 28, 28))
    (module(MAPS) ** 2).sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in module.parameters())
