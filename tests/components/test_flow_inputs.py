"""The further flow estimators, the quantities of flow maps and flow sequences, against synthetic truth."""

from __future__ import annotations

from itertools import product
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import mernas.components
from mernas.components.contracts import FlowEstimator
from mernas.components.datasets.clip import Clip
from mernas.components.datasets.synthetic import Synthetic
from mernas.components.inputs.dis import DenseInverseSearch
from mernas.components.inputs.farneback import Farneback
from mernas.components.inputs.flow_sequence import FlowSequence
from mernas.components.inputs.given_flow import GivenFlow
from mernas.components.inputs.optical_flow import OpticalFlow
from mernas.components.inputs.tvl1 import TotalVariation
from mernas.space.errors import DataError
from mernas.space.genotype import instantiate, parse_genotype
from mernas.space.registry import REGISTRY

Map = NDArray[np.float32]
NO_FACTS: frozenset[str] = frozenset()
TRUE: frozenset[str] = frozenset({"true flow"})

if REGISTRY.get("flow_estimator", "tvl1").missing:
    pytest.skip("scikit-image is not installed", allow_module_level=True)

ESTIMATORS: list[FlowEstimator] = [
    DenseInverseSearch(preset="ultrafast"),
    DenseInverseSearch(preset="fast"),
    DenseInverseSearch(preset="medium"),
    TotalVariation(),
]
BEST: list[FlowEstimator] = [DenseInverseSearch(), TotalVariation()]
INNER = (slice(16, -16), slice(16, -16))


def clip(**contents: Any) -> Clip:
    return Clip("set/person/clip", "set", "set/person", "fingerprint", **contents)


def pair(frames: Any, **moments: int) -> Clip:
    return clip(frames=frames, **({"onset": 0, "apex": 1} | moments))


def texture(x: Any, y: Any) -> NDArray[np.uint8]:
    """A smooth random texture that is known between pixels, too."""
    random = np.random.default_rng(11)
    total = np.zeros(np.broadcast(x, y).shape)
    for _ in range(40):
        angle, phase = random.uniform(0, 2 * np.pi, 2)
        total += np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / random.uniform(7, 30) + phase)
    return np.asarray(np.clip(128 + 12 * total, 0, 255).round(), dtype=np.uint8)


def grid(size: int) -> tuple[Any, Any]:
    y, x = np.mgrid[0:size, 0:size].astype(np.float64)
    return x, y


def moved(u: float, v: float, steps: int = 1, size: int = 64) -> NDArray[np.uint8]:
    """Return frames 0 to `steps`, each moved by (u, v) from the one before."""
    x, y = grid(size)
    return np.stack([texture(x - step * u, y - step * v) for step in range(steps + 1)])


def swirl(size: int = 96) -> tuple[NDArray[np.uint8], Map]:
    """Return two frames and the smooth flow that leads from the first to the second; known at every pixel."""
    x, y = grid(size)
    wave = 2 * np.pi / size
    u, v = 1.2 * np.sin(wave * y) * np.cos(wave * x), 0.9 * np.cos(wave * (x + y))
    # The second frame is what the texture shows; the first shows, at x, what the second shows at x + flow(x).
    return np.stack([texture(x + u, y + v), texture(x, y)]), np.stack([u, v]).astype(np.float32)


def given(flow: Map, strain: Map | None = None) -> Clip:
    deformation = np.zeros(flow.shape[1:], np.float32) if strain is None else strain
    return clip(given={"flow": flow.copy, "strain": deformation.copy})


def random_flow(seed: int = 0, size: int = 28) -> Map:
    return np.random.default_rng(seed).normal(size=(2, size, size)).astype(np.float32)


# The estimators


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("u", "v"), [(0.5, 0.0), (0.0, -0.7), (-1.3, 0.8)])
def test_a_known_shift_is_found_with_its_signs(estimator: FlowEstimator, u: float, v: float) -> None:
    flow = estimator.flow(pair(moved(u, v)))
    assert flow.shape == (2, 64, 64)
    assert flow.dtype == np.float32
    assert flow.flags["C_CONTIGUOUS"]
    assert np.median(flow[0][INNER]) == pytest.approx(u, abs=0.1)
    assert np.median(flow[1][INNER]) == pytest.approx(v, abs=0.1)
    assert np.abs(flow - np.array([u, v])[:, None, None])[:, *INNER].mean() < 0.12


@pytest.mark.parametrize("estimator", BEST)
def test_a_known_smooth_warp_is_found(estimator: FlowEstimator) -> None:
    frames, truth = swirl()
    error = np.hypot(*(estimator.flow(pair(frames)) - truth)[:, 8:-8, 8:-8])
    assert np.hypot(*truth).mean() > 0.7
    assert error.mean() < 0.16


@pytest.mark.parametrize("estimator", BEST)
def test_the_true_flow_of_synthetic_faces_is_found_roughly(estimator: FlowEstimator) -> None:
    error, largest = [], []
    inner = (slice(None), slice(8, -8), slice(8, -8))
    for shown in list(Synthetic(subjects=2, clips=2, intensity=0.03, noise=1.0).load()):
        truth: Map = shown.frames.true_flow(shown.onset, shown.apex)[inner]  # type: ignore[union-attr]
        error.append(np.hypot(*(estimator.flow(shown)[inner] - truth)).mean())
        largest.append(np.hypot(*truth).mean())
    assert np.mean(error) < 0.5 * np.mean(largest)


@pytest.mark.parametrize("estimator", BEST)
def test_strain_is_that_of_the_flow(estimator: FlowEstimator) -> None:
    x, y = (axis - 47.5 for axis in grid(96))
    rate = 0.03
    shown = pair(np.stack([texture(x, y), texture(x / (1 + rate), y / (1 + rate))]))
    strain = estimator.strain(shown, estimator.flow(shown))
    assert np.median(strain[INNER]) == pytest.approx(np.sqrt(2) * rate, rel=0.15)


@pytest.mark.parametrize("estimator", BEST)
def test_nothing_moves_in_a_still_clip(estimator: FlowEstimator) -> None:
    assert np.abs(estimator.flow(pair(moved(0, 0)))).max() < 1e-3


@pytest.mark.parametrize("estimator", BEST)
def test_the_flow_goes_from_the_onset_to_the_apex_and_looks_at_no_other_frame(estimator: FlowEstimator) -> None:
    onset, apex = moved(1.0, 0.0)
    noise = np.random.default_rng(0).integers(0, 256, onset.shape, dtype=np.uint8)
    flow = estimator.flow(clip(frames=[noise, onset, noise, apex, noise], onset=1, apex=3, offset=4))
    assert np.median(flow[0]) == pytest.approx(1.0, abs=0.1)
    assert np.array_equal(flow, estimator.flow(pair(np.stack([onset, apex]))))


@pytest.mark.parametrize("estimator", BEST)
def test_colour_frames_are_seen_as_grey(estimator: FlowEstimator) -> None:
    frames = moved(0.5, 0.5)
    colour = np.repeat(frames[..., np.newaxis], 3, axis=3)
    assert np.array_equal(estimator.flow(pair(colour)), estimator.flow(pair(frames)))


@pytest.mark.parametrize("estimator", BEST)
def test_the_same_bits_come_on_one_and_on_two_threads(estimator: FlowEstimator) -> None:
    before = cv2.getNumThreads()
    try:
        flows = []
        for threads in (1, 2):
            cv2.setNumThreads(threads)
            flows.append(estimator.flow(pair(moved(1.3, 0.6))))
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(flows[0], flows[1])


def test_finer_presets_are_more_precise_on_a_warp() -> None:
    frames, truth = swirl()
    errors = {
        preset: np.hypot(*(DenseInverseSearch(preset=preset).flow(pair(frames)) - truth)).mean()
        for preset in ("ultrafast", "fast", "medium")
    }
    assert errors["medium"] < errors["fast"] < errors["ultrafast"]


def test_less_attachment_gives_a_flow_that_varies_less() -> None:
    frames, _ = swirl(64)
    noisy = np.clip(frames + np.random.default_rng(0).normal(0, 8, frames.shape), 0, 255).astype(np.uint8)

    def variation(attachment: float) -> float:
        flow = TotalVariation(attachment=attachment).flow(pair(noisy))
        return float(np.abs(np.diff(flow, axis=1)).mean() + np.abs(np.diff(flow, axis=2)).mean())

    assert variation(3.0) < 0.8 * variation(15.0) < 0.8 * variation(60.0)


def test_more_warps_and_more_steps_find_a_larger_shift() -> None:
    def error(warps: int, iterations: int) -> float:
        flow = TotalVariation(warps=warps, iterations=iterations).flow(pair(moved(3.5, 0.0)))
        return float(np.abs(flow[0][INNER] - 3.5).mean())

    hasty = error(warps=1, iterations=5)
    assert hasty > 1
    assert error(warps=5, iterations=5) < hasty / 5
    assert error(warps=1, iterations=50) < hasty / 5


@pytest.mark.parametrize("estimator", BEST)
@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "no frames"),
        ({"frames": moved(0, 0), "onset": 0}, "apex"),
        ({"frames": moved(0, 0), "onset": 0, "apex": 2}, "frame 2 of 2"),
        ({"frames": [moved(0, 0)[0], moved(0, 0, size=40)[0]], "onset": 0, "apex": 1}, "one size"),
    ],
)
def test_an_estimator_names_the_clip_that_lacks_a_frame(
    estimator: FlowEstimator, contents: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        estimator.flow(clip(**contents))
    assert "set/person/clip" in str(caught.value)


def test_dis_names_the_clip_whose_frames_are_too_small_for_it() -> None:
    assert DenseInverseSearch().flow(pair(moved(0, 0, size=12))).shape == (2, 12, 12)
    with pytest.raises(DataError, match=r"set/person/clip.*12 pixels"):
        DenseInverseSearch().flow(pair(moved(0, 0, size=11)))


@pytest.mark.parametrize("name", ["farneback", "dis", "tvl1"])
def test_what_is_measured_on_frames_is_true_flow(name: str) -> None:
    declaration = REGISTRY.get("flow_estimator", name)
    assert declaration.provides == {"true flow"}
    assert declaration.factory.zero_is_known  # type: ignore[attr-defined]


def test_the_given_estimator_promises_no_true_flow() -> None:
    assert not REGISTRY.get("flow_estimator", "given").provides


# The quantities of a flow map


@pytest.mark.parametrize(
    ("quantities", "channels"),
    [
        ("u", ("u",)),
        ("v", ("v",)),
        ("magnitude", ("magnitude",)),
        ("magnitude+orientation", ("magnitude", "cosine", "sine")),
        ("u+v+magnitude", ("u", "v", "magnitude")),
    ],
)
def test_the_map_holds_the_chosen_quantities_by_their_definitions(quantities: str, channels: tuple[str, ...]) -> None:
    u, v = flow = random_flow()
    expected = {
        "u": u,
        "v": v,
        "magnitude": np.sqrt(u**2 + v**2),
        "cosine": u / np.sqrt(u**2 + v**2 + 0.01),
        "sine": v / np.sqrt(u**2 + v**2 + 0.01),
    }
    component = OpticalFlow(estimator=GivenFlow(), quantities=quantities)
    assert component.channels == channels
    assert component.shape == (len(channels), 28, 28)
    maps = component.prepare(given(flow))
    assert maps.shape == component.shape
    assert maps.dtype == np.float32
    assert maps.flags["C_CONTIGUOUS"]
    assert np.allclose(maps, np.stack([expected[name] for name in channels]), atol=1e-6)


@pytest.mark.parametrize("degrees", range(0, 360, 30))
def test_an_orientation_points_where_the_flow_points(degrees: int) -> None:
    angle = np.deg2rad(degrees)
    flow = np.empty((2, 28, 28), np.float32)
    flow[0], flow[1] = 3 * np.cos(angle), 3 * np.sin(angle)
    maps = OpticalFlow(estimator=GivenFlow(), quantities="magnitude+orientation").prepare(given(flow))
    assert np.allclose(maps[0], 3, atol=1e-5)
    assert np.allclose(maps[1:], np.array([np.cos(angle), np.sin(angle)])[:, None, None], atol=1e-3)


def test_an_orientation_changes_little_where_the_flow_changes_little() -> None:
    # Along a line through the point where nothing moves the direction turns back at once; its encoding does not jump.
    flow = np.zeros((2, 28, 28), np.float32)
    flow[0] = np.linspace(-0.2, 0.2, 28)
    maps = OpticalFlow(estimator=GivenFlow(), quantities="magnitude+orientation").prepare(given(flow))
    step = 0.4 / 27
    assert np.abs(np.diff(maps[1:], axis=2)).max() <= step / 0.1 + 1e-6
    still = OpticalFlow(estimator=GivenFlow(), quantities="magnitude+orientation").prepare(given(0 * flow))
    assert not still.any()


def test_magnitude_and_orientation_are_those_of_the_resized_and_centred_vectors() -> None:
    flow = random_flow(1, 56) + np.array([2, -1], np.float32)[:, None, None]
    halved = flow.reshape(2, 28, 2, 28, 2).mean(axis=(2, 4))
    u, v = halved - np.median(halved, axis=(1, 2), keepdims=True)
    component = OpticalFlow(estimator=GivenFlow(), quantities="magnitude+orientation", centre="median")
    maps = component.prepare(given(flow))
    assert np.allclose(maps[0], np.hypot(u, v), atol=1e-5)
    assert np.allclose(maps[1], u / np.sqrt(u**2 + v**2 + 0.01), atol=1e-5)


TURNED_LEFT = np.array([[0, 1], [-1, 0]])  # what pointed right now points up: (u, v) becomes (v, -u), y downwards


def rotated(maps: Map, channels: tuple[str, ...]) -> Map:
    """Turn a map by a quarter to the left, with (u, v) along; the other channels keep their values."""
    turned = np.rot90(maps, axes=(1, 2)).copy()
    if {"u", "v"} <= set(channels):
        turned[:2] = np.einsum("ij,jhw->ihw", TURNED_LEFT, turned[:2])
    return turned


def mirrored(maps: Map, channels: tuple[str, ...]) -> Map:
    """Mirror a map left and right with u negated; the other channels keep their values."""
    sign = np.array([-1.0 if name == "u" else 1.0 for name in channels], np.float32)
    return maps[:, :, ::-1] * sign[:, None, None]


QUANTITIES = ["u+v", "u+v+strain", "strain", "u", "v", "magnitude", "magnitude+orientation", "u+v+magnitude"]


@pytest.mark.parametrize("quantities", QUANTITIES)
@pytest.mark.parametrize("centre", ["none", "median"])
def test_a_map_of_true_flow_says_it_can_be_turned_or_mirrored_exactly_if_that_gives_the_map_of_the_turned_clip(
    quantities: str, centre: str
) -> None:
    flow, strain = random_flow(2), np.abs(random_flow(3))[0]
    component = OpticalFlow(estimator=GivenFlow(), quantities=quantities, centre=centre)
    names, maps = component.channels, component.prepare(given(flow, strain))
    in_a_mirror = component.prepare(given(mirrored(flow, ("u", "v")), strain[:, ::-1]))
    turned = component.prepare(given(rotated(flow, ("u", "v")), np.rot90(strain)))
    provided = component.provides(TRUE)
    assert "pixels" in provided
    assert "brightness" not in provided
    assert ("mirrorable maps" in provided) == np.allclose(mirrored(maps, names), in_a_mirror, atol=1e-5)
    assert ("turnable maps" in provided) == np.allclose(rotated(maps, names), turned, atol=1e-5)


@pytest.mark.parametrize("quantities", QUANTITIES)
def test_flow_measured_on_frames_can_do_what_true_flow_can(quantities: str) -> None:
    measured = OpticalFlow(estimator=DenseInverseSearch(), quantities=quantities).provides(NO_FACTS)
    assert measured == OpticalFlow(estimator=GivenFlow(), quantities=quantities).provides(TRUE)


@pytest.mark.parametrize(("quantities", "centre"), list(product(QUANTITIES, ["none", "median"])))
def test_only_a_strain_of_stretched_flow_can_be_turned(quantities: str, centre: str) -> None:
    component = OpticalFlow(estimator=GivenFlow(), quantities=quantities, centre=centre)
    assert ("turnable maps" in component.provides(NO_FACTS)) == (quantities == "strain")


def test_a_single_component_that_is_not_u_can_be_mirrored_even_if_stretched() -> None:
    assert "mirrorable maps" in OpticalFlow(estimator=GivenFlow(), quantities="v").provides(NO_FACTS)
    assert "mirrorable maps" not in OpticalFlow(estimator=GivenFlow(), quantities="u").provides(NO_FACTS)


def test_magnitude_and_orientation_need_true_flow() -> None:
    needs = REGISTRY.get("input", "optical_flow").parameters["quantities"].needs
    needy = {quantities for quantities in QUANTITIES if "true flow" in needs.get(quantities, frozenset())}
    assert needy == {"magnitude", "magnitude+orientation", "u+v+magnitude"}


# Flow sequences


def test_a_flow_sequence_measures_from_the_onset_to_each_later_moment() -> None:
    shown = clip(frames=moved(0.25, -0.15, steps=9), onset=1, offset=9)
    video = FlowSequence(frames=4, quantities="u+v", size=28).prepare(shown)
    assert video.shape == (2, 4, 28, 28)
    found = np.median(video[:, :, 6:-6, 6:-6], axis=(2, 3))
    steps = np.array([2, 4, 6, 8])
    assert np.allclose(found, np.stack([0.25 * steps, -0.15 * steps]), atol=0.12)


@pytest.mark.parametrize("estimator", ["farneback", "dis"])
@pytest.mark.parametrize("centre", ["none", "median"])
@pytest.mark.parametrize("quantities", ["u+v", "u+v+strain", "gray+u+v+strain"])
def test_every_frame_is_the_flow_map_with_that_frame_as_the_apex(estimator: str, centre: str, quantities: str) -> None:
    frames = moved(0.3, 0.2, steps=4, size=40)
    component = FlowSequence(estimator=estimator, frames=4, quantities=quantities, centre=centre, size=28)
    video = component.prepare(clip(frames=frames, onset=0, offset=4))
    assert component.channels == tuple(quantities.split("+"))
    assert video.shape == component.shape == (len(component.channels), 4, 28, 28)
    measure: FlowEstimator = {"farneback": Farneback(), "dis": DenseInverseSearch()}[estimator]  # type: ignore[assignment]
    motion = quantities.removeprefix("gray+")
    for step in range(1, 5):
        expected = OpticalFlow(estimator=measure, quantities=motion, centre=centre, size=28).prepare(
            pair(frames, apex=step)
        )
        assert np.array_equal(video[-len(expected) :, step - 1], expected)
        if "gray" in quantities:
            grey = cv2.resize(frames[step].astype(np.float32) / 255, (28, 28), interpolation=cv2.INTER_AREA)
            assert np.allclose(video[0, step - 1], grey, atol=1e-6)


def test_a_clip_shorter_than_the_sequence_repeats_its_frames() -> None:
    video = FlowSequence(frames=4, quantities="u+v").prepare(clip(frames=moved(1.0, 0.0, steps=2), onset=0, offset=2))
    # 0.5, 1, 1.5 and 2 frames after the onset, halves up.
    assert np.array_equal(video[:, 0], video[:, 1])
    assert np.array_equal(video[:, 2], video[:, 3])
    assert np.median(video[0, 0]) == pytest.approx(1, abs=0.1)
    assert np.median(video[0, 3]) == pytest.approx(2, abs=0.1)


def test_nothing_moves_in_a_sequence_of_a_single_frame() -> None:
    shown = clip(frames=moved(0, 0)[:1], onset=0, offset=0)
    assert np.abs(FlowSequence(estimator="dis", frames=4).prepare(shown)).max() < 1e-5
    assert np.abs(FlowSequence(frames=4).prepare(shown)).max() < 0.05  # Farneback's borders are not quite still


def test_a_flow_sequence_needs_no_apex_and_leaves_the_clip_alone() -> None:
    shown = clip(frames=moved(0.5, 0, steps=4), onset=0, offset=4)
    FlowSequence(frames=4).prepare(shown)
    assert shown.apex is None
    declaration = REGISTRY.get("input", "flow_sequence")
    assert declaration.needs == {"frames", "onset", "offset"}
    assert declaration.maps == {"clip": "video"}


def test_flow_sequences_can_be_mirrored_and_turned_but_not_made_brighter() -> None:
    for quantities in ("u+v", "u+v+strain", "gray+u+v+strain"):
        provided = FlowSequence(quantities=quantities).provides(NO_FACTS)
        assert provided == {"pixels", "mirrorable maps", "turnable maps"}


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({}, "no frames"),
        ({"frames": moved(0, 0), "onset": 0}, "offset"),
        ({"frames": moved(0, 0), "offset": 1}, "onset"),
        ({"frames": moved(0, 0), "onset": 1, "offset": 0}, "onset 1, offset 0"),
        ({"frames": [moved(0, 0)[0], moved(0, 0, size=40)[0]], "onset": 0, "offset": 1}, "one size"),
    ],
)
def test_a_flow_sequence_names_the_clip_that_lacks_a_frame(contents: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        FlowSequence(frames=4).prepare(clip(**contents))
    assert "set/person/clip" in str(caught.value)


def test_a_genotype_builds_the_flow_that_it_names() -> None:
    assert mernas.components is not None
    text = """
    streams:
      - input: {optical_flow: {estimator: {tvl1: {attachment: 30, iterations: 20}}, quantities: u+v, size: 60}}
      - input: {optical_flow: {estimator: {dis: {preset: fast}}, quantities: u, size: 224}}
    classifier: majority
    """
    found = [instantiate(stream["input"]) for stream in parse_genotype(text).streams]
    assert OpticalFlow(estimator=DenseInverseSearch(preset="fast"), quantities="u", size=224) in found
    tvl1 = TotalVariation(attachment=30.0, iterations=20)
    assert OpticalFlow(estimator=tvl1, quantities="u+v", size=60) in found
