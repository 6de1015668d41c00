"""Hand-crafted features against scikit-image, loops written out, and cases whose answer is known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.inputs.bi_woof import BiWoof
from mernas.components.inputs.farneback import Farneback
from mernas.components.inputs.lbp_top import LbpTop
from mernas.components.inputs.strain import optical_strain
from mernas.space.errors import DataError
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import FRAMES, OFFSET, ONSET, TRUE_FLOW

Array = NDArray[Any]


def clip(frames: Array | None, onset: int | None = 0, offset: int | None = None, **contents: Any) -> Clip:
    if offset is None and frames is not None:
        offset = len(frames) - 1
    return Clip("set/p/c", "set", "set/p", "print", frames=frames, onset=onset, offset=offset, **contents)


def noise(*shape: int, seed: int = 0, high: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, high, shape, np.uint8)


# LBP-TOP


@pytest.mark.parametrize(("radius", "neighbours"), [(1, 8), (2, 8), (3, 4), (1, 4), (4, 8)])
def test_patterns_in_the_three_planes_are_those_of_scikit_image(radius: int, neighbours: int) -> None:
    feature = pytest.importorskip("skimage.feature")
    frames = noise(11, 28, 28)
    inner = slice(radius, -radius)
    # Every plane as a stack of pictures, of which the border pictures are left out: rows y, t, t and columns x, x, y.
    stacks = {"XY": frames, "XT": frames.transpose(1, 0, 2), "YT": frames.transpose(2, 0, 1)}
    bins = 2**neighbours
    found = LbpTop(size=28, neighbours=neighbours, radius=radius, frame_radius=radius, uniform=False, grid=1).prepare(
        clip(frames)
    )
    for number, stack in enumerate(stacks.values()):
        pictures = stack[inner]
        codes = [feature.local_binary_pattern(one, neighbours, radius)[inner, inner] for one in pictures]
        counts = np.bincount(np.concatenate(codes).astype(int).ravel(), minlength=bins)
        np.testing.assert_allclose(found[number * bins : (number + 1) * bins], counts / counts.sum(), atol=1e-7)


@pytest.mark.parametrize(("neighbours", "bins"), [(8, 59), (4, 15)])
def test_uniform_patterns_are_grouped_as_by_scikit_image(neighbours: int, bins: int) -> None:
    feature = pytest.importorskip("skimage.feature")
    frames = noise(3, 112, 112, seed=1)
    found = LbpTop(size=112, neighbours=neighbours, radius=1, frame_radius=1, grid=1).prepare(clip(frames))[:bins]
    labels = feature.local_binary_pattern(frames[1], neighbours, 1, method="nri_uniform")[1:-1, 1:-1].astype(int)
    shares = np.bincount(labels.ravel(), minlength=bins) / labels.size
    assert found[-1] == pytest.approx(shares[-1], abs=1e-7)  # the bin of all patterns with many changes
    np.testing.assert_allclose(np.sort(found), np.sort(shares), atol=1e-7)  # the order of the others differs


def changes(code: int, neighbours: int) -> int:
    bits = [(code >> bit) & 1 for bit in range(neighbours)]
    return sum(bits[bit] != bits[bit - 1] for bit in range(neighbours))


def naive(frames: Array, neighbours: int, radius: int, frame_radius: int, grid: int) -> list[float]:
    """Uniform LBP-TOP, pixel by pixel."""
    count, side = frames.shape[:2]
    grey = frames.astype(float)
    uniform = [code for code in range(2**neighbours) if changes(code, neighbours) <= 2]
    room = side - 2 * radius

    def value(t: float, y: float, x: float) -> float:
        total = 0.0
        for dt, dy, dx in product((0, 1), repeat=3):
            place = math.floor(t) + dt, math.floor(y) + dy, math.floor(x) + dx
            share = math.prod(1 - abs(at - near) for at, near in zip((t, y, x), place, strict=True))
            total += share * grey[place] if share > 1e-9 else 0.0
        return total

    vector: list[float] = []
    for block_row, block_column in product(range(grid), repeat=2):
        rows = range(radius + block_row * room // grid, radius + (block_row + 1) * room // grid)
        columns = range(radius + block_column * room // grid, radius + (block_column + 1) * room // grid)
        for plane in ("XY", "XT", "YT"):
            histogram = [0] * (len(uniform) + 1)
            for t, y, x in product(range(frame_radius, count - frame_radius), rows, columns):
                code = 0
                for bit in range(neighbours):
                    right, up = (round(f(2 * math.pi * bit / neighbours), 9) for f in (math.cos, math.sin))
                    ahead = {
                        "XY": (t, y - radius * up, x + radius * right),
                        "XT": (t - frame_radius * up, y, x + radius * right),
                        "YT": (t - frame_radius * up, y + radius * right, x),
                    }[plane]
                    code += (value(*ahead) >= grey[t, y, x] - 1e-9) << bit
                histogram[uniform.index(code) if code in uniform else -1] += 1
            vector += [share / sum(histogram) for share in histogram]
    return vector


@pytest.mark.parametrize(
    ("neighbours", "radius", "frame_radius", "grid"), [(8, 1, 2, 2), (8, 2, 1, 1), (4, 2, 3, 2), (8, 1, 1, 4)]
)
def test_lbp_top_is_what_three_loops_find(neighbours: int, radius: int, frame_radius: int, grid: int) -> None:
    frames = noise(7, 9, 9, seed=2)
    found = LbpTop(size=9, neighbours=neighbours, radius=radius, frame_radius=frame_radius, grid=grid)
    expected = naive(frames, neighbours, radius, frame_radius, grid)
    assert found.shape == (len(expected),)
    np.testing.assert_allclose(found.prepare(clip(frames)), expected, atol=1e-7)


@pytest.mark.parametrize(
    ("neighbours", "uniform", "bins"), [(8, True, 59), (8, False, 256), (4, True, 15), (4, False, 16)]
)
@pytest.mark.parametrize("grid", [1, 5, 8])
def test_every_block_has_three_histograms_that_sum_to_one(neighbours: int, uniform: bool, bins: int, grid: int) -> None:
    lbp = LbpTop(size=28, neighbours=neighbours, radius=4, frame_radius=1, uniform=uniform, grid=grid)
    vector = lbp.prepare(clip(noise(3, 40, 36)))
    assert lbp.shape == vector.shape == (grid * grid * 3 * bins,)
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector.reshape(-1, bins).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("grey", [0, 77, 131, 255])
def test_neighbours_of_equal_grey_count_as_not_below(grey: int) -> None:
    frames = np.full((5, 28, 28), grey, np.uint8)
    histograms = LbpTop(size=28, uniform=False, grid=1).prepare(clip(frames)).reshape(3, 256)
    assert np.array_equal(histograms[:, 255], [1, 1, 1])


def test_a_still_clip_never_falls_below_itself_along_time() -> None:
    frames = np.repeat(noise(1, 28, 28), 5, axis=0)
    _, xt, yt = LbpTop(size=28, uniform=False, grid=1, neighbours=4).prepare(clip(frames)).reshape(3, 16)
    upwards_and_downwards = 0b1010  # bits 1 and 3: the frames before and after
    for histogram in (xt, yt):
        assert all(
            share == 0 for code, share in enumerate(histogram) if code & upwards_and_downwards != upwards_and_downwards
        )


def test_the_brightness_of_the_room_does_not_matter() -> None:
    frames = noise(6, 28, 28, high=200)
    lbp = LbpTop(size=28, grid=2)
    assert np.array_equal(lbp.prepare(clip(frames + np.uint8(50))), lbp.prepare(clip(frames)))


def test_the_order_of_the_frames_matters_to_the_planes_of_time_alone() -> None:
    frames = noise(7, 28, 28)
    frames[2:5] = frames[[3, 2, 4]]
    lbp = LbpTop(size=28, grid=1, frame_radius=2)
    shuffled = clip(frames[[0, 1, 3, 2, 4, 5, 6]])
    there, here = lbp.prepare(clip(frames)).reshape(3, -1), lbp.prepare(shuffled).reshape(3, -1)
    np.testing.assert_allclose(there[0], here[0], atol=1e-7)
    assert np.abs(there[1:] - here[1:]).max(axis=1).min() > 1e-3


def test_only_the_frames_from_onset_to_offset_are_looked_at() -> None:
    frames = noise(12, 28, 28)
    lbp = LbpTop(size=28, grid=2)
    assert np.array_equal(lbp.prepare(clip(frames, 3, 9)), lbp.prepare(clip(frames[3:10])))


def test_colours_count_by_their_grey_value() -> None:
    colours = noise(5, 28, 28, 3)
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in colours])
    lbp = LbpTop(size=28, grid=1)
    assert np.array_equal(lbp.prepare(clip(colours)), lbp.prepare(clip(grey)))


@pytest.mark.parametrize("frame_radius", [1, 2, 4])
def test_too_few_frames_for_the_radius_are_refused_by_name(frame_radius: int) -> None:
    lbp = LbpTop(size=28, frame_radius=frame_radius)
    enough = 2 * frame_radius + 1
    assert np.isfinite(lbp.prepare(clip(noise(enough, 28, 28)))).all()
    with pytest.raises(DataError, match=f"set/p/c: .* needs {enough} frames.*found {enough - 1}"):
        lbp.prepare(clip(noise(enough - 1, 28, 28)))


@pytest.mark.parametrize(
    "broken", [clip(None, 0, 3), clip(noise(9, 28, 28), None), clip(noise(9, 28, 28), 0, 9), clip(noise(9, 9, 9), 5, 4)]
)
def test_lbp_top_without_its_frames_is_refused(broken: Clip) -> None:
    with pytest.raises(DataError, match="from onset to offset"):
        LbpTop(size=28).prepare(broken)


def test_lbp_top_needs_frames_from_onset_to_offset_and_no_apex() -> None:
    assert REGISTRY.get("input", "lbp_top").needs == {FRAMES, ONSET, OFFSET}
    assert LbpTop().provides(frozenset({FRAMES})) == set()


# Bi-WOOF


@dataclass(frozen=True, eq=False)
class KnownFlow:
    """A flow estimator that has been told."""

    zero_is_known: ClassVar[bool] = True
    field: NDArray[np.float32]

    def flow(self, clip: Clip) -> NDArray[np.float32]:
        return self.field

    def strain(self, clip: Clip, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        return optical_strain(flow)


STILL = clip(None)


def random_flow(height: int = 23, width: int = 17, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(2, height, width)).astype(np.float32)


@pytest.mark.parametrize("weighting", ["both", "local", "global"])
@pytest.mark.parametrize(("bins", "grid"), [(8, 5), (4, 1), (9, 8), (16, 17)])
def test_bi_woof_is_what_loops_over_blocks_and_pixels_find(weighting: str, bins: int, grid: int) -> None:
    flow = random_flow()
    strain, expected = optical_strain(flow), []
    for row, column in product(range(grid), repeat=2):
        histogram, strains = [0.0] * bins, []
        for y in range(row * 23 // grid, (row + 1) * 23 // grid):
            for x in range(column * 17 // grid, (column + 1) * 17 // grid):
                u, v = map(float, flow[:, y, x])
                sector = int((math.atan2(v, u) + math.pi) // (2 * math.pi / bins))
                histogram[sector] += 1.0 if weighting == "global" else math.sqrt(u * u + v * v)
                strains.append(float(strain[y, x]))
        weight = 1.0 if weighting == "local" else sum(strains) / len(strains)
        expected += [weight * value / len(strains) for value in histogram]
    woof = BiWoof(estimator=KnownFlow(flow), weighting=weighting, bins=bins, grid=grid)
    found = woof.prepare(STILL)
    assert found.shape == woof.shape == (len(expected),)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("sector", range(8))
def test_a_motion_of_one_direction_fills_one_sector_with_its_magnitude(sector: int) -> None:
    angle = -math.pi + (sector + 0.5) * math.pi / 4
    field = np.empty((2, 12, 12), np.float32)
    field[0], field[1] = 2.5 * math.cos(angle), 2.5 * math.sin(angle)
    histograms = BiWoof(estimator=KnownFlow(field), weighting="local", grid=3).prepare(STILL).reshape(9, 8)
    np.testing.assert_allclose(histograms, np.tile(2.5 * np.eye(8)[sector], (9, 1)), atol=1e-6)


def test_a_face_that_is_only_carried_along_has_no_strain_and_weighs_nothing() -> None:
    field = np.full((2, 12, 12), 1.5, np.float32)
    assert not BiWoof(estimator=KnownFlow(field), weighting="both", grid=3).prepare(STILL).any()
    assert BiWoof(estimator=KnownFlow(field), weighting="local", grid=3).prepare(STILL).any()


@pytest.mark.parametrize("weighting", ["both", "local", "global"])
def test_a_face_that_does_not_move_gives_zeros(weighting: str) -> None:
    still = KnownFlow(np.zeros((2, 12, 12), np.float32))
    assert np.array_equal(BiWoof(estimator=still, weighting=weighting, grid=3).prepare(STILL), np.zeros(72))


def test_where_nothing_moves_no_direction_is_counted() -> None:
    field = np.zeros((2, 8, 8), np.float32)
    field[:, 2, 5] = (1, 1)
    vector = BiWoof(estimator=KnownFlow(field), weighting="global", grid=1).prepare(STILL)
    assert np.count_nonzero(vector) == 1


@settings(max_examples=20, deadline=None)
@given(steps=st.integers(-8, 8), seed=st.integers(0, 100))
def test_turning_every_vector_by_a_sector_moves_the_bins_by_one(steps: int, seed: int) -> None:
    flow = random_flow(seed=seed).astype(np.float64)
    angle = steps * math.pi / 4
    turned = np.stack(
        [
            math.cos(angle) * flow[0] - math.sin(angle) * flow[1],
            math.sin(angle) * flow[0] + math.cos(angle) * flow[1],
        ]
    ).astype(np.float32)
    before = BiWoof(estimator=KnownFlow(flow.astype(np.float32)), weighting="local", grid=3).prepare(STILL)
    after = BiWoof(estimator=KnownFlow(turned), weighting="local", grid=3).prepare(STILL)
    np.testing.assert_allclose(after.reshape(9, 8), np.roll(before.reshape(9, 8), steps, axis=1), atol=1e-5)


def test_centring_takes_out_the_motion_of_the_head() -> None:
    flow, head = random_flow(), np.array([0.5, -2.0], np.float32)[:, None, None]
    centred = [BiWoof(estimator=KnownFlow(field), centre="median").prepare(STILL) for field in (flow, flow + head)]
    as_is = [BiWoof(estimator=KnownFlow(field)).prepare(STILL) for field in (flow, flow + head)]
    np.testing.assert_allclose(centred[0], centred[1], atol=1e-5)
    assert np.abs(as_is[0] - as_is[1]).max() > 0.1


def test_a_grid_finer_than_the_flow_is_refused_by_name() -> None:
    with pytest.raises(DataError, match=r"grid of 8.*found 9x7"):
        BiWoof(estimator=KnownFlow(random_flow(9, 7)), grid=8).prepare(STILL)


def test_bi_woof_of_a_clip_is_that_of_its_estimated_flow() -> None:
    frames = cv2.GaussianBlur(noise(1, 64, 64)[0], (0, 0), 2)
    shown = clip(np.stack([frames, np.roll(frames, 1, axis=1)]), apex=1)
    flow = Farneback().flow(shown)
    found = BiWoof(estimator=Farneback(), grid=4).prepare(shown)
    assert np.array_equal(found, BiWoof(estimator=KnownFlow(flow), grid=4).prepare(STILL))
    assert found.any()


def test_bi_woof_needs_true_flow_whatever_its_weighting_and_names_its_estimator_first() -> None:
    declaration = REGISTRY.get("input", "bi_woof")
    assert list(declaration.parameters)[:2] == ["estimator", "weighting"]
    assert declaration.parameters["weighting"].needs == {
        weighting: {TRUE_FLOW} for weighting in ("both", "local", "global")
    }
    assert declaration.needs == set()
