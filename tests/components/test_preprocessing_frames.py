"""Steps that change frames one by one in space: `resize` and `crop`; laziness, and what is left alone."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mernas.components.contracts import Preprocessing
from mernas.components.datasets.clip import Clip
from mernas.components.preprocessing.eye_mouth import EyeMouth
from mernas.components.preprocessing.face_crop import FaceCrop
from mernas.components.preprocessing.frame_rate import FrameRate
from mernas.components.preprocessing.linear_interpolation import LinearInterpolation
from mernas.components.preprocessing.magnify import Magnify
from mernas.components.preprocessing.mapped_frames import Sampling, places
from mernas.components.preprocessing.mask_eyes import MaskEyes
from mernas.components.preprocessing.region_grid import RegionGrid
from mernas.components.preprocessing.registration import Register
from mernas.components.preprocessing.resize import Resize
from mernas.components.preprocessing.temporal_interpolation import TemporalInterpolation
from mernas.space.errors import DataError
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import CLIP

Points = NDArray[np.float32]

RANDOM = np.random.default_rng(3)

# Brows, eyes, nose, mouth and jaw where a face of 100 pixels has them, a little disturbed.
ROWS = np.repeat([50.0, 32, 50, 42, 70], [17, 10, 9, 12, 20]) + RANDOM.uniform(-2, 2, 68)
FACE = np.stack([RANDOM.uniform(40, 60, 68), ROWS], axis=1).astype(np.float32)
FACE[[36, 39, 42, 45]] = [[30, 42], [43, 43], [57, 42], [70, 41]]
FACE[31:36] = [[44, 58], [47, 59], [50, 60], [53, 59], [56, 58]]
FACE[8] = [50, 92]


def clip(frames: Any, **contents: Any) -> Clip:
    return Clip("set/person/clip", "set", "set/person", "fingerprint", frames=frames, **contents)


def face_clip(count: int = 4, colour: bool = True) -> Clip:
    frames = RANDOM.integers(0, 256, (count, 110, 100, 3) if colour else (count, 110, 100), dtype=np.uint8)
    landmarks = FACE + np.arange(count, dtype=np.float32)[:, None, None] * np.float32(0.5)
    return clip(frames, onset=0, apex=count // 2, offset=count - 1, fps=50.0, landmarks=landmarks)


STEPS: tuple[Preprocessing, ...] = (
    Resize(size=40),
    FaceCrop(),
    Register(size=60),
    Register(size=60, model="affine"),
    TemporalInterpolation(frames=6),
    LinearInterpolation(frames=6),
    FrameRate(fps=80),
    Magnify(),
    RegionGrid(size=60),
    EyeMouth(size=50),
    MaskEyes(cheeks=True),
)


def test_a_square_of_four_pixels_becomes_their_mean() -> None:
    frames = RANDOM.integers(0, 256, (2, 28, 28, 3), dtype=np.uint8)
    means = frames.reshape(2, 14, 2, 14, 2, 3).mean(axis=(2, 4))
    resized = Resize(size=14).apply(clip(frames))
    for number in range(2):
        assert np.abs(resized.frames[number] - means[number]).max() <= 0.501
        assert resized.frames[number].dtype == np.uint8


def test_a_ramp_that_grows_stays_a_ramp_and_a_marked_pixel_stays_under_its_landmark() -> None:
    x = np.arange(20)
    frames = np.broadcast_to((10 * x).astype(np.uint8), (1, 30, 20))
    marks = np.tile(np.float32([[7, 11], [12.5, 3.25]]), (34, 1))
    resized = Resize(size=90).apply(clip(frames, landmarks=marks[None]))
    for point, moved in zip(marks[:2], resized.landmarks[0][:2], strict=True):
        column = int(np.floor(moved[0]))
        left, right = (float(resized.frames[0][45, column + step]) for step in (0, 1))
        value = left + (moved[0] - column) * (right - left)  # what the new frame shows under the landmark
        assert value == pytest.approx(10 * point[0], abs=1)


@settings(max_examples=25, deadline=None)
@given(st.integers(14, 80), st.integers(10, 60), st.integers(10, 60), st.booleans())
def test_corners_of_the_frame_are_corners_after_resizing(size: int, height: int, width: int, colour: bool) -> None:
    frames = np.zeros((1, height, width, 3) if colour else (1, height, width), np.uint8)
    corners = np.tile(np.float32([[-0.5, -0.5], [width - 0.5, height - 0.5]]), (34, 1))
    resized = Resize(size=size).apply(clip(frames, landmarks=corners[None]))
    assert resized.frames[0].shape == (size, size, 3)[: frames.ndim - 1]
    np.testing.assert_allclose(resized.landmarks[0][:2], [[-0.5, -0.5], [size - 0.5, size - 0.5]], atol=1e-4)


def boxed(low: tuple[float, float], high: tuple[float, float], count: int = 1) -> Points:
    points = RANDOM.uniform(low, high, (count, 68, 2)).astype(np.float32)
    points[:, 0], points[:, 1] = low, high
    return points


@pytest.mark.parametrize(("square", "shape", "corner"), [(False, (43, 29), (16, 14)), (True, (43, 43), (9, 14))])
def test_crop_cuts_the_box_of_the_onset_frame_from_every_frame(
    square: bool, shape: tuple[int, int], corner: tuple[int, int]
) -> None:
    # A box of 20 x 30 pixels, with a fifth of its sides around: 28 x 42, and both ends are pixels.
    landmarks = boxed((20, 20), (40, 50), 3)
    landmarks[1:] += 7  # the face moves; the box must not
    frames = RANDOM.integers(0, 256, (3, 80, 70), dtype=np.uint8)
    face = FaceCrop(margin=0.2, square=square).apply(clip(frames, onset=0, landmarks=landmarks))
    left, top = corner
    for number in range(3):
        np.testing.assert_array_equal(face.frames[number], frames[number, top : top + shape[0], left : left + shape[1]])
        np.testing.assert_allclose(face.landmarks[number], landmarks[number] - corner, atol=1e-5)


def test_a_crop_beyond_the_frame_repeats_its_border() -> None:
    frames = RANDOM.integers(0, 256, (1, 30, 30, 3), dtype=np.uint8)
    face = FaceCrop(margin=0.5, square=False).apply(clip(frames, onset=0, landmarks=boxed((4, 10), (24, 28))))
    padded = np.pad(frames[0], ((20, 20), (20, 20), (0, 0)), mode="edge")
    np.testing.assert_array_equal(face.frames[0], padded[20 + 1 : 20 + 38, 20 - 6 : 20 + 35])


def test_crop_goes_by_the_onset_frame_and_not_by_the_first() -> None:
    landmarks = np.concatenate([boxed((0, 0), (10, 10)), boxed((20, 20), (40, 50))])
    frames = RANDOM.integers(0, 256, (2, 60, 60), dtype=np.uint8)
    face = FaceCrop(margin=0.0, square=False).apply(clip(frames, onset=1, landmarks=landmarks))
    np.testing.assert_array_equal(face.frames[0], frames[0, 20:51, 20:41])


def test_samples_that_cover_two_by_two_pixels_are_their_mean() -> None:
    frame = RANDOM.integers(0, 256, (20, 20), dtype=np.uint8)
    x, y = np.meshgrid(places(10, 2) * 2 + 0.5, places(10, 2) * 2 + 0.5)  # two samples for each old pixel and side
    halved = Sampling(x.astype(np.float32), y.astype(np.float32), 2)(frame)
    assert np.abs(halved - frame.reshape(10, 2, 10, 2).mean(axis=(1, 3))).max() <= 0.501


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_leaves_the_given_clip_alone_and_its_result_can_be_pickled(step: Preprocessing) -> None:
    for colour in (True, False):
        given_clip = face_clip(colour=colour)
        frames, landmarks = np.array(given_clip.frames), np.array(given_clip.landmarks)
        changed = step.apply(given_clip)
        seen = [changed.frames[number] for number in range(len(changed.frames))]
        np.testing.assert_array_equal(given_clip.frames, frames)
        np.testing.assert_array_equal(given_clip.landmarks, landmarks)
        assert {frame.dtype for frame in seen} == {np.dtype(np.uint8)}
        assert {frame.shape for frame in seen} == {(*seen[0].shape[:2], 3)[: 3 if colour else 2]}
        assert changed.fingerprint == given_clip.fingerprint
        assert len(changed.landmarks) == len(changed.frames)
        assert changed.landmarks[0].shape == (68, 2)
        assert changed.landmarks[0].dtype == np.float32
        again = pickle.loads(pickle.dumps(step.apply(given_clip)))
        np.testing.assert_array_equal(again.frames[1], seen[1])
        with pytest.raises(IndexError):
            changed.frames[len(seen)]


@dataclass
class WatchedFrames:
    """Frames that remember which of them were decoded."""

    frames: NDArray[np.uint8]
    asked: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        self.asked.append(frame)
        return self.frames[frame]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_frames_are_decoded_when_they_are_asked_for(step: Preprocessing) -> None:
    watched = WatchedFrames(RANDOM.integers(0, 256, (8, 110, 100), dtype=np.uint8))
    landmarks = np.tile(FACE, (8, 1, 1))
    changed = step.apply(clip(watched, onset=0, apex=3, offset=7, fps=40.0, landmarks=landmarks))
    assert len(watched.asked) <= 1  # one, where the size of the frames must be known
    watched.asked.clear()
    changed.frames[2]
    if isinstance(step, Magnify | TemporalInterpolation):  # which need all, and decode each once
        assert sorted(watched.asked) == list(range(8))
        changed.frames[1]
        assert len(watched.asked) == 8
    else:
        assert len(watched.asked) <= 2


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_clip_without_frames_is_refused(step: Preprocessing) -> None:
    contents = {"onset": 0, "apex": 1, "offset": 2, "fps": 40.0, "landmarks": np.tile(FACE, (3, 1, 1))}
    with pytest.raises(DataError, match="must have frames"):
        step.apply(clip(None, **contents))


@pytest.mark.parametrize(
    "step", [FaceCrop(), Register(), RegionGrid(), EyeMouth(), MaskEyes()], ids=lambda step: type(step).__name__
)
def test_missing_and_broken_landmarks_are_refused(step: Preprocessing) -> None:
    frames, landmarks = np.zeros((2, 50, 50), np.uint8), np.tile(FACE, (2, 1, 1))
    with pytest.raises(DataError, match="no landmarks"):
        step.apply(clip(frames, onset=0))
    with pytest.raises(DataError, match="landmarks of its onset frame"):
        step.apply(clip(frames, onset=2, landmarks=landmarks))
    landmarks[0, 5] = np.nan
    with pytest.raises(DataError, match="not finite"):
        step.apply(clip(frames, onset=0, landmarks=landmarks))


def test_every_step_says_what_it_needs_and_maps_clips_to_clips() -> None:
    names = {
        declaration.name: declaration for declaration in REGISTRY if declaration.factory in {type(s) for s in STEPS}
    }
    assert len(names) == 10
    for declaration in names.values():
        assert declaration.axis == "preprocessing"
        assert declaration.maps == {CLIP: CLIP}
        assert "frames" in declaration.needs
