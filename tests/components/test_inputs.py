"""Strain, flow estimators and input maps, against closed forms and synthetic truth."""

from __future__ import annotations

from itertools import product
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mernas.components.contracts import FlowEstimator, Input
from mernas.components.datasets.clip import Clip
from mernas.components.inputs.apex_frame import ApexFrame, resized
from mernas.components.inputs.farneback import Farneback
from mernas.components.inputs.given_flow import GivenFlow
from mernas.components.inputs.optical_flow import OpticalFlow
from mernas.components.inputs.strain import optical_strain
from mernas.space.errors import DataError
from mernas.space.genotype import instantiate, parse_genotype

Field = NDArray[np.float32]


def grid(height: int, width: int) -> tuple[Any, Any]:
    """Return x and y of every pixel."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    return x, y


SIGN = np.array([-1, 1], dtype=np.float32)[:, None, None]  # u turns in a mirror, v does not


def field(u: Any, v: Any) -> Field:
    return np.stack(np.broadcast_arrays(u, v)).astype(np.float32)


def clip(**contents: Any) -> Clip:
    return Clip("set/person/clip", "set", "set/person", "fingerprint", **contents)


def given_clip(flow: Field, strain: Field) -> Clip:
    return clip(given={"flow": flow.copy, "strain": strain.copy})


def random_given(height: int = 28, width: int = 28, seed: int = 0) -> Clip:
    random = np.random.default_rng(seed)
    return given_clip(
        random.normal(size=(2, height, width)).astype(np.float32), random.random((height, width)).astype(np.float32)
    )


def texture(x: Any, y: Any) -> NDArray[np.uint8]:
    """A smooth random texture that is known between pixels, too."""
    random = np.random.default_rng(7)
    total = 0
    for _ in range(40):
        angle, wavelength, phase = random.uniform(0, 2 * np.pi, 3) * (1, 0, 1) + (0, random.uniform(7, 30), 0)
        total = total + np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / wavelength + phase)
    return np.asarray(np.clip(128 + 12 * np.asarray(total), 0, 255).round(), dtype=np.uint8)


def moved_pair(u: float, v: float, size: int = 96) -> NDArray[np.uint8]:
    x, y = grid(size, size)
    return np.stack([texture(x, y), texture(x - u, y - v)])


# Strain


def test_strain_of_a_translation_is_zero() -> None:
    assert not optical_strain(field(np.full((9, 7), 2.5), np.full((9, 7), -1.0))).any()


def test_strain_of_a_pure_rotation_is_zero() -> None:
    x, y = grid(12, 9)
    assert np.abs(optical_strain(field(-0.3 * (y - 4), 0.3 * (x - 5)))).max() < 1e-6


def test_strain_of_a_uniform_stretch_is_the_norm_of_its_rates() -> None:
    x, y = grid(8, 11)
    assert np.allclose(optical_strain(field(0.3 * x, -0.4 * y)), 0.5, atol=1e-6)


def test_strain_of_a_simple_shear_is_its_rate_over_root_two() -> None:
    x, y = grid(8, 11)
    assert np.allclose(optical_strain(field(0.2 * y, 0)), 0.2 / np.sqrt(2), atol=1e-6)
    assert np.allclose(optical_strain(field(0, 0.2 * x)), 0.2 / np.sqrt(2), atol=1e-6)


def test_strain_is_the_frobenius_norm_of_the_symmetric_gradient_by_central_differences() -> None:
    flow = np.random.default_rng(1).normal(size=(2, 6, 8)).astype(np.float32)

    def difference(plane: Field, row: int, column: int, down: int, right: int) -> float:
        height, width = plane.shape
        ahead = min(row + down, height - 1), min(column + right, width - 1)
        behind = max(row - down, 0), max(column - right, 0)
        return float(plane[ahead] - plane[behind]) / float(ahead[0] - behind[0] + ahead[1] - behind[1])

    for row, column in product(range(6), range(8)):
        gradient = np.array([[difference(plane, row, column, *step) for step in ((0, 1), (1, 0))] for plane in flow])
        expected = np.linalg.norm((gradient + gradient.T) / 2)
        assert optical_strain(flow)[row, column] == pytest.approx(expected, rel=1e-5)


def test_strain_is_the_same_in_a_mirror() -> None:
    flow = np.random.default_rng(2).normal(size=(2, 10, 9)).astype(np.float32)
    mirrored = flow[:, :, ::-1] * SIGN
    assert np.allclose(optical_strain(mirrored), optical_strain(flow)[:, ::-1])


# Farneback

INNER = (slice(16, -16), slice(16, -16))


@pytest.mark.parametrize(("u", "v"), [(0.4, 0.0), (0.0, -0.7), (1.3, 0.6), (-2.5, 1.5)])
def test_farneback_finds_a_known_shift_below_a_pixel(u: float, v: float) -> None:
    flow = Farneback().flow(clip(frames=moved_pair(u, v), onset=0, apex=1))
    assert flow.shape == (2, 96, 96)
    assert flow.dtype == np.float32
    assert np.abs(flow[0][INNER] - u).max() < 0.1
    assert np.abs(flow[1][INNER] - v).max() < 0.1


def test_farneback_finds_a_known_zoom_and_its_strain() -> None:
    x, y = grid(96, 96)
    centre, rate = 47.5, 0.04
    apex = texture((x - centre) / (1 + rate) + centre, (y - centre) / (1 + rate) + centre)
    shown = clip(frames=np.stack([texture(x, y), apex]), onset=0, apex=1)
    flow = Farneback(window=15).flow(shown)
    for plane, truth in zip(flow, (rate * (x - centre), rate * (y - centre)), strict=True):
        assert np.abs(truth)[INNER].max() > 1.2
        assert np.abs(plane - truth)[INNER].mean() < 0.05
        assert np.abs(plane - truth)[INNER].max() < 0.25
    assert np.median(Farneback().strain(shown, flow)[INNER]) == pytest.approx(np.sqrt(2) * rate, rel=0.1)


def test_farneback_in_a_mirror_negates_u_and_mirrors_the_map() -> None:
    frames = moved_pair(1.2, -0.8)
    flow = Farneback().flow(clip(frames=frames, onset=0, apex=1))
    mirrored = Farneback().flow(clip(frames=frames[:, :, ::-1], onset=0, apex=1))
    assert np.abs(flow[0]).mean() > 1
    assert np.abs(mirrored[0] + flow[0][:, ::-1])[INNER].max() < 0.02
    assert np.abs(mirrored[1] - flow[1][:, ::-1])[INNER].max() < 0.02


def test_farneback_goes_from_the_onset_to_the_apex_and_looks_at_no_other_frame() -> None:
    onset, apex = moved_pair(1.0, 0.0)
    noise = np.random.default_rng(0).integers(0, 256, onset.shape, dtype=np.uint8)
    flow = Farneback().flow(clip(frames=[noise, onset, noise, apex, noise], onset=1, apex=3, offset=4))
    assert np.median(flow[0]) == pytest.approx(1.0, abs=0.1)


def test_farneback_sees_colour_frames_as_grey() -> None:
    frames = moved_pair(0.5, 0.5)
    colour = np.repeat(frames[..., np.newaxis], 3, axis=3)
    grey = Farneback().flow(clip(frames=frames, onset=0, apex=1))
    assert np.array_equal(Farneback().flow(clip(frames=colour, onset=0, apex=1)), grey)


def test_farneback_gives_the_same_bits_on_one_and_on_two_threads() -> None:
    before = cv2.getNumThreads()
    try:
        flows = []
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            flows.append(Farneback().flow(clip(frames=moved_pair(1.3, 0.6), onset=0, apex=1)))
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(flows[0], flows[1])


def test_the_window_and_the_levels_of_farneback_matter() -> None:
    def error(u: float, window: int, levels: int) -> float:
        shown = clip(frames=moved_pair(u, 0.0, 160), onset=0, apex=1)
        return float(np.abs(Farneback(window=window, levels=levels).flow(shown)[0][INNER] - u).mean())

    assert error(2.5, window=21, levels=1) < 0.5 * error(2.5, window=9, levels=1)
    assert error(9.0, window=9, levels=2) < 0.5 * error(9.0, window=9, levels=1)


@pytest.mark.parametrize("estimator", [Farneback(), GivenFlow()])
def test_an_estimator_fits_its_protocol(estimator: FlowEstimator) -> None:
    frames = clip(
        frames=moved_pair(0.5, 0.5, 28),
        onset=0,
        apex=1,
        given={"flow": lambda: np.ones((2, 28, 28), np.float32), "strain": lambda: np.ones((28, 28), np.float32)},
    )
    flow = estimator.flow(frames)
    strain = estimator.strain(frames, flow)
    assert flow.shape == (2, 28, 28)
    assert strain.shape == (28, 28)
    assert flow.dtype == strain.dtype == np.float32


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "no frames"),
        ({"frames": moved_pair(0, 0, 32), "onset": 0}, "apex"),
        ({"frames": moved_pair(0, 0, 32), "apex": 0}, "onset"),
        ({"frames": moved_pair(0, 0, 32), "onset": 0, "apex": 2}, "frame 2 of 2"),
        ({"frames": moved_pair(0, 0, 32), "onset": -1, "apex": 1}, "frame -1 of 2"),
        ({"frames": [moved_pair(0, 0, 32)[0], moved_pair(0, 0, 40)[0]], "onset": 0, "apex": 1}, "one size"),
    ],
)
def test_farneback_names_the_clip_that_lacks_a_frame(contents: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        Farneback().flow(clip(**contents))
    assert "set/person/clip" in str(caught.value)


# The maps that a release ships


def test_the_given_estimator_takes_the_maps_as_they_are() -> None:
    shown = random_given()
    assert np.array_equal(GivenFlow().flow(shown), shown.given["flow"]())
    assert np.array_equal(GivenFlow().strain(shown, np.zeros((2, 28, 28), np.float32)), shown.given["strain"]())


def test_the_given_estimator_names_the_clip_that_lacks_a_map() -> None:
    with pytest.raises(DataError, match=r"set/person/clip.*flow"):
        GivenFlow().flow(clip(frames=moved_pair(0, 0, 32)))
    with pytest.raises(DataError, match="strain"):
        GivenFlow().strain(clip(given={"flow": lambda: np.zeros((2, 4, 4))}), np.zeros((2, 4, 4), np.float32))


# Resizing


def overlap(new: int, old: int) -> NDArray[np.float64]:
    """Return the shares (new, old) that old pixels have in the area of new ones."""
    edges = np.arange(new + 1) * old / new
    share = np.minimum(edges[1:, None], np.arange(1, old + 1)) - np.maximum(edges[:-1, None], np.arange(old))
    return np.asarray(np.maximum(share, 0) * new / old)


@pytest.mark.parametrize(("height", "width"), [(56, 56), (42, 40), (100, 33), (28, 77)])
def test_shrinking_averages_over_areas(height: int, width: int) -> None:
    maps = np.random.default_rng(3).normal(size=(2, height, width)).astype(np.float32)
    expected = overlap(28, height) @ maps.astype(np.float64) @ overlap(28, width).T
    assert np.allclose(resized(maps, 28), expected, atol=1e-5)


def test_growing_interpolates_linearly() -> None:
    maps = np.random.default_rng(4).normal(size=(2, 20, 17)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], size=(28, 28), mode="bilinear")[0]
    assert np.allclose(resized(maps, 28), expected.numpy(), atol=1e-5)


def test_a_side_that_shrinks_is_averaged_even_if_the_other_grows() -> None:
    stripes = np.tile(np.array([0, 1, 0, 1], np.float32), (1, 20, 28))  # 20 x 112, finer than 28 columns can show
    assert np.allclose(resized(stripes, 28), 0.5)


def test_equal_size_copies_and_leaves_the_original_alone() -> None:
    maps = np.random.default_rng(5).normal(size=(3, 28, 28)).astype(np.float32)
    result = resized(maps, 28)
    assert np.array_equal(result, maps)
    assert not np.shares_memory(result, maps)


# The input


@pytest.mark.parametrize(
    ("quantities", "channels"), [("u+v", ("u", "v")), ("u+v+strain", ("u", "v", "strain")), ("strain", ("strain",))]
)
def test_the_map_holds_the_chosen_quantities_in_order(quantities: str, channels: tuple[str, ...]) -> None:
    shown = random_given()
    planes = dict(zip(("u", "v", "strain"), (*shown.given["flow"](), shown.given["strain"]()), strict=True))
    component = OpticalFlow(estimator=GivenFlow(), quantities=quantities)
    assert component.channels == channels
    assert np.array_equal(component.prepare(shown), np.stack([planes[name] for name in channels]))


def test_resizing_leaves_vectors_in_pixels_of_the_given_frames() -> None:
    shown = given_clip(field(np.full((70, 56), 2.5), np.full((70, 56), -1.0)), np.full((70, 56), 0.25, np.float32))
    for size in (14, 28, 112):
        maps = OpticalFlow(estimator=GivenFlow(), size=size).prepare(shown)
        assert np.allclose(maps, np.array([2.5, -1.0, 0.25])[:, None, None])


def test_strain_is_computed_before_the_map_shrinks() -> None:
    x, y = grid(112, 112)
    shown = clip(frames=np.stack([texture(x, y), texture(x / 1.05, y / 1.05)]), onset=0, apex=1)
    flow = Farneback().flow(shown)
    expected = optical_strain(flow).reshape(28, 4, 28, 4).mean(axis=(1, 3))
    assert np.allclose(OpticalFlow(estimator=Farneback()).prepare(shown)[2], expected, atol=1e-5)


def test_centring_makes_the_median_of_every_channel_zero_after_resizing() -> None:
    maps = OpticalFlow(estimator=GivenFlow(), centre="median", size=14).prepare(random_given(30, 40))
    plain = OpticalFlow(estimator=GivenFlow(), size=14).prepare(random_given(30, 40))
    assert np.abs(np.median(maps, axis=(1, 2))).max() < 1e-6
    assert np.median(plain[2]) > 0.4
    assert np.allclose(np.ptp(plain - maps, axis=(1, 2)), 0, atol=1e-6)


def stretched(flow: Field) -> Field:
    """Stretch every channel to 0..255 by itself, as the release does."""
    low, high = flow.min(axis=(1, 2), keepdims=True), flow.max(axis=(1, 2), keepdims=True)
    return np.asarray((flow - low) / (high - low) * 255, dtype=np.float32)


def test_only_centring_lets_stretched_flow_be_mirrored() -> None:
    flow = np.random.default_rng(6).gamma(1, size=(2, 28, 28)).astype(np.float32)
    strain = np.zeros((28, 28), np.float32)
    seen = given_clip(stretched(flow), strain)
    seen_in_a_mirror = given_clip(stretched(SIGN * flow[:, :, ::-1]), strain)
    for centre, alike in (("median", True), ("none", False)):
        component = OpticalFlow(estimator=GivenFlow(), quantities="u+v", centre=centre)
        mirrored = SIGN * component.prepare(seen)[:, :, ::-1]
        assert np.allclose(mirrored, component.prepare(seen_in_a_mirror), atol=1e-3) == alike


@pytest.mark.parametrize(
    ("estimator", "quantities", "centre", "facts", "mirrorable"),
    [
        (Farneback(), "u+v+strain", "none", {"frames"}, True),
        (GivenFlow(), "u+v+strain", "none", {"given flow"}, False),
        (GivenFlow(), "u+v", "none", {"given flow"}, False),
        (GivenFlow(), "u+v+strain", "median", {"given flow"}, True),
        (GivenFlow(), "u+v", "none", {"given flow", "true flow"}, True),
        (GivenFlow(), "strain", "none", {"given flow"}, True),
    ],
)
def test_flow_is_mirrorable_only_where_its_zero_is_known(
    estimator: Any, quantities: str, centre: str, facts: set[str], mirrorable: bool
) -> None:
    component = OpticalFlow(estimator=estimator, quantities=quantities, centre=centre)
    assert ("mirrorable maps" in component.provides(frozenset(facts))) == mirrorable


def test_preparing_changes_nothing_in_the_clip() -> None:
    flow, strain = np.ones((2, 28, 28), np.float32), np.ones((28, 28), np.float32)
    flow[:, :3] = 5
    shown = clip(given={"flow": lambda: flow, "strain": lambda: strain})
    OpticalFlow(estimator=GivenFlow(), centre="median").prepare(shown)
    assert flow.sum() == 2 * (3 * 28 * 5 + 25 * 28)
    assert strain.sum() == 28 * 28


def test_the_apex_frame_is_grey_by_the_weights_of_itu_r_601() -> None:
    for colour, weight in zip(np.eye(3), (0.299, 0.587, 0.114), strict=True):
        frame = np.tile((255 * colour).astype(np.uint8), (40, 30, 1))
        maps = ApexFrame().prepare(clip(frames=[frame * 0, frame], onset=0, apex=1))
        assert np.abs(maps - weight).max() < 1 / 255


def test_the_apex_frame_is_shrunk_by_areas_and_scaled_to_one() -> None:
    frame = np.random.default_rng(8).integers(0, 256, (56, 56), dtype=np.uint8)
    maps = ApexFrame(size=28).prepare(clip(frames=frame[np.newaxis], apex=0))
    assert np.allclose(maps[0], frame.reshape(28, 2, 28, 2).mean(axis=(1, 3)) / 255, atol=1e-6)


def test_a_mirrored_apex_frame_gives_the_mirrored_map() -> None:
    frame = np.random.default_rng(9).integers(0, 256, (1, 90, 77, 3), dtype=np.uint8)
    assert "mirrorable maps" in ApexFrame().provides(frozenset())
    plain = ApexFrame().prepare(clip(frames=frame, apex=0))
    mirrored = ApexFrame().prepare(clip(frames=frame[:, :, ::-1], apex=0))
    assert np.allclose(mirrored, plain[:, :, ::-1], atol=1e-6)


def test_the_apex_frame_can_be_turned_and_made_brighter() -> None:
    assert ApexFrame().provides(frozenset()) >= {"pixels", "turnable maps", "brightness"}


def test_the_apex_frame_names_the_clip_that_lacks_it() -> None:
    with pytest.raises(DataError, match=r"set/person/clip.*apex"):
        ApexFrame().prepare(clip(frames=moved_pair(0, 0, 32)))


@pytest.mark.parametrize(
    "component",
    [
        ApexFrame(size=20),
        OpticalFlow(estimator=Farneback(), size=20),
        OpticalFlow(estimator=Farneback(), quantities="strain", centre="median", size=50),
    ],
)
def test_every_map_has_the_declared_shape_and_is_contiguous_float32(component: Input) -> None:
    maps = component.prepare(clip(frames=moved_pair(0.5, 0.5, 45)[:, :, :31], onset=0, apex=1))
    assert maps.shape == component.shape == (len(component.channels), *component.shape[1:])
    assert maps.dtype == np.float32
    assert maps.flags["C_CONTIGUOUS"]
    assert np.isfinite(maps).all()


def test_a_genotype_builds_the_input_that_it_names() -> None:
    text = """
    streams:
      - input: {optical_flow: {estimator: given, quantities: u+v, centre: median, size: 14}}
    classifier: majority
    """
    stream = instantiate(parse_genotype(text).streams[0])
    assert stream.input == OpticalFlow(estimator=GivenFlow(), quantities="u+v", centre="median", size=14)


def test_a_genotype_may_leave_out_all_that_is_default() -> None:
    stream = instantiate(parse_genotype("{streams: [{input: optical_flow}], classifier: majority}").streams[0])
    assert stream.input == OpticalFlow(estimator=Farneback(window=15, levels=3), quantities="u+v+strain", size=28)
