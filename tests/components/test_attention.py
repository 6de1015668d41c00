"""Attention against formulas written out in NumPy, and against the parameter counts of the papers."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal
from torch import Tensor, nn

from mernas.components.blocks.activation_map import ActivationMap
from mernas.components.blocks.cbam import ConvolutionalBlockAttention
from mernas.components.blocks.convolution import Convolution
from mernas.components.blocks.convolution_3d import Convolution3D
from mernas.components.blocks.eca import EfficientChannelAttention
from mernas.components.blocks.residual import Residual
from mernas.components.blocks.se import SqueezeAndExcitation
from mernas.components.contracts import Attention
from mernas.space.registry import REGISTRY

ALL: list[Attention] = [
    SqueezeAndExcitation(),
    EfficientChannelAttention(),
    ConvolutionalBlockAttention(),
    ActivationMap(),
]
GENERATOR = torch.Generator().manual_seed(11)
IMAGES = torch.randn(3, 8, 6, 7, generator=GENERATOR)
VIDEOS = torch.randn(3, 8, 4, 6, 7, generator=GENERATOR)
BOTH = pytest.mark.parametrize("maps", [IMAGES, VIDEOS], ids=["image", "video"])


def array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().numpy().astype(np.float64)


def sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-values))


def weights_of(module: nn.Module) -> list[NDArray[np.float64]]:
    return [array(parameter) for parameter in module.parameters()]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def spread(weights: NDArray[np.float64], maps: Tensor) -> NDArray[np.float64]:
    """Weights (B, C) as what maps (B, C, …) can be multiplied by."""
    return weights.reshape(*weights.shape, *[1] * (maps.ndim - 2))


@BOTH
def test_se_is_its_formula(maps: Tensor) -> None:
    module = SqueezeAndExcitation(reduction=4).build(8)
    down, up = weights_of(module)
    assert (down.shape, up.shape) == ((2, 8), (8, 2))
    means = array(maps).reshape(3, 8, -1).mean(axis=2)
    by_hand = array(maps) * spread(sigmoid(np.maximum(means @ down.T, 0) @ up.T), maps)
    np.testing.assert_allclose(array(module(maps)), by_hand, atol=1e-5)


@BOTH
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_eca_is_a_correlation_over_the_channel_means(maps: Tensor, kernel: int) -> None:
    module = EfficientChannelAttention(kernel=kernel).build(8)
    (weights,) = weights_of(module)
    means = array(maps).reshape(3, 8, -1).mean(axis=2)
    by_hand = np.stack([signal.correlate(row, weights.ravel(), mode="same") for row in means])
    np.testing.assert_allclose(array(module(maps)), array(maps) * spread(sigmoid(by_hand), maps), atol=1e-5)


@BOTH
@pytest.mark.parametrize("kernel", [3, 7])
def test_cbam_weighs_channels_then_positions_of_each_frame(maps: Tensor, kernel: int) -> None:
    module = ConvolutionalBlockAttention(reduction=2, kernel=kernel).build(8)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if "running" in name or value.shape == (1,):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    module.eval()
    given = array(module(maps))
    down, down_bias, up, up_bias, mix, scale, offset = weights_of(module)
    mean, variance = (array(buffer) for name, buffer in module.named_buffers() if "running" in name)
    x = array(maps)

    def perceptron(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(values @ down.T + down_bias, 0) @ up.T + up_bias

    flat = x.reshape(3, 8, -1)
    x = x * spread(sigmoid(perceptron(flat.mean(axis=2)) + perceptron(flat.max(axis=2))), maps)
    frames = x[:, :, None] if x.ndim == 4 else x
    for clip, frame in itertools.product(range(3), range(frames.shape[2])):
        shown = frames[clip, :, frame]
        summaries = (shown.mean(axis=0), shown.max(axis=0))
        mixed = sum(signal.correlate(s, k, mode="same") for s, k in zip(summaries, mix[0], strict=True))
        normed = (mixed - mean) / np.sqrt(variance + 1e-5) * scale + offset
        expected = shown * sigmoid(normed)
        np.testing.assert_allclose(given.reshape(frames.shape)[clip, :, frame], expected, atol=1e-5)


@BOTH
def test_activation_map_is_the_stretched_mean_of_the_channels(maps: Tensor) -> None:
    x = array(maps)
    for clip, given in zip(x, array(ActivationMap().build(8)(maps)), strict=True):
        activity = clip.mean(axis=0)
        stretched = (activity - activity.min()) / (activity.max() - activity.min())
        np.testing.assert_allclose(given, clip * stretched, atol=1e-5)


def test_activation_map_is_that_of_the_release_when_all_classes_weigh_channels_alike() -> None:
    # Released: for each class the mean over channels of weight * map, min to 0, then max to 1; then the mean of these.
    x, classes = array(IMAGES), 3
    maps_of_classes = []
    for factor in range(1, classes + 1):
        activity = (factor * 0.1 * x).mean(axis=1, keepdims=True)
        activity = activity - activity.min(axis=(2, 3), keepdims=True)
        maps_of_classes.append(activity / activity.max(axis=(2, 3), keepdims=True))
    np.testing.assert_allclose(array(ActivationMap().build(8)(IMAGES)), x * np.mean(maps_of_classes, axis=0), atol=1e-5)


def test_activation_map_leaves_a_uniform_map_as_it_is_and_its_gradient_is_a_number() -> None:
    maps = torch.full((2, 3, 4, 4), 0.7, requires_grad=True)
    given = ActivationMap().build(3)(maps)
    given.sum().backward()
    assert torch.equal(given, maps)
    assert maps.grad is not None
    assert bool(maps.grad.isfinite().all())


# ResNet-50 has 25,557,032 parameters; its blocks end with these many channels.
RESNET50 = 25_557_032
STAGES = {256: 3, 512: 4, 1024: 6, 2048: 3}


def added_to_resnet50(attention: Attention) -> int:
    return sum(blocks * count(attention.build(channels)) for channels, blocks in STAGES.items())


def test_se_adds_to_resnet50_what_the_papers_state() -> None:
    added = added_to_resnet50(SqueezeAndExcitation(reduction=16))
    assert added == 2 * sum(blocks * channels**2 for channels, blocks in STAGES.items()) // 16  # Hu et al., eq. 5
    assert f"{added / 1e6:.1f}" == "2.5"  # "additional parameters" of Hu et al.
    assert f"{(RESNET50 + added) / 2**20:.2f}" == "26.77"  # Table 2 of Wang et al., in units of 2 to the 20


def test_cbam_makes_of_resnet50_the_28_09_million_of_its_paper() -> None:
    added = added_to_resnet50(ConvolutionalBlockAttention(reduction=16, kernel=7))
    assert f"{(RESNET50 + added) / 1e6:.2f}" == "28.09"


def test_eca_with_a_kernel_of_5_adds_80_parameters_to_resnet50() -> None:
    assert added_to_resnet50(EfficientChannelAttention(kernel=5)) == 80


def test_more_reduction_than_channels_leaves_one_hidden_value() -> None:
    assert count(SqueezeAndExcitation(reduction=16).build(3)) == 6
    assert ConvolutionalBlockAttention(reduction=16).build(3)(torch.zeros(2, 3, 5, 5)).shape == (2, 3, 5, 5)


@pytest.mark.parametrize("attention", ALL, ids=lambda attention: type(attention).__name__)
@BOTH
def test_attention_is_a_weight_between_0_and_1(attention: Attention, maps: Tensor) -> None:
    torch.manual_seed(5)  # of two hidden values at least one is not 0
    module = attention.build(8).eval()
    weights = (module(maps) / maps).detach()
    assert module(maps).shape == maps.shape
    assert 0 <= float(weights.min()) < float(weights.max()) <= 1 + 1e-6


@pytest.mark.parametrize("attention", ALL, ids=lambda attention: type(attention).__name__)
@BOTH
def test_attention_learns_repeats_itself_and_knows_no_batch(attention: Attention, maps: Tensor) -> None:
    torch.manual_seed(5)
    module = attention.build(8)
    entering = maps.clone().requires_grad_()
    (module(entering) ** 2).sum().backward()
    learning = (*module.parameters(), entering)
    assert all(tensor.grad is not None and bool(tensor.grad.any()) for tensor in learning)
    module.eval()
    whole = module(maps)
    assert torch.equal(module(maps), whole)
    torch.testing.assert_close(torch.cat([module(clip[None]) for clip in maps]), whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pickle.loads(pickle.dumps(module))(maps), whole)


@pytest.mark.parametrize("attention", ALL, ids=lambda attention: type(attention).__name__)
@BOTH
def test_attention_is_exported_for_any_batch(attention: Attention, maps: Tensor) -> None:
    module = attention.build(8).eval()
    program = torch.export.export(module, (maps,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    more = torch.cat([maps, maps + 1])
    torch.testing.assert_close(program.module()(more), module(more))


class Negation:
    """Not attention, but something whose place can be told: y = -x."""

    def build(self, channels: int) -> nn.Module:
        return Negative()


class Negative(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return -maps


def test_attention_of_a_convolution_stands_between_activation_and_pooling() -> None:
    torch.manual_seed(0)
    plain, _ = Convolution(width=6, pool="none").build((8, 6, 7))
    torch.manual_seed(0)
    module, _ = Convolution(width=6, pool="max2", attention=Negation()).build((8, 6, 7))
    expected = nn.functional.max_pool2d(-plain.eval()(IMAGES), 2)
    torch.testing.assert_close(module.eval()(IMAGES), expected)


def test_attention_of_a_convolution_in_time_stands_between_activation_and_pooling() -> None:
    torch.manual_seed(0)
    plain, _ = Convolution3D(width=6, pool=1).build((8, 4, 6, 7))
    torch.manual_seed(0)
    module, _ = Convolution3D(width=6, pool=2, pool_time=2, attention=Negation()).build((8, 4, 6, 7))
    expected = nn.functional.max_pool3d(-plain.eval()(VIDEOS), 2)
    torch.testing.assert_close(module.eval()(VIDEOS), expected)


def test_attention_of_a_residual_block_weighs_the_branch_before_the_sum() -> None:
    torch.manual_seed(0)
    module, _ = Residual(width=8, stride=1, attention=Negation()).build((8, 6, 7))
    module.eval()
    branch = module.get_submodule("branch")
    assert isinstance(branch, nn.Sequential)
    torch.testing.assert_close(module(IMAGES), torch.relu(IMAGES - branch[:-1](IMAGES)))


@pytest.mark.parametrize("name", REGISTRY.names("attention"))
def test_every_attention_can_stand_in_a_convolution_and_a_residual_block(name: str) -> None:
    attention = REGISTRY.get("attention", name).factory()
    for block in (Convolution(width=8, attention=attention), Residual(width=8, attention=attention)):
        module, shape = block.build((8, 6, 7))
        assert module(IMAGES).shape == (3, *shape)
