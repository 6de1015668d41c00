"""Normalisation and augmentation, against NumPy and against fields whose mirror image is known."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from mernas.components.preprocessing.flip import Flip
from mernas.components.preprocessing.raw import Raw
from mernas.components.preprocessing.shift import Shift
from mernas.components.preprocessing.standardise import Standardise
from mernas.space.registry import REGISTRY

CHANNELS = ("u", "v", "strain")


@dataclass
class Rows:
    """A few training rows in memory."""

    tensors: list[Tensor]
    labels: Tensor
    classes: int = 2
    units: None = None
    source: None = None

    @property
    def streams(self) -> int:
        return len(self.tensors)

    def channels(self, stream: int) -> tuple[str, ...]:
        return CHANNELS

    def maps(self, stream: int) -> Tensor:
        return self.tensors[stream]

    def take(self, rows: Tensor | Sequence[int]) -> list[Tensor]:
        return [tensor[rows] for tensor in self.tensors]


def random_maps(rows: int = 12, height: int = 9, width: int = 11, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3, height, width, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_standardised_training_maps_are_those_of_numpy() -> None:
    maps = (
        random_maps() * torch.tensor([3.0, 0.01, 50.0])[:, None, None] + torch.tensor([130.0, 0.0, -7.0])[:, None, None]
    )
    module = Standardise().build((3, 9, 11))
    Standardise().fit(module, Rows([torch.zeros(1, 3, 9, 11), maps], torch.zeros(12)), stream=1)
    values = maps.double().numpy()
    by_hand = (values - values.mean(axis=(0, 2, 3), keepdims=True)) / values.std(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(module(maps).numpy(), by_hand, atol=1e-4)


def test_standardise_applies_the_training_statistics_to_other_maps() -> None:
    module = Standardise().build((3, 9, 11))
    Standardise().fit(module, Rows([random_maps() * 2 + 5], torch.zeros(12)), stream=0)
    assert float(module(torch.full((1, 3, 9, 11), 5.0)).abs().max()) < 0.2
    assert float(module(torch.full((1, 3, 9, 11), 9.0)).mean()) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("value", [0.0, 0.1, -255.0, 1e4])
def test_constant_channel_is_centred_and_not_blown_up(value: float) -> None:
    maps = random_maps()
    maps[:, 1] = value
    module = Standardise().build((3, 9, 11))
    Standardise().fit(module, Rows([maps], torch.zeros(12)), stream=0)
    assert float(module(maps)[:, 1].abs().max()) < 1e-3 * max(1.0, abs(value))
    assert float(module(maps + 1)[:, 1].mean()) == pytest.approx(1, abs=2e-3 * max(1.0, abs(value)))


def test_statistics_are_buffers_and_not_parameters() -> None:
    module = Standardise().build((3, 9, 11))
    assert list(module.parameters()) == []
    assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == {
        "mean": (3, 1, 1),
        "spread": (3, 1, 1),
    }


@pytest.mark.parametrize(
    ("shape", "axes", "statistics"),
    [
        ((3, 9, 11), (0, 2, 3), (3, 1, 1)),
        ((3, 5, 9, 11), (0, 2, 3, 4), (3, 1, 1, 1)),  # a video: over frames and pixels
        ((51, 4), (0, 1), (4,)),  # a graph: over nodes
        ((20,), (0,), (20,)),
    ],
)
def test_statistics_are_those_of_a_channel_or_a_feature_whatever_the_kind(
    shape: tuple[int, ...], axes: tuple[int, ...], statistics: tuple[int, ...]
) -> None:
    scale = torch.linspace(0.5, 40, math.prod(statistics)).reshape(statistics)
    maps = torch.randn(12, *shape, generator=seeded()) * scale + 3 * scale
    module = Standardise().build(shape)
    Standardise().fit(module, Rows([maps], torch.zeros(12)), stream=0)
    values = maps.double().numpy()
    by_hand = (values - values.mean(axis=axes, keepdims=True)) / values.std(axis=axes, keepdims=True)
    np.testing.assert_allclose(module(maps).numpy(), by_hand, atol=1e-4)
    assert module.get_buffer("mean").shape == module.get_buffer("spread").shape == statistics


@pytest.mark.parametrize("shape", [(51, 4), (4,)])
def test_constant_feature_is_centred_and_not_blown_up(shape: tuple[int, ...]) -> None:
    maps = torch.randn(12, *shape, generator=seeded())
    maps[..., 2] = 0.1
    module = Standardise().build(shape)
    Standardise().fit(module, Rows([maps], torch.zeros(12)), stream=0)
    assert float(module(maps)[..., 2].abs().max()) < 1e-6


def test_statistics_of_images_are_to_the_bit_what_they_always_were() -> None:
    maps = random_maps() * 7 + 3
    module = Standardise().build((3, 9, 11))
    Standardise().fit(module, Rows([maps], torch.zeros(12)), stream=0)
    spread, mean = torch.std_mean(maps, dim=(0, 2, 3), correction=0, keepdim=True)
    assert torch.equal(module(maps), (maps - mean) / spread)


def test_fitting_leaves_the_training_maps_alone() -> None:
    maps = random_maps()
    Standardise().fit(Standardise().build((3, 9, 11)), Rows([maps], torch.zeros(12)), stream=0)
    assert torch.equal(maps, random_maps())


def test_raw_changes_nothing() -> None:
    module = Raw().build((3, 9, 11))
    Raw().fit(module, Rows([random_maps()], torch.zeros(12)), stream=0)
    assert torch.equal(module(random_maps()), random_maps())


def test_flip_mirrors_columns_and_negates_u_only() -> None:
    maps = random_maps()
    (flipped,) = Flip(probability=1.0).apply([maps], [CHANNELS], seeded())
    by_hand = maps.numpy()[..., ::-1] * np.array([-1, 1, 1], np.float32)[:, None, None]
    np.testing.assert_array_equal(flipped.numpy(), by_hand)


def test_flip_negates_u_wherever_it_stands_and_leaves_grey_frames_unnegated() -> None:
    maps = [random_maps()[:, :1], random_maps()[:, :2]]
    grey, flow = Flip(probability=1.0).apply(maps, [("gray",), ("v", "u")], seeded())
    assert torch.equal(grey, maps[0].flip(3))
    assert torch.equal(flow[:, 0], maps[1][:, 0].flip(2))
    assert torch.equal(flow[:, 1], -maps[1][:, 1].flip(2))


def test_flip_twice_is_the_identity() -> None:
    maps = random_maps()
    flip = Flip(probability=1.0)
    twice = flip.apply(flip.apply([maps], [CHANNELS], seeded()), [CHANNELS], seeded())
    assert torch.equal(twice[0], maps)


def test_flip_of_a_flow_is_the_flow_of_the_mirrored_motion() -> None:
    # A point at x moves by (u, v)(x, y). In the mirrored film the point at -x moves by (-u, v)(x, y).
    def field(x: np.ndarray, y: np.ndarray, mirrored: bool) -> np.ndarray:
        side = -1.0 if mirrored else 1.0
        u, v = 0.3 * side * x + 0.1 * y + 0.2, np.sin(side * x) - 0.5 * y
        return np.stack([side * u, v])

    y, x = np.mgrid[-4:4.5, -5:5.5]
    flow = torch.from_numpy(field(x, y, mirrored=False))[None]
    (flipped,) = Flip(probability=1.0).apply([flow], [("u", "v")], seeded())
    np.testing.assert_allclose(flipped[0].numpy(), field(x, y, mirrored=True), atol=1e-12)


def test_flip_treats_all_streams_of_a_clip_alike_and_about_half_of_the_clips() -> None:
    first = torch.arange(20.0).expand(400, 1, 5, 20)
    second = torch.arange(8.0).expand(400, 1, 8, 8)
    given, other = Flip().apply([first, second], [("gray",), ("gray",)], seeded())
    mirrored = given[:, 0, 0, 0] == 19
    assert torch.equal(mirrored, other[:, 0, 0, 0] == 7)
    assert 150 < int(mirrored.sum()) < 250


def test_flip_of_probability_zero_changes_nothing() -> None:
    assert torch.equal(Flip(probability=0.0).apply([random_maps()], [CHANNELS], seeded())[0], random_maps())


def test_flip_needs_maps_that_can_be_mirrored() -> None:
    assert REGISTRY.get("augmentation", "flip").needs == {"mirrorable maps"}


def found_shift(before: np.ndarray, after: np.ndarray, pixels: int) -> tuple[int, int] | None:
    """The whole-pixel shift (down, right) that explains the inside of a map, by trying all with `np.roll`."""
    inside = (..., slice(pixels, -pixels), slice(pixels, -pixels))
    for down in range(-pixels, pixels + 1):
        for right in range(-pixels, pixels + 1):
            if np.array_equal(np.roll(before, (down, right), axis=(1, 2))[inside], after[inside]):
                return down, right
    return None


@pytest.mark.parametrize("pixels", [1, 2, 4])
def test_shift_rolls_the_inside_of_every_stream_alike(pixels: int) -> None:
    maps = [random_maps(60, 12, 17), random_maps(60, 20, 14, seed=1)]
    shifted = Shift(pixels=pixels).apply(maps, [CHANNELS, CHANNELS], seeded())
    shifts = []
    for clip in range(60):
        one, other = (found_shift(maps[i][clip].numpy(), shifted[i][clip].numpy(), pixels) for i in (0, 1))
        assert one is not None
        assert one == other
        shifts.append(one)
    for axis in (0, 1):
        assert {shift[axis] for shift in shifts} == set(range(-pixels, pixels + 1))


def test_shift_repeats_the_border() -> None:
    maps = random_maps(60)
    (shifted,) = Shift(pixels=3).apply([maps], [CHANNELS], seeded())
    for before, after in zip(maps.numpy(), shifted.numpy(), strict=True):
        padded = np.pad(before, ((0, 0), (3, 3), (3, 3)), mode="edge")
        windows = [padded[:, y : y + 9, x : x + 11] for y in range(7) for x in range(7)]
        assert any(np.array_equal(after, window) for window in windows)


@pytest.mark.parametrize("augmentation", [Flip(), Shift()])
def test_augmentation_follows_its_generator_and_spares_what_it_is_given(augmentation: Flip | Shift) -> None:
    maps = [random_maps(), random_maps(seed=1)]
    kept = [batch.clone() for batch in maps]
    torch.manual_seed(0)
    first = augmentation.apply(maps, [CHANNELS] * 2, seeded(3))
    torch.manual_seed(1)
    second = augmentation.apply(maps, [CHANNELS] * 2, seeded(3))
    other = augmentation.apply(maps, [CHANNELS] * 2, seeded(4))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert not all(torch.equal(*pair) for pair in zip(first, other, strict=True))
    assert all(torch.equal(*pair) for pair in zip(maps, kept, strict=True))
    assert all(
        batch.shape == given.shape and batch.dtype == given.dtype for batch, given in zip(first, maps, strict=True)
    )
