"""Action units of the synthetic faces: each moves what the Facial Action Coding System says, where and which way."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mernas.components.datasets.synthetic_face import Face, draw_face
from mernas.components.datasets.synthetic_landmarks import painted
from mernas.components.datasets.synthetic_muscles import PULLS, Activity, displace, field_of

PEOPLE = [draw_face(np.random.default_rng(person)) for person in range(30)]

# What the manual says: landmarks on the left and on the right of the image, and which way they go: outwards, down.
MOVES = {
    "1": [(21, 22, 0, -1)],  # the inner brows rise
    "2": [(17, 26, 0, -1), (18, 25, 0, -1)],  # the outer brows rise
    "4": [(21, 22, 0, 1), (21, 22, -1, 0), (19, 24, 0, 1)],  # the brows are lowered and drawn together
    "6": [(40, 47, 0, -1), (41, 46, 0, -1)],  # the lower lids are pushed up by the cheeks
    "9": [(31, 35, 0, -1), (50, 52, 0, -1)],  # the wings of the nose and the upper lip are pulled up
    "12": [(48, 54, 0, -1), (48, 54, 1, 0)],  # the corners of the lips go up and outwards
    "15": [(48, 54, 0, 1)],  # the corners of the lips go down
    "25": [(57, 57, 0, 1), (66, 66, 0, 1)],  # the lower lip goes down
    "26": [(57, 57, 0, 1), (8, 8, 0, 1)],  # the jaw drops
    "45": [(37, 44, 0, 1), (38, 43, 0, 1)],  # the upper lids come down
}
UPPER, MIDDLE, LOWER = "upper", "middle", "lower"
REGIONS = {"1": UPPER, "2": UPPER, "4": UPPER, "6": MIDDLE, "9": MIDDLE, "12": LOWER, "15": LOWER, "25": LOWER}


def motion(face: Face, unit: str, left: float = 1.0, right: float = 1.0) -> NDArray[np.float64]:
    """Displacement (68, 2) of the landmarks by an action unit."""
    x, y = painted(face).T
    dx, dy = displace(field_of(face, {unit: Activity(left, right)}), x[None], y[None])
    return np.stack([dx[0], dy[0]], axis=1)


def test_every_action_unit_is_checked() -> None:
    assert MOVES.keys() == PULLS.keys()


@pytest.mark.parametrize("unit", MOVES)
def test_an_action_unit_moves_what_facs_says_in_every_face(unit: str) -> None:
    for face in PEOPLE:
        moved = motion(face, unit)
        for left, right, outwards, down in MOVES[unit]:
            assert moved[right] @ (outwards, down) > 0.05
            assert moved[left] @ (-outwards, down) > 0.05


@pytest.mark.parametrize("unit", REGIONS)
def test_its_largest_motion_lies_where_facs_says(unit: str) -> None:
    axis = np.linspace(-1, 1, 101)
    for face in PEOPLE:
        dx, dy = displace(field_of(face, {unit: Activity(1.0, 1.0)}), axis[None, :], axis[:, None])
        height = axis[np.unravel_index(np.hypot(dx, dy).argmax(), dx.shape)[0]]
        low, high = {
            UPPER: (-1.0, face.eye_y - face.eye_half_height),
            MIDDLE: (face.eye_y, face.nose_y + 0.05),
            LOWER: ((face.nose_y + face.mouth_y) / 2, 1.0),
        }[REGIONS[unit]]
        assert low <= height <= high


def test_inner_and_outer_brow_are_raised_by_different_units() -> None:
    for face in PEOPLE:
        inner, outer = (-motion(face, unit)[[22, 26], 1] for unit in ("1", "2"))
        assert inner[0] > 2 * inner[1]
        assert outer[1] > 2 * outer[0]


def test_the_lids_close_and_the_lips_part() -> None:
    for face in PEOPLE:
        rest = painted(face)
        for unit, upper, lower, sign in (("45", 37, 41, -1), ("6", 37, 41, -1), ("25", 62, 66, 1), ("25", 51, 57, 1)):
            apart = (rest + 0.05 * motion(face, unit))[[upper, lower], 1]
            assert sign * (apart[1] - apart[0]) > sign * (rest[lower, 1] - rest[upper, 1])


@pytest.mark.parametrize("unit", ["1", "2", "4", "6", "12", "15"])
def test_a_unit_that_acts_on_one_side_leaves_the_other_side_nearly_still(unit: str) -> None:
    for face in PEOPLE:
        largest = np.hypot(*motion(face, unit, left=1.0, right=0.0).T)
        left, right = (largest[[pair[side] for pair in MOVES[unit]]].max() for side in (0, 1))
        assert right < 0.4 * left
