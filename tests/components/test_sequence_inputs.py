"""Inputs made of several grey frames, against their definitions written out with NumPy."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mernas.components.contracts import Input
from mernas.components.datasets.clip import Clip
from mernas.components.inputs.dynamic_image import DynamicImage, rank_weights
from mernas.components.inputs.onset_apex import OnsetApex
from mernas.components.inputs.onset_apex_offset import OnsetApexOffset
from mernas.components.inputs.sequence import FrameSequence
from mernas.space.errors import DataError
from mernas.space.registry import REGISTRY


def clip(**contents: Any) -> Clip:
    return Clip("set/person/clip", "set", "set/person", "fingerprint", **contents)


def noise(frames: int, size: int = 56, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (frames, size, size), dtype=np.uint8)


def small(frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return frames of 56 pixels as maps of 28 in [0, 1]: the means of two by two pixels."""
    return np.asarray(frames.reshape(-1, 28, 2, 28, 2).mean(axis=(2, 4)) / 255)


# Onset, apex and offset


def test_onset_and_apex_are_the_two_channels() -> None:
    frames = noise(5)
    maps = OnsetApex().prepare(clip(frames=frames, onset=1, apex=3))
    assert OnsetApex().channels == ("gray onset", "gray apex")
    assert np.allclose(maps, small(frames[[1, 3]]), atol=1e-6)


def test_the_difference_is_apex_minus_onset() -> None:
    frames = noise(5)
    component = OnsetApex(shows="difference")
    maps = component.prepare(clip(frames=frames, onset=1, apex=3))
    onset, apex = small(frames[[1, 3]])
    assert component.channels == ("difference",)
    assert np.allclose(maps, (apex - onset)[np.newaxis], atol=1e-6)
    assert maps.min() < 0 < maps.max()


def test_the_difference_of_white_and_black_is_one() -> None:
    black_and_white = np.stack([np.zeros((40, 30), np.uint8), np.full((40, 30), 255, np.uint8)])
    for onset, expected in ((0, 1.0), (1, -1.0)):
        maps = OnsetApex(shows="difference").prepare(clip(frames=black_and_white, onset=onset, apex=1 - onset))
        assert np.array_equal(maps, np.full((1, 28, 28), expected, np.float32))


def test_nothing_differs_where_the_apex_is_the_onset() -> None:
    assert not OnsetApex(shows="difference").prepare(clip(frames=noise(1), onset=0, apex=0)).any()


def test_onset_apex_and_offset_are_the_three_channels() -> None:
    frames = noise(6)
    maps = OnsetApexOffset().prepare(clip(frames=frames, onset=1, apex=4, offset=5))
    assert OnsetApexOffset().channels == ("gray onset", "gray apex", "gray offset")
    assert np.allclose(maps, small(frames[[1, 4, 5]]), atol=1e-6)


def test_colour_frames_are_weighted_as_in_itu_r_601() -> None:
    for colour, weight in zip(np.eye(3), (0.299, 0.587, 0.114), strict=True):
        frame = np.tile((255 * colour).astype(np.uint8), (40, 30, 1))
        maps = OnsetApexOffset().prepare(clip(frames=[frame * 0, frame], onset=0, apex=1, offset=1))
        assert np.abs(maps - np.array([0, weight, weight])[:, None, None]).max() < 1 / 255


# Dynamic images


def proportions(frames: int, ranked: str) -> NDArray[np.float64]:
    """The weights by their definition: over all pairs of moments, what is ranked later minus what is ranked earlier."""
    shown = np.eye(frames)  # the frames as unit vectors, so that a sum of them is the vector of its weights
    if ranked == "means":
        shown = np.cumsum(shown, axis=0) / np.arange(1, frames + 1)[:, None]
    total = np.zeros(frames)
    for earlier, later in combinations(range(frames), 2):
        total += shown[later] - shown[earlier]
    return total


@pytest.mark.parametrize("ranked", ["means", "frames"])
@given(frames=st.integers(2, 60))
@settings(max_examples=20, deadline=None)
def test_the_weights_are_the_sum_over_all_pairs_of_moments(ranked: str, frames: int) -> None:
    weights, expected = rank_weights(frames, ranked), proportions(frames, ranked)
    assert np.allclose(weights, expected / expected[expected > 0].sum(), atol=1e-10)
    assert weights[weights > 0].sum() == pytest.approx(1)
    assert weights[weights < 0].sum() == pytest.approx(-1)


def test_the_weights_of_the_paper_for_four_frames() -> None:
    # 2 (T - t + 1) - (T + 1) (H_T - H_(t - 1)) with H = 0, 1, 3/2, 11/6, 25/12, by hand.
    by_hand = np.array([8 - 5 * 25 / 12, 6 - 5 * 13 / 12, 4 - 5 * 7 / 12, 2 - 5 / 4])
    assert np.allclose(rank_weights(4, "means") * -by_hand[0], by_hand)


@pytest.mark.parametrize("ranked", ["means", "frames"])
def test_a_dynamic_image_is_the_weighted_sum_of_the_frames_from_onset_to_offset(ranked: str) -> None:
    frames = noise(9)
    maps = DynamicImage(ranked=ranked).prepare(clip(frames=frames, onset=2, offset=7))
    weights = proportions(6, ranked)
    weights /= np.abs(weights).sum() / 2
    assert np.allclose(maps[0], np.einsum("t,thw->hw", weights, small(frames[2:8])), atol=1e-6)
    assert np.abs(maps).max() <= 1


@pytest.mark.parametrize("ranked", ["means", "frames"])
def test_a_still_clip_has_the_dynamic_image_zero(ranked: str) -> None:
    shown = clip(frames=np.repeat(noise(1), 7, axis=0), onset=0, offset=6)
    assert np.abs(DynamicImage(ranked=ranked).prepare(shown)).max() < 1e-6


def test_a_single_frame_has_the_dynamic_image_zero_or_half() -> None:
    shown = clip(frames=noise(3), onset=1, offset=1)
    assert not DynamicImage().prepare(shown).any()
    assert np.array_equal(DynamicImage(scale="range").prepare(shown), np.full((1, 28, 28), 0.5, np.float32))


def test_time_reversed_negates_the_dynamic_image_of_ranked_frames() -> None:
    frames = noise(8)
    component = DynamicImage(ranked="frames")
    there = component.prepare(clip(frames=frames, onset=0, offset=7))
    back = component.prepare(clip(frames=frames[::-1], onset=0, offset=7))
    assert np.allclose(back, -there, atol=1e-6)
    assert np.abs(there).max() > 0.05


@pytest.mark.parametrize("ranked", ["means", "frames"])
def test_what_grows_brighter_is_above_zero(ranked: str) -> None:
    frames = np.stack([np.full((40, 30), 10 * level, np.uint8) for level in range(8)])
    assert DynamicImage(ranked=ranked).prepare(clip(frames=frames, onset=0, offset=7)).min() > 0
    assert DynamicImage(ranked=ranked).prepare(clip(frames=frames[::-1], onset=0, offset=7)).max() < 0


def test_a_stretched_dynamic_image_goes_from_zero_to_one_and_keeps_the_order() -> None:
    shown = clip(frames=noise(6), onset=0, offset=5)
    plain, stretched = DynamicImage().prepare(shown), DynamicImage(scale="range").prepare(shown)
    assert (stretched.min(), stretched.max()) == (0, 1)
    assert np.allclose(stretched, (plain - plain.min()) / np.ptp(plain), atol=1e-5)


def test_a_small_motion_stays_small_by_the_fixed_scale_only() -> None:
    calm = np.full((6, 56, 56), 100, np.uint8)
    calm[3:, 20:30, 20:30] += 4  # four of 255 grey levels
    shown = clip(frames=calm, onset=0, offset=5)
    assert DynamicImage().prepare(shown).max() <= 4 / 255 + 1e-6
    assert DynamicImage(scale="range").prepare(shown).max() == 1


# Sequences


@given(st.integers(0, 3), st.integers(0, 12), st.sampled_from([4, 6, 8, 10, 16]))
@settings(max_examples=25, deadline=None)
def test_a_sequence_is_interpolated_linearly_in_time(onset: int, length: int, count: int) -> None:
    frames = noise(onset + length + 3)
    component = FrameSequence(frames=count)
    video = component.prepare(clip(frames=frames, onset=onset, offset=onset + length))
    assert video.shape == component.shape == (1, count, 28, 28)
    assert video.dtype == np.float32
    known = small(frames)
    times = onset + np.arange(count) * length / (count - 1)
    for y, x in ((0, 0), (13, 5), (27, 27)):
        expected = np.interp(times, np.arange(len(frames)), known[:, y, x])
        assert np.allclose(video[0, :, y, x], expected, atol=1e-5)


def test_a_sequence_begins_at_the_onset_and_ends_at_the_offset() -> None:
    frames = noise(20)
    video = FrameSequence(frames=6).prepare(clip(frames=frames, onset=3, offset=17))
    assert np.allclose(video[0, [0, -1]], small(frames[[3, 17]]), atol=1e-6)


def test_as_many_frames_as_the_clip_has_are_its_frames() -> None:
    frames = noise(8)
    video = FrameSequence(frames=8).prepare(clip(frames=frames, onset=0, offset=7))
    assert np.allclose(video[0], small(frames), atol=1e-6)


def test_the_difference_to_the_onset_leaves_only_what_changed() -> None:
    frames = noise(9)
    component = FrameSequence(frames=4, minus="onset")
    video = component.prepare(clip(frames=frames, onset=2, offset=8))
    assert component.channels == ("difference",)
    assert not video[0, 0].any()
    assert np.allclose(video[0], small(frames[[2, 4, 6, 8]]) - small(frames[[2]]), atol=1e-6)


def test_a_single_frame_is_repeated() -> None:
    frames = noise(1)
    video = FrameSequence(frames=4).prepare(clip(frames=frames, onset=0, offset=0))
    assert np.allclose(video[0], np.repeat(small(frames), 4, axis=0), atol=1e-6)


def test_no_frame_is_decoded_twice() -> None:
    frames = noise(5)
    asked: list[int] = []

    class Counted:
        def __len__(self) -> int:
            return len(frames)

        def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
            asked.append(frame)
            return np.asarray(frames[frame])

    FrameSequence(frames=16).prepare(clip(frames=Counted(), onset=0, offset=4))
    assert sorted(asked) == [0, 1, 2, 3, 4]


# What all have in common

COMPONENTS: list[Input] = [
    OnsetApex(size=20),
    OnsetApex(shows="difference", size=60),
    OnsetApexOffset(size=48),
    DynamicImage(size=20),
    DynamicImage(ranked="frames", scale="range", size=64),
    FrameSequence(frames=6, size=20),
    FrameSequence(frames=4, minus="onset", size=48),
]
FULL = {"onset": 1, "apex": 3, "offset": 5}


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_map_has_the_declared_shape_and_is_contiguous_float32(component: Input) -> None:
    maps = component.prepare(clip(frames=noise(6, 45)[:, :, :31], **FULL))
    assert maps.shape == component.shape
    assert len(component.channels) == component.shape[0]
    assert maps.dtype == np.float32
    assert maps.flags["C_CONTIGUOUS"]
    assert np.isfinite(maps).all()


@pytest.mark.parametrize("component", COMPONENTS)
def test_only_what_lies_between_black_and_white_is_called_gray(component: Input) -> None:
    maps = component.prepare(clip(frames=noise(6), **FULL))
    for name, plane in zip(component.channels, maps, strict=True):
        gray = name == "gray" or name.startswith("gray ")
        assert gray == (plane.min() >= 0 and plane.max() <= 1) or name == "stretched difference"


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_mirrored_or_turned_clip_gives_the_mirrored_or_turned_map(component: Input) -> None:
    frames = noise(6, 60)
    plain = component.prepare(clip(frames=frames, **FULL))
    mirrored = component.prepare(clip(frames=frames[..., ::-1], **FULL))
    turned = component.prepare(clip(frames=np.rot90(frames, axes=(1, 2)), **FULL))
    assert np.allclose(mirrored, plain[..., ::-1], atol=1e-5)
    assert np.allclose(turned, np.rot90(plain, axes=(-2, -1)), atol=1e-5)
    assert component.provides(frozenset()) >= {"pixels", "mirrorable maps", "turnable maps"}


@pytest.mark.parametrize("component", COMPONENTS)
def test_maps_take_a_change_of_brightness_exactly_if_half_the_light_gives_half_the_map(component: Input) -> None:
    frames = noise(6, 60) // 2 * 2
    plain = component.prepare(clip(frames=frames, **FULL))
    dark = component.prepare(clip(frames=frames // 2, **FULL))
    assert ("brightness" in component.provides(frozenset())) == np.allclose(dark, plain / 2, atol=1e-5)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("missing", ["onset", "apex", "offset", "frames"])
def test_the_clip_that_lacks_what_is_needed_is_named(component: Input, missing: str) -> None:
    name = next(one.name for one in REGISTRY if one.axis == "input" and one.factory is type(component))
    contents: dict[str, Any] = {"frames": noise(6), **FULL}
    del contents[missing]
    if missing in REGISTRY.get("input", name).needs:
        with pytest.raises(DataError, match="set/person/clip"):
            component.prepare(clip(**contents))
    else:
        assert np.isfinite(component.prepare(clip(**contents))).all()


@pytest.mark.parametrize("component", COMPONENTS)
def test_frames_of_different_sizes_are_refused(component: Input) -> None:
    frames = [*noise(5), *noise(1, 40)]
    with pytest.raises(DataError, match=r"set/person/clip.*one size"):
        component.prepare(clip(frames=frames, onset=1, apex=5, offset=5))


@pytest.mark.parametrize("component", [DynamicImage(), FrameSequence()])
def test_an_offset_before_the_onset_is_refused(component: Input) -> None:
    with pytest.raises(DataError, match=r"set/person/clip.*onset 4, offset 2"):
        component.prepare(clip(frames=noise(6), onset=4, offset=2))


@pytest.mark.parametrize("component", COMPONENTS)
def test_preparing_changes_no_frame(component: Input) -> None:
    frames = noise(6)
    component.prepare(clip(frames=frames, **FULL))
    assert np.array_equal(frames, noise(6))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("onset_apex", "image"), ("onset_apex_offset", "image"), ("dynamic_image", "image"), ("sequence", "video")],
)
def test_clips_become_images_or_videos(name: str, kind: str) -> None:
    assert REGISTRY.get("input", name).maps == {"clip": kind}
