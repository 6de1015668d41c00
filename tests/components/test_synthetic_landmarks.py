"""Landmarks of the synthetic faces: in the order of iBUG 300-W, on what is drawn, and moved as the frames are."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip, Dataset
from mernas.components.datasets.synthetic import Synthetic
from mernas.components.datasets.synthetic_face import draw_face
from mernas.components.datasets.synthetic_frames import SyntheticFrames
from mernas.components.datasets.synthetic_landmarks import SyntheticLandmarks, painted
from mernas.components.datasets.synthetic_muscles import PULLS, Activity, field_of, scaled
from mernas.components.datasets.synthetic_time import Head, Pose, Swing, Timeline

# Which landmark of the scheme is the mirror image of which, written out by hand.
MIRROR = [
    *range(16, -1, -1),
    *(26, 25, 24, 23, 22, 21, 20, 19, 18, 17),
    *(27, 28, 29, 30, 35, 34, 33, 32, 31),
    *(45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40),
    *(54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55),
    *(64, 63, 62, 61, 60, 67, 66, 65),
]
CLEAN = Synthetic(subjects=4, clips=3, noise=0.0, light_drift=0.0, macro_subjects=4, macro_clips=3)


def micro_and_macro(settings: Synthetic) -> tuple[Dataset, Dataset]:
    data = settings.load()
    assert data.source is not None
    return data, data.source


def moments(clip: Clip) -> tuple[SyntheticFrames, int, int, NDArray[np.float32], NDArray[np.float32]]:
    """Frames, onset, apex, and the landmarks at either."""
    assert isinstance(clip.frames, SyntheticFrames)
    assert clip.landmarks is not None
    assert clip.onset is not None
    assert clip.apex is not None
    return clip.frames, clip.onset, clip.apex, clip.landmarks[clip.onset], clip.landmarks[clip.apex]


def inside(points: NDArray[np.float32], size: int, margin: float) -> NDArray[np.bool_]:
    return np.all((points > margin) & (points < size - 1 - margin), axis=1)


def lookup(image: NDArray[np.generic], points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Values of an image between its pixels."""
    x, y = points.astype(np.float32).T
    return cv2.remap(image.astype(np.float32), x[None], y[None], cv2.INTER_LINEAR)[0]


def still(person: int, size: int = 64, strength: float = 0.06) -> SyntheticFrames:
    """Frames without resting expression, head motion or noise, all action units acting alike on both sides."""
    face = draw_face(np.random.default_rng(person))
    none = Swing(0.0, 1.0, 0.0)
    everything = field_of(face, dict.fromkeys(PULLS, Activity(1.0, 1.0)))
    return SyntheticFrames(
        face=face,
        skin_seed=(person,),
        resting=scaled(everything, 0.0),
        expression=scaled(everything, strength),
        timeline=Timeline(onset=1, apex=3, offset=5, length=7),
        head=Head(Pose(0.0, 0.0, 0.0, 1.0), none, none, none),
        light=(0.0, 0.0),
        drift=(none, none),
        noise=0.0,
        noise_seed=(0,),
        size=size,
        fps=25.0,
    )


@pytest.mark.parametrize("person", range(20))
def test_they_are_in_the_order_of_ibug_300_w(person: int) -> None:
    points = painted(draw_face(np.random.default_rng(person)))
    x, y = points.T
    assert points.shape == (68, 2)
    assert np.all(np.diff(x[1:16]) > 0)  # the jaw from left to right; it may be widest below the ears
    assert np.all(np.diff(y[:9]) > 0)  # down to the chin, the lowest of all
    assert np.all(np.diff(y[8:17]) < 0)
    assert y.argmax() == 8
    assert np.all(np.diff(x[17:27]) > 0)  # the brows from left to right, the gap between 21 and 22
    assert x[21] < 0 < x[22]
    assert np.all(np.diff(y[27:31]) > 0)  # down the bridge of the nose
    assert np.all(x[27:31] == 0)
    assert np.all(np.diff(x[31:36]) > 0)  # the nostrils from left to right, the middle one lowest
    assert y[31:36].argmax() == 2
    for first in (36, 42):  # round the eye, clockwise as one looks at the image, from its left corner
        eye = points[first : first + 6]
        assert np.all(np.diff(eye[:4, 0]) > 0)
        assert eye[5, 0] < eye[4, 0]
        assert eye[1:3, 1].max() < eye[[0, 3], 1].min() <= eye[[0, 3], 1].max() < eye[4:, 1].min()
    for lip, half in ((points[48:60], 6), (points[60:68], 4)):  # likewise round the mouth
        assert np.all(np.diff(lip[: half + 1, 0]) > 0)
        assert np.all(np.diff(lip[half:, 0]) < 0)
        assert np.all(lip[1:half, 1] < lip[:half:-1, 1])  # each above the one below it
    assert y[17:27].max() < y[36:48].min() < y[36:48].max() < y[31:36].min() < y[31:36].max() < y[48:].min()
    assert y[48:68].max() < y[8]
    outer, inner = points[48:60].astype(np.float32), points[60:68].astype(np.float32)
    assert all(cv2.pointPolygonTest(outer, (float(px), float(py)), measureDist=True) > 0 for px, py in inner)


@pytest.mark.parametrize("person", range(5))
def test_a_face_at_rest_and_a_symmetric_expression_are_mirror_symmetric(person: int) -> None:
    frames = still(person)
    for frame in (frames.timeline.onset, frames.timeline.apex):
        points = SyntheticLandmarks(frames)[frame]
        mirrored = points[MIRROR] * (-1, 1) + (frames.size - 1, 0)  # the middles of the outer pixels are 0 and size - 1
        assert np.abs(points - mirrored).max() < 1e-4
    moved = np.hypot(*(SyntheticLandmarks(frames)[3] - SyntheticLandmarks(frames)[1]).T)
    assert moved.max() > 1


@pytest.mark.parametrize("size", [48, 64, 128])
def test_true_flow_takes_them_from_the_onset_to_the_apex(size: int) -> None:
    for data in micro_and_macro(replace(CLEAN, size=size)):
        largest = 0.0
        for clip in data:
            frames, onset, apex, before, after = moments(clip)
            flow = frames.true_flow(onset, apex)
            known = inside(before, size, 0)  # there is no flow beyond the frame
            assert known.sum() > 55
            found = before + np.stack([lookup(part, before) for part in flow], axis=1)
            # What remains is linear interpolation in the flow, whose steepest places bend within a pixel.
            assert np.abs(found - after)[known].max() < 1e-3 * size
            largest = max(largest, float(np.hypot(*(after - before).T).max()))
        assert largest > 0.012 * size  # twelve times the tolerance


def test_a_tracker_that_sees_only_the_frames_finds_them_again() -> None:
    size = 128
    _, source = micro_and_macro(replace(CLEAN, size=size))
    errors, moved = [], []
    for clip in source:
        frames, onset, apex, before, after = moments(clip)
        steady = inside(before, size, 8) & inside(after, size, 8)
        start = before[steady][:, None]
        found, status, _ = cv2.calcOpticalFlowPyrLK(
            frames[onset], frames[apex], start, start.copy(), winSize=(13, 13), maxLevel=3
        )
        assert status.all()
        errors.append(found[:, 0] - after[steady])
        moved.append(before[steady] - after[steady])
    error, distance = np.concatenate(errors), np.hypot(*np.concatenate(moved).T)
    assert np.median(distance) > 1.5
    assert np.median(np.hypot(*error.T)) < 0.25
    assert np.abs(error.mean(axis=0)).max() < 0.03  # nothing systematic, such as half a pixel


def test_they_stay_on_the_drawn_mouth_at_the_onset_and_at_the_apex() -> None:
    size = 128
    _, source = micro_and_macro(replace(CLEAN, size=size))
    offsets, displaced = [], []
    for clip in source:
        frames, onset, apex, *both = moments(clip)
        for frame, points in zip((onset, apex), both, strict=True):
            seam = (points[[61, 62, 63]] + points[[67, 66, 65]]) / 2  # on the dark line between the lips
            offsets += _to_darkest(frames[frame], seam, 5)
            # The line ends at the corners of the mouth: inside it is dark, outside is skin.
            for corner, inner in ((48, seam[0]), (54, seam[2])):
                along = points[corner] - inner
                steps = points[corner] + np.array([[-0.4], [0.4]]) * along
                dark, bright = lookup(frames[frame], steps)
                assert dark < bright
        displaced += np.abs((both[1] - both[0])[[62, 66], 1]).tolist()
    assert np.mean(displaced) > 0.8
    assert np.mean(np.abs(offsets)) < 0.3
    assert abs(np.mean(offsets)) < 0.1
    assert np.max(np.abs(offsets)) < 1


def _to_darkest(image: NDArray[np.uint8], points: NDArray[np.float32], reach: int) -> list[float]:
    """How far below each point its column is darkest, in pixels."""
    steps = np.linspace(-reach, reach, 20 * reach + 1)
    return [float(steps[lookup(image, point + np.outer(steps, (0, 1))).argmin()]) for point in points]


def test_landmarks_in_pixels_scale_with_the_size_from_the_corner_of_the_frame() -> None:
    small, large = (replace(CLEAN, size=size).load() for size in (48, 96))
    for one, other in zip(small, large, strict=True):
        assert one.landmarks is not None
        assert other.landmarks is not None
        # Pixel middles are whole numbers, so the corner of the frame is at (-0.5, -0.5).
        assert np.abs((one.landmarks[3] + 0.5) * 2 - (other.landmarks[3] + 0.5)).max() < 1e-4


def test_there_are_as_many_as_frames_and_none_beyond() -> None:
    for data in micro_and_macro(CLEAN):
        for clip in data:
            assert clip.landmarks is not None
            assert clip.frames is not None
            assert len(clip.landmarks) == len(clip.frames)
            assert clip.landmarks[len(clip.landmarks) - 1].dtype == np.float32
            for frame in (-1, len(clip.landmarks)):
                with pytest.raises(IndexError, match=str(frame)):
                    clip.landmarks[frame]
