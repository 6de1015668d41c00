"""More blocks: against layers written out by hand, SciPy's correlation, and published parameter counts."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from torch import Tensor, nn
from torch.nn import functional as F

from mernas.components.blocks.channel_dropout import ChannelDropout
from mernas.components.blocks.convolution import Convolution
from mernas.components.blocks.convolution_3d import Convolution3D
from mernas.components.blocks.depthwise import Depthwise
from mernas.components.blocks.dilated import Dilated
from mernas.components.blocks.inception import Inception
from mernas.components.blocks.pooling import POOLS, Pooling
from mernas.components.blocks.recurrent_convolution import RecurrentConvolution
from mernas.components.blocks.residual import Residual
from mernas.components.blocks.se import SqueezeAndExcitation
from mernas.components.blocks.temporal_shift import TemporalShift
from mernas.components.contracts import Block, Shape
from mernas.components.topologies.average import Average
from mernas.space.errors import SpaceError

GENERATOR = torch.Generator().manual_seed(7)
IMAGES = torch.randn(4, 6, 12, 13, generator=GENERATOR)
VIDEOS = torch.randn(3, 6, 5, 8, 9, generator=GENERATOR)
SE = SqueezeAndExcitation(reduction=2)
ON_IMAGES: list[Block] = [
    Convolution(width=8, norm="pooled", pool="max3_unpadded", padding="none", dropout=0.2, attention=SE),
    Convolution(width=8, norm="biasless", pool="stride2", kernel=7),
    Residual(width=8, attention=SE),
    Inception(width=3, dropout=0.2, attention=SE),
    Inception(width=2, norm="late", activation="gelu", pool="none"),
    RecurrentConvolution(dropout=0.2, attention=SE),
    RecurrentConvolution(steps=3, weights="own", shortcuts="dense", norm="biasless", pool="max4"),
    Depthwise(width=8, dropout=0.2, attention=SE),
    Depthwise(width=5, kernel=5, stride=2, norm="none", pool="average2"),
    Dilated(width=8, dropout=0.2, attention=SE),
    Dilated(width=9, dilations="1+2+3", stride=3, norm="late", pool="none"),
    Pooling("average", 3, 2, 1),
    ChannelDropout(share=0.4),
]
ON_VIDEOS: list[Block] = [
    Convolution3D(width=8, dropout=0.2, attention=SE),
    Convolution3D(width=4, norm="late", padding="none", pooling="average", pool_time=3),
    Convolution3D(width=4, norm="biasless", stride=2, stride_time=2, kernel_time=5, pool=1),
    TemporalShift(part=3),
]
CASES = [(block, IMAGES) for block in ON_IMAGES] + [(block, VIDEOS) for block in ON_VIDEOS]
EVERY = pytest.mark.parametrize(
    ("block", "maps"), CASES, ids=[f"{type(b).__name__}-{n}" for n, (b, _) in enumerate(CASES)]
)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def counted(blocks: list[Block], shape: Shape) -> tuple[int, Shape]:
    """How many parameters a stack of blocks has, and what leaves it; built without memory, as the engine counts."""
    total = 0
    with torch.device("meta"):
        for block in blocks:
            module, shape = block.build(shape)
            total += count(module)
    return total, shape


def convs(module: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def same(maps: Tensor, conv: nn.Conv2d) -> Tensor:
    """ReLU of a convolution that keeps the size, with the weights of a layer."""
    return torch.clamp(F.conv2d(maps, conv.weight, conv.bias, padding=conv.kernel_size[0] // 2), min=0)


# What must hold for every block


@EVERY
def test_announced_shape_is_the_real_one(block: Block, maps: Tensor) -> None:
    module, shape = block.build(tuple(maps.shape[1:]))
    assert module(maps).shape == (len(maps), *shape)


@EVERY
def test_gradients_reach_every_parameter_and_the_maps(block: Block, maps: Tensor) -> None:
    torch.manual_seed(1)
    module, _ = block.build(tuple(maps.shape[1:]))
    entering = maps.clone().requires_grad_()
    (module(entering) ** 2).sum().backward()
    assert all(
        parameter.grad is not None and bool(parameter.grad.any()) for parameter in (*module.parameters(), entering)
    )


@EVERY
def test_evaluation_repeats_itself_and_knows_no_batch(block: Block, maps: Tensor) -> None:
    torch.manual_seed(1)
    module, _ = block.build(tuple(maps.shape[1:]))
    module(maps)  # moves the running statistics
    module.eval()
    whole = module(maps)
    assert torch.equal(module(maps), whole)
    torch.testing.assert_close(torch.cat([module(clip[None]) for clip in maps]), whole, atol=1e-5, rtol=1e-4)
    assert torch.equal(pickle.loads(pickle.dumps(module))(maps), whole)


@EVERY
def test_blocks_are_exported_for_any_batch(block: Block, maps: Tensor) -> None:
    torch.manual_seed(1)
    module, _ = block.build(tuple(maps.shape[1:]))
    module.eval()
    program = torch.export.export(module, (maps,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    more = torch.cat([maps, maps + 1])
    torch.testing.assert_close(program.module()(more), module(more), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("block", ON_IMAGES, ids=lambda block: type(block).__name__)
def test_blocks_of_images_say_that_frames_may_pass_one_by_one(block: Block) -> None:
    assert getattr(block, "frame_wise", False) is True


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([Convolution, Inception, Depthwise, Dilated, RecurrentConvolution]),
    st.sampled_from(["none", *POOLS]),
    st.integers(1, 6),
    st.integers(1, 9),
)
def test_a_map_smaller_than_its_pooling_is_refused_with_a_remedy_and_no_other(
    kind: type, pool: str, height: int, width: int
) -> None:
    needed = {"none": 1, "max2": 2, "average2": 2, "max4": 4}.get(pool, 3)
    if kind is Dilated:  # by 2: a map of two pixels shows it nothing but its centre
        needed = max(needed, 3)
    block: Block = kind(pool=pool)
    if min(height, width) < needed:
        with pytest.raises(SpaceError, match=rf"found {height}x{width}\. Use a larger input"):
            block.build((4, height, width))
    else:
        module, shape = block.build((4, height, width))
        assert module.eval()(torch.zeros(2, 4, height, width)).shape == (2, *shape)
        assert min(shape) >= 1


# Convolution and residual: what attention has left as it was


def test_without_attention_the_weights_of_a_seed_are_what_they_were() -> None:
    torch.manual_seed(3)
    module, _ = Convolution(width=5).build((3, 28, 28))
    block, _ = Residual(width=5).build((3, 28, 28))
    given = [parameter for parameter in (*module.parameters(), *block.parameters()) if parameter.ndim == 4]
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 5, 3)]
    layers += [nn.Conv2d(3, 5, 3, bias=False), nn.Conv2d(5, 5, 3, bias=False), nn.Conv2d(3, 5, 1, bias=False)]
    assert len(given) == len(layers)
    assert all(torch.equal(mine, layer.weight) for mine, layer in zip(given, layers, strict=True))
    assert [name for name, _ in module.named_parameters()] == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_pooled_norm_is_conv_activation_pool_norm() -> None:
    module, shape = Convolution(width=5, kernel=5, norm="pooled", pool="max3_unpadded", padding="none").build(
        (6, 12, 13)
    )
    module(IMAGES)
    (conv,), (norm,) = convs(module), [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    by_hand = torch.clamp(F.conv2d(IMAGES, conv.weight, conv.bias), min=0)
    by_hand = by_hand[..., :6, :9].reshape(4, 5, 2, 3, 3, 3).amax(dim=(3, 5))
    assert norm.running_mean is not None
    by_hand = F.batch_norm(by_hand, norm.running_mean, norm.running_var, norm.weight, norm.bias)
    assert shape == (5, 2, 3)
    torch.testing.assert_close(module.eval()(IMAGES), by_hand)


def test_stride_keeps_every_second_place_of_the_convolution() -> None:
    module, _ = Convolution(width=5, norm="none", pool="stride2").build((6, 12, 13))
    torch.testing.assert_close(module(IMAGES), same(IMAGES, convs(module)[0])[..., ::2, ::2])


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("sides", [(12, 13), (7, 9), (5, 4)])
def test_named_pools_take_their_windows(name: str, sides: tuple[int, int]) -> None:
    kernel, stride, padding = {
        "max2": (2, 2, 0),
        "max3": (3, 3, 1),
        "average2": (2, 2, 0),
        "max3_unpadded": (3, 3, 0),
        "max3_overlapping": (3, 2, 1),
        "max4": (4, 4, 0),
    }[name]
    maps = np.random.default_rng(0).normal(size=sides)
    fill, reduce = (0.0, np.mean) if name.startswith("average") else (-np.inf, np.max)
    padded = np.pad(maps, padding, constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel))[::stride, ::stride]
    module, shape = POOLS[name].build((1, *sides))
    expected = reduce(windows, axis=(2, 3))
    assert shape == (1, *expected.shape)
    np.testing.assert_allclose(module(torch.tensor(maps)[None, None])[0, 0].numpy(), expected)


def test_pooling_refuses_more_padding_than_half_of_its_window() -> None:
    with pytest.raises(SpaceError, match=r"found 2\. Use a padding of at most 1"):
        Pooling(kernel=3, padding=2).build((1, 28, 28))


def test_kernel_larger_than_an_unpadded_map_is_refused() -> None:
    with pytest.raises(SpaceError, match="its kernel needs a map of at least 5x5, found 4x9"):
        Convolution(kernel=5, padding="none", pool="none").build((3, 4, 9))


# Inception


def test_inception_is_its_four_branches_side_by_side() -> None:
    module, shape = Inception(width=3, norm="none").build((6, 12, 13))
    a, b1, b3, c1, c5, d = convs(module)
    assert [conv.kernel_size[0] for conv in (a, b1, b3, c1, c5, d)] == [1, 1, 3, 1, 5, 1]
    padded = F.pad(IMAGES, (1, 1, 1, 1), value=-torch.inf)
    highest = padded.unfold(2, 3, 1).unfold(3, 3, 1).amax(dim=(4, 5))
    joined = [same(IMAGES, a), same(same(IMAGES, b1), b3), same(same(IMAGES, c1), c5), same(highest, d)]
    assert shape == (12, 6, 6)
    torch.testing.assert_close(module(IMAGES), F.max_pool2d(torch.cat(joined, dim=1), 2))


def test_two_inception_blocks_are_a_stream_of_dual_inception() -> None:
    def by_hand(channels: int, width: int) -> int:
        return 4 * (channels * width + width) + (9 + 25) * width * width + 2 * width

    stream, left = counted([Inception(width=6, norm="none"), Inception(width=16, norm="none")], (1, 28, 28))
    assert stream == by_hand(1, 6) + by_hand(24, 16) == 11_620
    assert left == (64, 7, 7)
    features = 2 * 64 * 7 * 7
    total = 2 * stream + (features * 1024 + 1024) + (1024 * 3 + 3)
    assert f"{total / 1e6:.2f}" == "6.45"  # as published with a re-implementation


# Recurrent convolution


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_recurrent_convolution_adds_its_input_at_every_step(steps: int) -> None:
    module, _ = RecurrentConvolution(steps=steps, norm="none", pool="none").build((6, 12, 13))
    first, shared = convs(module)
    output = same(IMAGES, first)
    for _ in range(steps):
        output = same(IMAGES + output, shared)
    torch.testing.assert_close(module(IMAGES), output)


def test_dense_shortcuts_are_those_of_rcn_s() -> None:
    module, _ = RecurrentConvolution(steps=3, shortcuts="dense", norm="none", pool="none").build((6, 12, 13))
    first, shared = convs(module)
    y = same(IMAGES, first)
    z = same(IMAGES + y, shared)
    e = same(IMAGES + y + z, shared)
    torch.testing.assert_close(module(IMAGES), same(IMAGES + y + z + e, shared))


def test_steps_of_their_own_are_taken_in_order() -> None:
    module, _ = RecurrentConvolution(steps=2, weights="own", norm="none", pool="none").build((6, 12, 13))
    first, second, third = convs(module)
    output = same(IMAGES + same(IMAGES + same(IMAGES, first), second), third)
    torch.testing.assert_close(module(IMAGES), output)


@pytest.mark.parametrize(("maps", "grid", "published"), [(64, 7, "55.7"), (32, 5, "15.3")])
def test_rcn_a_has_the_count_of_its_released_layers(maps: int, grid: int, published: str) -> None:
    blocks: list[Block] = [
        Convolution(width=maps, kernel=5, padding="none", dropout=0.5),
        RecurrentConvolution(steps=2, dropout=0.5),
    ]
    total, left = counted(blocks, (3, 60, 60))
    assert left == (maps, 14, 14)
    (features,) = Average(grid=grid).build(left)[1]
    total += features * 3 + 3
    assert total == (75 * maps + 3 * maps) + (maps**2 + 3 * maps) + (9 * maps**2 + 3 * maps) + 3 * grid**2 * maps + 3
    assert f"{total / 1e3:.1f}" == published


@pytest.mark.parametrize(("maps", "published"), [(128, "0.94"), (256, "3.75")])
def test_strcn_g_is_three_recurrent_sections_with_weights_of_their_own(maps: int, published: str) -> None:
    sections = [RecurrentConvolution(weights="own", pool=pool) for pool in ("max4", "max2", "max2")]
    total, left = counted([Convolution(width=maps, pool="max4"), *sections], (2, 300, 245))
    assert left == (maps, 4, 3)
    assert f"{(total + 3 * maps + 3) / 1e6:.2f}" == published


# Depthwise


def test_depthwise_is_one_filter_per_channel_then_a_mixture() -> None:
    module, shape = Depthwise(width=5, stride=2, norm="none", pool="none").build((6, 12, 13))
    within, across = convs(module)
    assert within.bias is not None
    assert across.bias is not None
    maps, kernels = IMAGES.numpy(), within.weight.detach().numpy()
    expected = np.stack(
        [[signal.correlate(channel, kernels[n, 0], mode="same") for n, channel in enumerate(clip)] for clip in maps]
    )
    expected = np.maximum(expected + within.bias.detach().numpy()[:, None, None], 0)[..., ::2, ::2]
    expected = np.einsum("oc,bchw->bohw", across.weight.detach().numpy()[:, :, 0, 0], expected)
    expected = np.maximum(expected + across.bias.detach().numpy()[:, None, None], 0)
    assert shape == (5, 6, 7)
    np.testing.assert_allclose(module(IMAGES).detach().numpy(), expected, atol=1e-5)


def test_thirteen_depthwise_blocks_are_a_mobilenet() -> None:
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    blocks: list[Block] = [Convolution(width=32, norm="biasless", pool="stride2")]
    blocks += [Depthwise(width=width, stride=stride, pool="none") for width, stride in plan]
    total, left = counted(blocks, (3, 224, 224))
    assert left == (1024, 7, 7)
    assert total + 1024 * 1000 + 1000 == 4_231_976  # trainable parameters of MobileNet 1.0


# Dilated


@pytest.mark.parametrize("dilation", [2, 3, 4])
def test_a_dilated_kernel_is_a_larger_one_with_zeros(dilation: int) -> None:
    module, _ = Dilated(width=5, dilations=str(dilation), norm="none", pool="none").build((6, 12, 13))
    (conv,) = convs(module)
    spread = torch.zeros(5, 6, 2 * dilation + 1, 2 * dilation + 1)
    spread[..., ::dilation, ::dilation] = conv.weight.detach()
    expected = torch.clamp(F.conv2d(IMAGES, spread, conv.bias, padding=dilation), min=0)
    torch.testing.assert_close(module(IMAGES), expected, atol=1e-5, rtol=1e-4)


def test_the_wide_stem_of_rcn_w_is_half_a_quarter_and_a_quarter() -> None:
    block = Dilated(width=64, dilations="1+2+3", stride=3, norm="late", pool="none", dropout=0.5)
    module, shape = block.build((3, 60, 60))
    assert shape == (64, 20, 20)
    assert [(conv.out_channels, conv.dilation) for conv in convs(module)] == [(32, (1, 1)), (16, (2, 2)), (16, (3, 3))]
    assert count(module) == (3 * 9 + 1 + 2) * 64


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 40), st.sampled_from(["2", "1+2", "1+2+3"]))
def test_branches_share_all_channels_and_none_is_empty(width: int, dilations: str) -> None:
    module, _ = Dilated(width=width, dilations=dilations).build((2, 12, 12))
    shares = [conv.out_channels for conv in convs(module)]
    assert sum(shares) == width
    assert min(shares) >= 1


def test_a_dilation_that_sees_only_its_centre_is_refused() -> None:
    with pytest.raises(SpaceError, match="at least 4x4, found 3x9"):
        Dilated(dilations="2+3", pool="none").build((3, 3, 9))


# In time


@pytest.mark.parametrize("padding", ["same", "none"])
def test_convolution_3d_is_scipys_correlation(padding: str) -> None:
    block = Convolution3D(width=4, kernel=5, kernel_time=3, norm="none", pool=2, pool_time=2, padding=padding)
    module, shape = block.build((6, 5, 8, 9))
    (conv,) = (layer for layer in module.modules() if isinstance(layer, nn.Conv3d))
    assert conv.bias is not None
    weights, mode = conv.weight.detach().numpy(), {"same": "same", "none": "valid"}[padding]
    expected = np.stack([[signal.correlate(clip, w, mode=mode) for w in weights] for clip in VIDEOS.numpy()])
    # Along the channels only the place where all of them meet counts.
    expected = expected[:, :, 3 if padding == "same" else 0] + conv.bias.detach().numpy()[:, None, None, None]
    t, h, w = (n // 2 for n in expected.shape[2:])
    expected = (
        np.maximum(expected, 0)[:, :, : 2 * t, : 2 * h, : 2 * w].reshape(3, 4, t, 2, h, 2, w, 2).max(axis=(3, 5, 7))
    )
    assert shape == (4, t, h, w)
    np.testing.assert_allclose(module(VIDEOS).detach().numpy(), expected, atol=1e-5)


def test_a_kernel_of_one_frame_sees_each_frame_by_itself() -> None:
    module, _ = Convolution3D(width=4, kernel_time=1, stride=2, norm="none", pool=1).build((6, 5, 8, 9))
    (conv,) = (layer for layer in module.modules() if isinstance(layer, nn.Conv3d))
    frames = [F.conv2d(VIDEOS[:, :, t], conv.weight[:, :, 0], conv.bias, stride=2, padding=1) for t in range(5)]
    torch.testing.assert_close(module(VIDEOS), torch.clamp(torch.stack(frames, dim=2), min=0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kernel", "stride", "frames"), [(7, 2, 6), (9, 3, 8), (9, 2, 6), (15, 2, 12), (15, 3, 9)])
def test_gradient_of_a_kernel_that_reaches_beyond_both_ends_of_the_clip(kernel: int, stride: int, frames: int) -> None:
    # torch's own padding with a stride in time has given wrong gradients here, or none at all for want of a process.
    block = Convolution3D(width=8, kernel=1, kernel_time=kernel, stride_time=stride, norm="none", pool=1)
    module, shape = block.build((16, frames, 6, 6))
    (conv,) = (layer for layer in module.modules() if isinstance(layer, nn.Conv3d))
    videos = torch.randn(4, 16, frames, 6, 6)
    maps = module(videos)
    slopes = torch.randn(maps.shape)
    (given_slope,) = torch.autograd.grad((maps * slopes).sum(), [conv.weight])
    active = (slopes * (maps > 0)).detach().double().numpy()
    padded = np.pad(videos.double().numpy(), ((0, 0), (0, 0), (kernel // 2,) * 2, (0, 0), (0, 0)))
    wanted = np.stack(
        [
            np.einsum(
                "botyx,bctyx->oc", active, padded[:, :, place : place + stride * shape[1] : stride][:, :, : shape[1]]
            )
            for place in range(kernel)
        ],
        axis=2,
    )
    np.testing.assert_allclose(given_slope.numpy()[..., 0, 0], wanted, atol=1e-3)


@pytest.mark.parametrize(("frames", "published"), [(96, "44.24"), (18, "1.64")])
def test_convolution_3d_can_be_that_of_micro_exp_stcnn(frames: int, published: str) -> None:
    block = Convolution3D(
        width=32, kernel=3, kernel_time=15, norm="none", padding="none", pool=3, pool_time=3, dropout=0.5
    )
    total, left = counted([block], (1, frames, 64, 64))
    assert left == (32, (frames - 14) // 3, 20, 20)
    features = int(np.prod(left))
    assert f"{(total + features * 128 + 128 + 128 * 3 + 3) / 1e6:.2f}" == published


def test_a_clip_that_is_too_short_is_refused() -> None:
    with pytest.raises(SpaceError, match="found a clip of 12x64x64"):
        Convolution3D(kernel_time=15, padding="none").build((1, 12, 64, 64))
    with pytest.raises(SpaceError, match="found a clip of 1x64x64"):
        Convolution3D(stride_time=2).build((1, 1, 64, 64))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([1, 3, 5]),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 2, 3]),
    st.sampled_from(["same", "none"]),
    st.integers(1, 8),
    st.integers(1, 8),
)
def test_a_clip_is_either_refused_or_has_the_announced_shape(
    kernel: int, stride: int, pool: int, padding: str, frames: int, side: int
) -> None:
    block = Convolution3D(
        width=2, kernel=3, kernel_time=kernel, stride_time=stride, stride=2, pool_time=pool, pool=2, padding=padding
    )
    lengths = []
    for n, size, step, window in ((frames, kernel, stride, pool), (side, 3, 2, 2), (8, 3, 2, 2)):
        border = size // 2 if padding == "same" else 0
        starts = range(-border, n + border - size + 1)  # where a kernel may begin
        lengths.append(len(starts[::step]) // window if len(starts) >= step else 0)
    if min(lengths) < 1:
        with pytest.raises(SpaceError, match=f"found a clip of {frames}x{side}x8"):
            block.build((2, frames, side, 8))
    else:
        module, shape = block.build((2, frames, side, 8))
        assert shape == (2, *lengths)
        assert module.eval()(torch.zeros(2, 2, frames, side, 8)).shape == (2, *shape)


def test_temporal_shift_moves_one_part_forwards_and_one_backwards() -> None:
    module, shape = TemporalShift(part=3).build((6, 5, 8, 9))
    maps = VIDEOS.numpy()
    expected = maps.copy()
    expected[:, :2] = np.roll(maps[:, :2], -1, axis=2)
    expected[:, :2, -1] = 0
    expected[:, 2:4] = np.roll(maps[:, 2:4], 1, axis=2)
    expected[:, 2:4, 0] = 0
    assert shape == (6, 5, 8, 9)
    np.testing.assert_array_equal(module(VIDEOS).numpy(), expected)


def test_temporal_shift_without_anything_to_shift_is_refused() -> None:
    with pytest.raises(SpaceError) as caught:
        TemporalShift(part=8).build((6, 1, 8, 9))
    assert len(caught.value.problems) == 2


def test_channel_dropout_drops_whole_channels_in_training_only() -> None:
    module, _ = ChannelDropout(share=0.4).build((64, 5, 5))
    torch.manual_seed(0)
    dropped = module(torch.ones(32, 64, 5, 5)).flatten(2)
    assert bool((dropped == dropped[..., :1]).all())
    assert float((dropped == 0).float().mean()) == pytest.approx(0.4, abs=0.03)
    assert float(dropped.max()) == pytest.approx(1 / 0.6)
    assert torch.equal(module.eval()(IMAGES), IMAGES)


# Published networks


def test_off_apexnet_has_the_count_of_its_layers() -> None:
    blocks: list[Block] = [Convolution(width=width, kernel=5, norm="none") for width in (6, 16)]
    stream, left = counted(blocks, (1, 28, 28))
    assert left == (16, 7, 7)
    total = 2 * stream + (1568 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 * 3 + 3)
    assert f"{total / 1e6:.2f}" == "2.66"


def test_sssnet_leaves_81_places_and_1_35_million_parameters() -> None:
    blocks: list[Block] = [
        Convolution(width=32, kernel=5, padding="none", norm="pooled", pool="max3_unpadded"),
        ChannelDropout(share=0.5),
        Convolution(width=64, kernel=3, padding="none", norm="pooled", pool="max2"),
        ChannelDropout(share=0.5),
    ]
    total, left = counted(blocks, (3, 64, 64))
    assert left == (64, 9, 9)
    total += (81 * 64 * 256 + 256) + (256 * 3 + 3)
    assert f"{total / 1e6:.2f}" == "1.35"


def test_the_trunk_of_the_capsule_network_is_a_resnet18_up_to_its_third_stage() -> None:
    stem = Convolution(width=64, kernel=7, norm="biasless", pool="stride2")
    plan = [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1)]
    blocks = [stem, *(Residual(width=width, stride=stride) for width, stride in plan)]
    total, left = counted(blocks, (3, 224, 224))
    assert left == (256, 28, 28)
    # ResNet-18 has 11,689,512 parameters, of which the fourth stage has 8,393,728 and the classifier 513,000.
    assert total == 11_689_512 - 8_393_728 - 513_000
    wide, left = counted([Convolution(width=256, kernel=9, norm="none", padding="none", pool="none")], left)
    assert left == (256, 20, 20)
    assert wide == 256 * 256 * 81 + 256
