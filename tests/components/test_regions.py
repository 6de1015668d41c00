"""Steps that go by landmarks: registration, the grid of regions, strips of eyes and mouth, masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mernas.components.contracts import Preprocessing
from mernas.components.datasets.clip import Clip
from mernas.components.preprocessing.eye_mouth import EyeMouth
from mernas.components.preprocessing.mask_eyes import MaskEyes
from mernas.components.preprocessing.region_grid import RegionGrid
from mernas.components.preprocessing.registration import Register
from mernas.space.errors import DataError

Array = NDArray[Any]


def face(centre: float = 100, width: float = 60, turn: float = 0.0, parts: tuple[float, ...] = (1, 1, 1, 1)) -> Array:
    """68 points in the order of iBUG 300-W around (centre, centre); `width` from one outer corner to the other.

    `parts` stretch the distances brows - eyes, eyes - nose, nose - mouth and mouth - chin; `turn` is in degrees.
    """
    brows, nose, mouth, chin = -0.25 * parts[0], 0.45 * parts[1], 0.2 * parts[2], 0.4 * parts[3]
    mouth, chin = nose + mouth, nose + mouth + chin

    def ring(x: float, y: float, a: float, b: float, count: int) -> Array:
        angle = np.pi + 2 * np.pi * np.arange(count) / count
        return np.stack([x + a * np.cos(angle), y + b * np.sin(angle)], axis=1)

    angle = np.pi * (1 - np.arange(17) / 16)
    jaw = np.stack([0.75 * np.cos(angle), chin * np.sin(angle)], axis=1)
    left_brow = np.stack([np.linspace(-0.6, -0.15, 5), np.full(5, brows)], axis=1)
    right_brow = left_brow[::-1] * [-1, 1]
    ridge = np.stack([np.zeros(4), np.linspace(0.05, nose - 0.1, 4)], axis=1)
    nostrils = np.stack([np.linspace(-0.15, 0.15, 5), np.full(5, nose)], axis=1)
    eyes = [ring(-0.35, 0, 0.15, 0.06, 6), ring(0.35, 0, 0.15, 0.06, 6)]
    lips = [ring(0, mouth, 0.3, 0.1, 12), ring(0, mouth, 0.2, 0.04, 8)]
    points = np.concatenate([jaw, left_brow, right_brow, ridge, nostrils, *eyes, *lips])
    c, s = np.cos(np.deg2rad(turn)), np.sin(np.deg2rad(turn))
    return np.asarray(points @ np.array([[c, s], [-s, c]]) * width + centre, np.float32)


def clip(frames: Any, landmarks: Any, onset: int = 0) -> Clip:
    return Clip("set/person/clip", "set", "set/person", "fp", frames=frames, landmarks=landmarks, onset=onset)


def spots(points: Array, numbers: tuple[int, ...], side: int = 220) -> NDArray[np.uint8]:
    """A frame with a soft bright spot on each of some landmarks."""
    y, x = np.mgrid[0:side, 0:side]
    total = sum(200 * np.exp(-((x - points[n, 0]) ** 2 + (y - points[n, 1]) ** 2) / (2 * 1.2**2)) for n in numbers)
    return np.clip(20 + np.asarray(total), 0, 255).astype(np.uint8)


def spot_near(frame: Array, point: Array, reach: int = 6) -> Array:
    """The middle of the brightness around a point: where the spot is really seen."""
    column, row = np.rint(point).astype(int)
    top, left = max(row - reach, 0), max(column - reach, 0)
    part = np.clip(frame[top : row + reach + 1, left : column + reach + 1].astype(float) - 30, 0, None)
    y, x = np.mgrid[0 : part.shape[0], 0 : part.shape[1]]
    return np.array([(part * x).sum() / part.sum() + left, (part * y).sum() / part.sum() + top])


def shown_at(frame: Array, point: Array) -> float:
    """The grey value of a frame at a place between pixels."""
    column, row = np.clip(np.floor(point).astype(int), 0, np.array(frame.shape[::-1]) - 2)
    across, down = point[0] - column, point[1] - row
    part = frame[row : row + 2, column : column + 2].astype(float)
    return float(np.array([1 - down, down]) @ part @ np.array([1 - across, across]))


FACES = (face(), face(width=75, turn=12), face(width=52, turn=-8, parts=(1.3, 0.8, 1.2, 0.9)))
STEPS: tuple[Preprocessing, ...] = (
    Register(size=128),
    Register(size=128, model="affine"),
    RegionGrid(size=140),
    EyeMouth(size=140, margin=0.3),
)


@pytest.mark.parametrize("points", FACES, ids=["plain", "turned", "long"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{type(step).__name__}-{getattr(step, 'model', '')}")
def test_a_landmark_lies_where_its_place_of_the_old_frame_is_seen(step: Preprocessing, points: Array) -> None:
    # Frames whose grey values are the coordinates of their pixels: what is seen at a new place tells the old one.
    coordinate = np.broadcast_to(np.arange(220, dtype=np.uint8), (220, 220))
    changed = step.apply(clip(np.stack([coordinate, coordinate.T]), np.stack([points, points])))
    numbers = [*range(17, 27), *range(36, 68)]  # brows, eyes and mouth: what every step shows
    for number in numbers if isinstance(step, EyeMouth) else range(17, 68):
        new = changed.landmarks[0][number]
        seen = [shown_at(changed.frames[axis], new) for axis in (0, 1)]
        assert np.abs(seen - points[number]).max() < 0.9  # bytes are off by a half, kinks by a little more


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{type(step).__name__}-{getattr(step, 'model', '')}")
def test_all_frames_are_changed_as_the_onset_frame_so_that_motion_stays(step: Preprocessing) -> None:
    # The landmarks of frame 1 jump though the picture is the same; of frame 2 the picture moves, too.
    points = np.stack([FACES[0], FACES[0] + 3, FACES[0] + 2])
    frame = spots(FACES[0], (48, 36))
    frames = np.stack([frame, frame, np.roll(frame, (2, 2), axis=(0, 1))])
    changed = step.apply(clip(frames, points))
    np.testing.assert_array_equal(changed.frames[0], changed.frames[1])
    for number in (48, 36):
        moved = spot_near(changed.frames[2], changed.landmarks[2][number])
        assert np.abs(moved - changed.landmarks[2][number]).max() < 0.4
        assert np.linalg.norm(moved - spot_near(changed.frames[0], changed.landmarks[0][number])) > 1


def test_a_landmark_is_counted_from_the_onset_and_not_from_the_first_frame() -> None:
    points = np.stack([FACES[1], FACES[0]])
    frames = np.stack([spots(FACES[0], (36, 45))] * 2)
    changed = Register(size=100).apply(clip(frames, points, onset=1))
    alone = Register(size=100).apply(clip(frames[1:], points[1:]))
    np.testing.assert_array_equal(changed.frames[0], alone.frames[0])


# Registration


@settings(max_examples=25, deadline=None)
@given(st.floats(30, 90), st.floats(-40, 40), st.floats(60, 140))
def test_faces_that_are_moved_turned_and_scaled_become_one(width: float, turn: float, centre: float) -> None:
    frames = np.zeros((1, 220, 220), np.uint8)
    one = Register(size=128).apply(clip(frames, face(width=60)[None])).landmarks[0]
    other = Register(size=128).apply(clip(frames, face(centre, width, turn)[None])).landmarks[0]
    np.testing.assert_allclose(one, other, atol=0.01)


def test_similarity_keeps_right_angles_and_brings_the_eyes_level() -> None:
    points = face(width=75, turn=12)
    new = Register(size=100).apply(clip(np.zeros((1, 220, 220), np.uint8), points[None])).landmarks[0]
    assert new[36, 1] == pytest.approx(new[45, 1], abs=1e-3)
    assert new[[36, 39, 42, 45]].mean(axis=0) == pytest.approx([49.5, 34.5], abs=1e-3)
    before, after = np.linalg.norm(points[8] - points[27]), np.linalg.norm(new[8] - new[27])
    assert after / before == pytest.approx(np.linalg.norm(new[45] - new[36]) / np.linalg.norm(points[45] - points[36]))


def test_similarity_is_the_best_of_all_similarities() -> None:
    points = FACES[0] + np.random.default_rng(0).normal(0, 3, (68, 2)).astype(np.float32)
    frames = np.zeros((1, 220, 220), np.uint8)
    goal = np.array([[0.25, 0.35], [0.405, 0.35], [0.595, 0.35], [0.75, 0.35]]) * 100 - 0.5
    corners = [36, 39, 42, 45]
    found = Register(size=100).apply(clip(frames, points[None])).landmarks[0][corners]
    # Umeyama's closed form, by the singular value decomposition of the covariance.
    source = points[corners].astype(np.float64)
    centred, target = source - source.mean(axis=0), goal - goal.mean(axis=0)
    u, singular, v = np.linalg.svd(target.T @ centred / 4)
    sign = np.diag([1, np.sign(np.linalg.det(u) * np.linalg.det(v))])
    scale = np.trace(np.diag(singular) @ sign) / (centred**2).sum() * 4
    np.testing.assert_allclose(found, centred @ (scale * u @ sign @ v).T + goal.mean(axis=0), atol=1e-3)


def test_affine_brings_eyes_and_nose_of_long_and_of_short_faces_to_the_same_places() -> None:
    frames = np.zeros((1, 220, 220), np.uint8)
    for points in (face(), face(turn=10, parts=(1, 1.4, 1, 1))):
        new = Register(size=100, model="affine").apply(clip(frames, points[None])).landmarks[0]
        np.testing.assert_allclose(new[33], [49.5, 57.5], atol=0.1)
        np.testing.assert_allclose(new[[36, 39, 42, 45], 1], 34.5, atol=0.1)


def test_eyes_in_one_point_are_refused() -> None:
    points = np.full((1, 68, 2), 30, np.float32)
    for step in (Register(), Register(model="affine"), RegionGrid(), EyeMouth()):
        with pytest.raises(DataError, match="onset frame"):
            step.apply(clip(np.zeros((1, 60, 60), np.uint8), points))


# The grid of regions


@pytest.mark.parametrize("points", FACES, ids=["plain", "turned", "long"])
def test_lines_of_every_face_come_to_lie_on_the_same_lines_of_the_grid(points: Array) -> None:
    new = RegionGrid(size=100).apply(clip(np.zeros((1, 220, 220), np.uint8), points[None])).landmarks[0]
    # Five rows of 20 pixels, with a line in the middle of each; a pixel's middle is half a pixel from its corner.
    brows, eyes, nose, mouth, chin = list(range(17, 27)), [36, 39, 42, 45], list(range(31, 36)), [48, 54, 60, 64], [8]
    for group, row in ((brows, 9.5), (eyes, 29.5), (nose, 49.5), (mouth, 69.5), (chin, 89.5)):
        np.testing.assert_allclose(new[group, 1], row, atol=0.05)
    np.testing.assert_allclose(new[[36, 45, 30], 0], [24.5, 74.5, 49.5], atol=0.1)


def test_cells_hold_the_same_parts_of_faces_with_different_proportions() -> None:
    for points in FACES:
        new = RegionGrid(size=100).apply(clip(np.zeros((1, 220, 220), np.uint8), points[None])).landmarks[0]
        cells = np.floor((new + 0.5) / [25, 20]).astype(int)  # column, row
        assert set(map(tuple, cells[36:42])) <= {(0, 1), (1, 1)}
        assert set(map(tuple, cells[37:41])) == {(1, 1)}  # but for its outer corner, which is on the border
        assert set(map(tuple, cells[42:48])) <= {(2, 1), (3, 1)}
        assert set(cells[17:27, 1]) == {0}
        assert set(cells[31:36, 1]) == {2}
        assert set(cells[48:68, 1]) == {3}
        assert cells[8, 1] == 4


def test_an_upright_face_of_the_grids_own_proportions_is_only_moved_and_cut() -> None:
    # A face whose lines are 20 pixels apart already, and whose eye corners are 50 apart: the warp is a translation.
    points = np.zeros((68, 2), np.float32)
    points[:, 0] = 100
    points[36, 0], points[45, 0] = 75, 125
    points[17:27, 1], points[36:48, 1], points[31:36, 1], points[48:, 1], points[8, 1] = 60, 80, 100, 120, 140
    frames = np.random.default_rng(0).integers(0, 256, (1, 220, 220, 3), dtype=np.uint8)
    # Lines come to lie at 9.5 and 24.5, so that a whole pixel falls between two: shift the picture's points by half.
    new = RegionGrid(size=100).apply(clip(frames, points[None] - 0.5))
    np.testing.assert_array_equal(new.frames[0], frames[0, 50:150, 50:150])


def test_landmarks_that_are_no_face_are_refused_by_the_grid() -> None:
    upside_down = FACES[0].copy()
    upside_down[48:68, 1] = FACES[0][17, 1] - 5  # a mouth above the brows
    with pytest.raises(DataError, match="one below the other"):
        RegionGrid().apply(clip(np.zeros((1, 60, 60), np.uint8), upside_down[None]))


# Strips


@pytest.mark.parametrize("size", [60, 61])
def test_eyes_fill_the_upper_half_and_the_mouth_the_lower_one(size: int) -> None:
    points = FACES[0]
    frames = np.stack([spots(points, (36, 45)), spots(points, (48, 54)), spots(points, (8,))])
    strips = EyeMouth(size=size, margin=0.2).apply(clip(frames, np.stack([points] * 3)))
    eyes, mouth, chin = (strips.frames[number] for number in range(3))
    half = size // 2
    assert eyes.shape == (size, size)
    assert eyes[:half].max() > 150 > 40 > eyes[half:].max()
    assert mouth[half:].max() > 150 > 40 > mouth[:half].max()
    assert chin.max() < 40  # neither strip shows it


def test_a_strip_is_the_box_of_its_landmarks_with_a_margin() -> None:
    points = np.full((1, 68, 2), 50, np.float32)
    points[0, 17], points[0, 36] = (20, 10), (80, 40)  # the rest of brows and eyes is at (50, 50): x 20-80, y 10-50
    points[0, 48], points[0, 49] = (30, 60), (70, 80)  # x 30-70, y 50-80
    frames = np.zeros((1, 100, 100), np.uint8)
    frames[0] = np.arange(100)[:, None] * 2  # a ramp downwards
    strips = EyeMouth(size=40, margin=0.1).apply(clip(frames, points)).frames[0]
    upper = 6 + (np.arange(20) + 0.5) / 20 * 48  # rows 6 to 54 of the old frame, in 20 new ones
    lower = 47 + (np.arange(20) + 0.5) / 20 * 36
    for column in (0, 20, 39):
        assert np.abs(strips[:, column] - 2 * np.concatenate([upper, lower])).max() <= 1


def test_landmarks_outside_the_strips_lie_on_the_border_of_theirs() -> None:
    points = FACES[0]
    new = EyeMouth(size=100, margin=0.1).apply(clip(np.zeros((1, 220, 220), np.uint8), points[None])).landmarks[0]
    assert new.min() >= 0
    assert new.max() <= 99
    assert new[8, 1] == 99  # the chin, below the mouth
    assert new[33, 1] == 49  # the nose, below the eyes
    assert (new[[0, 16], 1] < 50).all()  # the jaw at the height of the eyes


# Masks


def test_the_mask_is_an_ellipse_around_each_eye_and_nothing_else() -> None:
    points = FACES[0]
    frames = np.full((2, 220, 220, 3), 90, np.uint8)
    masked = MaskEyes(margin=0.15).apply(clip(frames, np.stack([points, points + 30])))
    for number in range(2):
        frame = masked.frames[number]
        for x, y in points[36:48]:
            assert (frame[round(float(y)), round(float(x))] == 0).all()
        # The eye is 18 pixels wide and 7 high; the margin adds 3 pixels around it.
        rows, columns = np.nonzero((frame == 0).all(axis=2))
        assert set(np.unique(frame)) == {0, 90}
        assert rows.min() >= points[36:48, 1].min() - 4
        assert rows.max() <= points[36:48, 1].max() + 4
        assert not ((columns > points[39, 0] + 4) & (columns < points[42, 0] - 4)).any()
        np.testing.assert_array_equal(masked.landmarks[number], (points, points + 30)[number])


def test_cheeks_are_masked_if_wanted_but_not_nose_mouth_and_brows() -> None:
    points = FACES[0]
    frames = np.full((1, 220, 220), 90, np.uint8)
    frame = MaskEyes(cheeks=True).apply(clip(frames, points[None])).frames[0]
    cheeks = points[[36, 48, 2]].mean(axis=0), points[[45, 54, 14]].mean(axis=0)
    for x, y in cheeks:
        assert frame[round(float(y)), round(float(x))] == 0
    for x, y in points[[19, 24, 29, 33, 57, 8]]:
        assert frame[round(float(y)), round(float(x))] == 90
    without = MaskEyes().apply(clip(frames, points[None])).frames[0]
    assert all(without[round(float(y)), round(float(x))] == 90 for x, y in cheeks)
