"""Augmentation of images and videos, against SciPy, fields whose turned image is known, and recovered draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

from mernas.components.preprocessing.crop import Crop
from mernas.components.preprocessing.erase import Erase
from mernas.components.preprocessing.flip import Flip
from mernas.components.preprocessing.jitter import Jitter
from mernas.components.preprocessing.noise import Noise
from mernas.components.preprocessing.rotate import Rotate, turned
from mernas.components.preprocessing.shift import Shift
from mernas.space.registry import REGISTRY

CHANNELS = ("u", "v", "strain")
ALL: list[Any] = [Flip(), Shift(), Rotate(), Jitter(), Noise(), Crop(), Erase()]
ALIKE = [augmentation for augmentation in ALL if not isinstance(augmentation, Noise)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(rows: int = 12, height: int = 16, width: int = 19, seed: int = 0) -> Tensor:
    return torch.randn(rows, 3, height, width, generator=seeded(seed))


def videos(rows: int = 12, frames: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(rows, 3, frames, 14, 15, generator=seeded(seed))


def grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """x to the right and y downwards, from the centre of the map."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return x - (width - 1) / 2, y - (height - 1) / 2


# What holds of all of them


@pytest.mark.parametrize("augmentation", ALL, ids=str)
def test_augmentation_follows_its_generator_alone_and_spares_what_it_is_given(augmentation: Any) -> None:
    maps = [images(), videos()]
    kept = [batch.clone() for batch in maps]
    torch.manual_seed(0)
    first = augmentation.apply(maps, [CHANNELS] * 2, seeded(3))
    torch.manual_seed(1)
    second = augmentation.apply(maps, [CHANNELS] * 2, seeded(3))
    other = augmentation.apply(maps, [CHANNELS] * 2, seeded(4))
    for one, again, elsewise, given, before in zip(first, second, other, maps, kept, strict=True):
        assert torch.equal(one, again)
        assert not torch.equal(one, elsewise)
        assert not torch.equal(one, given)
        assert torch.equal(given, before)
        assert (one.shape, one.dtype) == (given.shape, given.dtype)


@pytest.mark.parametrize("augmentation", ALIKE, ids=str)
def test_each_frame_of_a_video_is_changed_as_an_image_would_be(augmentation: Any) -> None:
    video = videos()
    if isinstance(augmentation, Erase):  # fills with the mean of the whole clip: take one whose frames agree
        video = video[:, :, :1].expand(-1, -1, 4, -1, -1)
    (changed,) = augmentation.apply([video], [("u", "v", "gray")], seeded())
    for frame in range(4):
        (alone,) = augmentation.apply([video[:, :, frame]], [("u", "v", "gray")], seeded())
        torch.testing.assert_close(changed[:, :, frame], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("augmentation", ALIKE, ids=str)
def test_streams_of_equal_maps_stay_equal(augmentation: Any) -> None:
    first, second = augmentation.apply([images(), images()], [CHANNELS] * 2, seeded())
    assert torch.equal(first, second)


@pytest.mark.parametrize("augmentation", ALL, ids=str)
def test_clips_of_a_batch_are_changed_each_in_its_own_way(augmentation: Any) -> None:
    same = images()[:1].expand(12, -1, -1, -1)
    (changed,) = augmentation.apply([same], [("u", "v", "gray")], seeded())
    assert len({clip.numpy().tobytes() for clip in changed}) > (1 if isinstance(augmentation, Flip) else 5)


def test_needs_say_which_maps_can_be_changed() -> None:
    expected = {
        "flip": {"mirrorable maps"},
        "shift": {"pixels"},
        "rotate": {"turnable maps", "pixels"},
        "jitter": {"brightness", "pixels"},
        "noise": {"pixels"},
        "crop": {"pixels"},
        "erase": {"pixels"},
    }
    assert {name: REGISTRY.get("augmentation", name).needs for name in expected} == expected


# Rotation


@pytest.mark.parametrize("angle", [-37.0, 5.0, 20.0])
def test_grey_maps_are_turned_as_scipy_turns_them(angle: float) -> None:
    maps = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(15, 22)), 1.5)
    by_scipy = ndimage.rotate(maps, angle, reshape=False, order=1, mode="nearest")
    given = turned(torch.from_numpy(maps)[None, None], ("gray",), torch.tensor([angle]))
    np.testing.assert_allclose(given[0, 0].numpy(), by_scipy, atol=1e-4)


def test_positive_angles_turn_counter_clockwise_as_rot90_does() -> None:
    square = images(2, 9, 9)[:, 2:]
    given = turned(square, ("gray",), torch.tensor([90.0, 0.0]))
    np.testing.assert_allclose(given[0, 0].numpy(), np.rot90(square[0, 0].numpy()), atol=1e-5)
    np.testing.assert_allclose(given[1].numpy(), square[1].numpy(), atol=1e-5)


@pytest.mark.parametrize("angle", [-45.0, -5.0, 3.0, 30.0])
@pytest.mark.parametrize("field", ["radial", "rotational"])
def test_fields_that_look_alike_from_all_sides_do_not_change(field: str, angle: float) -> None:
    x, y = grid(21, 25)
    flow = np.stack([x, y] if field == "radial" else [y, -x])
    given = turned(torch.from_numpy(flow)[None], ("u", "v"), torch.tensor([angle]))[0].numpy()
    inside = np.hypot(x, y) < 10
    np.testing.assert_allclose(given[:, inside], flow[:, inside], atol=1e-4)


@pytest.mark.parametrize("angle", [-30.0, 12.0, 45.0])
def test_turned_flow_is_the_flow_of_the_turned_motion(angle: float) -> None:
    # A point p moves by f(p). In the turned film the point R p moves by R f(p). A linear field is interpolated exactly.
    random = np.random.default_rng(0)
    matrix, constant = random.normal(size=(2, 2)), random.normal(size=2)
    x, y = grid(23, 20)
    a = np.deg2rad(angle)
    turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])  # to the left where y goes downwards
    places = np.stack([x, y])
    flow = np.einsum("ij,jhw->ihw", matrix, places) + constant[:, None, None]
    back = np.einsum("ij,jhw->ihw", matrix @ turn.T, places) + constant[:, None, None]
    expected = np.einsum("ij,jhw->ihw", turn, back)
    maps = torch.from_numpy(np.stack([flow[1], x, flow[0]]))[None]  # the channels in another order, a scalar among them
    given = turned(maps, ("v", "strain", "u"), torch.tensor([angle]))[0].numpy()
    inside = np.hypot(x, y) < 9
    np.testing.assert_allclose(given[2][inside], expected[0][inside], atol=1e-4)
    np.testing.assert_allclose(given[0][inside], expected[1][inside], atol=1e-4)
    np.testing.assert_allclose(given[1][inside], (np.cos(a) * x - np.sin(a) * y)[inside], atol=1e-4)


def test_angles_are_spread_over_both_sides_and_equal_in_all_streams() -> None:
    maps = [torch.zeros(300, 2, 9, 9), torch.zeros(300, 2, 3, 12, 10)]
    for batch in maps:
        batch[:, 0] = 1.0  # to the right everywhere: the angle can be read off
    given = Rotate(degrees=8.0).apply(maps, [("u", "v")] * 2, seeded())
    angles = [torch.rad2deg(torch.atan2(-batch[:, 1], batch[:, 0])).flatten(1) for batch in given]
    assert all(float((found - found[:, :1]).abs().max()) < 1e-3 for found in angles)
    torch.testing.assert_close(angles[0][:, 0], angles[1][:, 0], atol=1e-3, rtol=0)
    assert stats.kstest(angles[0][:, 0].numpy(), stats.uniform(-8, 16).cdf).pvalue > 1e-3


# Grey values


def test_jitter_is_one_gain_and_one_offset_for_a_clip() -> None:
    gray = 0.4 + 0.2 * torch.rand(200, 1, 5, 8, 8, generator=seeded(1))  # in the middle: nothing is cut
    difference = gray[:, :, 1] - gray[:, :, 0]
    grey, moved = Jitter(gain=0.3, offset=0.1).apply([gray, difference], [("gray",), ("difference",)], seeded())
    fits = [np.polyfit(x.flatten().numpy(), y.flatten().numpy(), 1) for x, y in zip(gray, grey, strict=True)]
    gains, offsets = np.array(fits).T
    by_hand = gains[:, None] * gray.flatten(1).numpy() + offsets[:, None]
    np.testing.assert_allclose(grey.flatten(1).numpy(), by_hand, atol=1e-5)
    np.testing.assert_allclose(moved.flatten(1).numpy(), gains[:, None] * difference.flatten(1).numpy(), atol=1e-5)
    assert stats.kstest(gains, stats.uniform(0.7, 0.6).cdf).pvalue > 1e-3
    assert stats.kstest(offsets, stats.uniform(-0.1, 0.2).cdf).pvalue > 1e-3


def test_jitter_cuts_grey_values_and_not_differences() -> None:
    maps = torch.cat([torch.ones(50, 2, 4, 4), -torch.ones(50, 1, 4, 4)], dim=1)
    (given,) = Jitter(gain=0.5, offset=0.3).apply([maps], [("gray onset", "gray", "difference")], seeded())
    assert float(given[:, :2].max()) == 1.0
    assert float(given[:, :2].min()) >= 0.0
    assert float(given[:, 2].min()) < -1.0


def test_noise_is_normal_with_the_share_of_the_spread_and_new_in_every_frame() -> None:
    scale = torch.tensor([1.0, 30.0, 0.01])[:, None, None, None]
    maps = scale * videos(40) + 5 * scale
    (given,) = Noise(share=0.2).apply([maps], [CHANNELS], seeded())
    spread = maps.double().numpy().std(axis=(2, 3, 4), keepdims=True)
    noise = (given.double().numpy() - maps.double().numpy()) / (0.2 * spread)
    assert stats.kstest(noise.flatten()[::7], "norm").pvalue > 1e-3
    assert abs(np.corrcoef(noise[:, :, 0].flatten(), noise[:, :, 1].flatten())[0, 1]) < 0.03


def test_map_that_is_constant_gets_no_noise() -> None:
    maps = torch.full((3, 1, 8, 8), 0.5)
    assert torch.equal(Noise().apply([maps], [("gray",)], seeded())[0], maps)


# Parts


def test_crop_shows_a_part_of_the_map_at_full_size() -> None:
    parts = []
    for height, width in [(16, 16), (40, 25)]:
        x, y = grid(height, width)
        ramps = torch.from_numpy(np.stack([2 * x / width, 2 * y / height])).expand(200, -1, -1, -1)  # from -1 to 1
        (given,) = Crop(side=0.6).apply([ramps], [("u", "v")], seeded())
        inner = given[:, :, 4:-4, 4:-4].numpy()  # the outermost half pixel of a map cannot be interpolated
        one, other = (2 * x / width)[0, 4:-4], (2 * y / height)[4:-4, 0]
        right = np.array([np.polyfit(one, clip[0, 0], 1) for clip in inner])
        down = np.array([np.polyfit(other, clip[1, :, 0], 1) for clip in inner])
        np.testing.assert_allclose(inner[:, 0], np.repeat((right[:, :1] * one + right[:, 1:])[:, None], height - 8, 1))
        np.testing.assert_allclose(right[:, 0], down[:, 0], atol=1e-6)
        parts.append(np.column_stack([right, down[:, 1]]))
    np.testing.assert_allclose(parts[0], parts[1], atol=1e-6)  # the same part, whatever the size
    side, centre = parts[0][:, 0], np.abs(parts[0][:, 1:])
    assert stats.kstest(side, stats.uniform(0.6, 0.4).cdf).pvalue > 1e-3
    assert (centre <= 1 - side[:, None] + 1e-6).all()  # nothing from outside the map
    assert (centre.max(axis=0) > 0.25).all()


def test_erasing_blots_out_one_rectangle_with_the_mean_at_the_same_place_of_all_streams() -> None:
    maps = [torch.randn(200, 2, 60, 60, generator=seeded(5)), torch.randn(200, 1, 3, 30, 40, generator=seeded(6))]
    given = Erase(probability=0.7, area=0.3).apply(maps, [("u", "v"), ("gray",)], seeded())
    areas, places = [], []
    for before, after in zip(maps, given, strict=True):
        erased = (before != after).flatten(1, -3)
        assert bool((erased == erased[:, :1]).all())  # channels and frames alike
        erased = erased[:, 0]
        rows, columns = erased.any(2), erased.any(1)
        assert torch.equal(erased, rows[:, :, None] & columns[:, None, :])
        for line in (rows, columns):  # without gaps
            assert int((line[:, 1:] != line[:, :-1]).sum(dim=1).max()) <= 2
        means = before.mean(dim=tuple(range(2, before.dim())), keepdim=True)
        gaps = (after - means).abs().flatten(1, -3).amax(1)
        assert float(gaps[erased].max()) < 1e-6
        areas.append(erased.float().mean(dim=(1, 2)).numpy())
        middle = [
            (line * torch.linspace(0, 1, line.shape[1])).sum(1) / line.sum(1).clamp(min=1) for line in (rows, columns)
        ]
        places.append(torch.stack(middle).numpy())
    np.testing.assert_allclose(areas[0], areas[1], atol=0.06)
    np.testing.assert_allclose(places[0], places[1], atol=0.06)
    assert 0.6 < (areas[0] > 0).mean() < 0.8
    assert areas[0].max() < 0.33
    assert 0.005 < areas[0][areas[0] > 0].min() < 0.06
