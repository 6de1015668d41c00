"""Resampling in time, against the temporal interpolation model as its paper derives it, and against np.interp."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mernas.components.contracts import Preprocessing
from mernas.components.datasets.clip import Clip
from mernas.components.preprocessing.frame_rate import FrameRate
from mernas.components.preprocessing.linear_interpolation import LinearInterpolation
from mernas.components.preprocessing.temporal_interpolation import TemporalInterpolation, weights
from mernas.space.errors import DataError

Array = NDArray[np.float64]


def clip(frames: Any, **contents: Any) -> Clip:
    return Clip("set/person/clip", "set", "set/person", "fingerprint", frames=frames, **contents)


def smooth_frames(count: int, shape: tuple[int, ...] = (6, 5, 3), seed: int = 0) -> NDArray[np.uint8]:
    """Frames that are linearly independent, and change slowly."""
    random = np.random.default_rng(seed)
    time = np.linspace(0, 1, count).reshape(count, *[1] * len(shape))
    total = sum(random.uniform(-1, 1, shape) * 30 / order * np.cos(np.pi * order * time) for order in range(1, 6))
    return np.clip(np.rint(128 + total + random.uniform(-3, 3, (count, *shape))), 0, 255).astype(np.uint8)


def model_of_the_paper(frames: Array, times: Array) -> Array:
    """TIM of frames (n, pixels), whose rows are linearly independent, at times in [1/n, 1].

    By the route of the paper: singular vectors of the centred frames as a basis, eigenvectors of the Laplacian of the
    path graph by a numerical solver, and from these to the basis by least squares.
    """
    count = len(frames)
    graph = np.diag(np.ones(count - 1), 1) + np.diag(np.ones(count - 1), -1)
    _, vectors = np.linalg.eigh(np.diag(graph.sum(axis=0)) - graph)
    embedding = vectors[:, 1:]  # without the constant one
    mean = frames.mean(axis=0)
    basis, singular, right = np.linalg.svd((frames - mean).T, full_matrices=False)
    basis, coordinates = basis[:, : count - 1], singular[: count - 1, None] * right[: count - 1]
    mapping, *_ = np.linalg.lstsq(embedding, coordinates.T, rcond=None)
    # The eigenvectors between the nodes: the sines, with the size and sign that the solver gave them.
    order = np.arange(1, count)
    sines = np.sin(np.pi * times[:, None] * order + np.pi * (count - order) / (2 * count))
    ends = np.sin(np.pi / count * order + np.pi * (count - order) / (2 * count))  # at the first node
    curve = sines * (embedding[0] / ends)
    return np.asarray(curve @ mapping @ basis.T + mean)


@pytest.mark.parametrize(("count", "frames"), [(2, 5), (5, 10), (9, 4), (12, 12), (20, 33)])
def test_tim_is_the_model_of_the_paper(count: int, frames: int) -> None:
    old = smooth_frames(count)
    expected = model_of_the_paper(old.reshape(count, -1).astype(np.float64), np.linspace(1 / count, 1, frames))
    new = TemporalInterpolation(frames=frames).apply(clip(old, onset=0, apex=1, offset=count - 1))
    seen = np.stack([new.frames[number] for number in range(frames)]).reshape(frames, -1)
    assert np.abs(seen - np.clip(expected, 0, 255)).max() <= 0.501  # bytes are rounded
    assert len(new.frames) == frames


def test_sines_are_eigenvectors_of_the_laplacian_of_the_path() -> None:
    # So that the test above rests on the formula of the paper at the nodes, too.
    count = 7
    graph = np.diag(np.ones(count - 1), 1) + np.diag(np.ones(count - 1), -1)
    laplacian = np.diag(graph.sum(axis=0)) - graph
    for order in range(1, count):
        sine = np.sin(np.pi * order * np.arange(1, count + 1) / count + np.pi * (count - order) / (2 * count))
        np.testing.assert_allclose(laplacian @ sine, (2 - 2 * np.cos(np.pi * order / count)) * sine, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40))
def test_tim_of_as_many_frames_gives_them_back_exactly_even_if_they_repeat(count: int) -> None:
    old = np.random.default_rng(count).integers(0, 256, (count, 4, 4), dtype=np.uint8)
    old[1] = old[0]  # not linearly independent
    new = TemporalInterpolation(frames=count).apply(clip(old, onset=0, apex=0, offset=count - 1))
    np.testing.assert_array_equal([new.frames[number] for number in range(count)], old)


def test_tim_passes_through_the_old_frames_where_it_meets_them() -> None:
    old = smooth_frames(6)
    new = TemporalInterpolation(frames=16).apply(clip(old, onset=0, apex=2, offset=5))
    np.testing.assert_array_equal([new.frames[number] for number in range(0, 16, 3)], old)


def test_tim_of_a_ramp_rises_evenly_but_for_its_ends() -> None:
    # The curve has no slope at its ends, half a frame beyond the first and the last node; inside it is nearly straight.
    count, frames = 20, 77
    positions = np.linspace(0, count - 1, frames)
    values = weights(count, frames) @ np.arange(count)
    assert (np.diff(values) > 0).all()
    inside = (positions > 3) & (positions < count - 4)
    assert np.abs(values - positions)[inside].max() < 0.02
    assert np.abs(values - positions).max() < 0.12
    np.testing.assert_allclose(values + values[::-1], count - 1, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 50), st.integers(2, 50))
def test_tim_of_still_frames_is_still(count: int, frames: int) -> None:
    np.testing.assert_allclose(weights(count, frames).sum(axis=1), 1, atol=1e-9)


@pytest.mark.parametrize("step", [TemporalInterpolation(frames=9), LinearInterpolation(frames=9)])
def test_moments_rate_and_landmarks_go_with_the_frames_from_onset_to_offset(step: Preprocessing) -> None:
    old = smooth_frames(12)
    walk = np.linspace(10, 32, 12, dtype=np.float32)[:, None, None] * np.ones((12, 68, 2), np.float32)
    new = step.apply(clip(old, onset=4, apex=6, offset=8, fps=30.0, landmarks=walk))
    assert (new.onset, new.apex, new.offset, new.fps) == (0, 4, 8, 60.0)
    for number in range(0, 9, 2):
        np.testing.assert_array_equal(new.frames[number], old[4 + number // 2])
        np.testing.assert_allclose(new.landmarks[number], walk[4 + number // 2], atol=1e-4)
    assert walk[4, 0, 0] < new.landmarks[1][0, 0] < walk[5, 0, 0]


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(2, 40), st.integers(0, 5))
def test_linear_interpolation_is_that_of_numpy(count: int, frames: int, onset: int) -> None:
    old = np.random.default_rng(count).integers(0, 256, (onset + count + 3, 2, 3), dtype=np.uint8)
    new = LinearInterpolation(frames=frames).apply(clip(old, onset=onset, offset=onset + count - 1))
    positions = onset + np.arange(frames) * (count - 1) / (frames - 1)
    for row in range(2):
        for column in range(3):
            expected = np.interp(positions, np.arange(len(old)), old[:, row, column].astype(np.float64))
            seen = [int(new.frames[number][row, column]) for number in range(frames)]
            assert np.abs(np.array(seen) - expected).max() <= 0.501


@settings(max_examples=50, deadline=None)
@given(
    st.integers(1, 40),
    st.sampled_from([25.0, 29.97, 30.0, 60.0, 100.0, 200.0]),
    st.sampled_from([10, 25, 30, 50, 100, 200, 333]),
    st.data(),
)
def test_frame_rate_shows_at_every_second_what_was_there(count: int, rate: float, fps: int, data: Any) -> None:
    onset = data.draw(st.integers(0, count - 1))
    apex = data.draw(st.integers(onset, count - 1))
    old = np.random.default_rng(count).integers(0, 256, (count, 1, 1), dtype=np.uint8)
    new = FrameRate(fps=fps).apply(clip(old, onset=onset, apex=apex, fps=rate))
    assert new.fps == fps
    assert new.frames[new.onset][0, 0] == old[onset, 0, 0]
    seconds = onset / rate + (np.arange(len(new.frames)) - new.onset) / fps
    assert seconds[0] > -1e-6  # nothing before or after what was filmed …
    assert seconds[-1] < (count - 1) / rate + 1e-6
    assert seconds[0] - 1 / fps < 1e-6  # … and all of that
    assert seconds[-1] + 1 / fps > (count - 1) / rate - 1e-6
    expected = np.interp(seconds, np.arange(count) / rate, old[:, 0, 0].astype(np.float64))
    seen = np.array([float(new.frames[number][0, 0]) for number in range(len(new.frames))])
    assert np.abs(seen - expected).max() <= 0.51
    if apex > onset and len(new.frames) > new.onset + 1:
        assert new.apex > new.onset
        assert abs(seconds[new.apex] - apex / rate) <= max(0.5 / fps, abs(seconds[new.onset + 1] - apex / rate)) + 1e-6
    elif apex == onset:
        assert new.apex == new.onset


def test_an_apex_soon_after_the_onset_does_not_fall_onto_it() -> None:
    old = smooth_frames(40)
    new = FrameRate(fps=25).apply(clip(old, onset=8, apex=10, offset=39, fps=200.0))
    assert (new.onset, new.apex) == (1, 2)
    assert TemporalInterpolation(frames=3).apply(clip(old, onset=0, apex=2, offset=39)).apex == 1


def test_frame_rate_without_moments_starts_at_the_first_frame() -> None:
    new = FrameRate(fps=50).apply(clip(smooth_frames(5), fps=100.0))
    assert len(new.frames) == 3
    assert (new.onset, new.apex, new.offset, new.landmarks) == (None, None, None, None)


@pytest.mark.parametrize("rate", [None, 0.0, float("nan")])
def test_an_unknown_frame_rate_is_refused_with_a_remedy(rate: float | None) -> None:
    with pytest.raises(DataError, match=r"frames per second.*linear_interpolation or tim"):
        FrameRate(fps=50).apply(clip(smooth_frames(5), fps=rate))


def test_a_frame_rate_far_too_slow_is_refused_instead_of_filling_memory() -> None:
    with pytest.raises(DataError, match=r"at least 1 frame per second.*found 1e-09"):
        FrameRate(fps=50).apply(clip(smooth_frames(5), fps=1e-9))


@pytest.mark.parametrize("step", [TemporalInterpolation(), LinearInterpolation()])
@pytest.mark.parametrize(("onset", "offset"), [(None, 3), (1, None), (2, 2), (3, 1), (0, 5)])
def test_a_clip_without_an_offset_after_its_onset_is_refused(
    step: Preprocessing, onset: int | None, offset: int | None
) -> None:
    with pytest.raises(DataError, match="must have an onset and, after it, an offset"):
        step.apply(clip(smooth_frames(5), onset=onset, offset=offset))
