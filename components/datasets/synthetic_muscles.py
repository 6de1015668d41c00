"""How the faces of the synthetic dataset move: action units as local displacement fields.

The face units of `synthetic_face` hold here too. Action units are those of the Facial Action Coding System; where each
one pulls, and which way, follows the muscles, and how far it reaches is made up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.synthetic_face import Face

Map = NDArray[np.float32]


class Pull(NamedTuple):
    """What an action unit does at one place: direction (`outwards` from the midline, `down`) and reach."""

    place: str
    outwards: float
    down: float
    width: float
    height: float


ACTION_UNITS: dict[str, tuple[Pull, ...]] = {
    "1": (Pull("inner brow", 0.0, -1.0, 0.16, 0.17),),
    "2": (Pull("outer brow", 0.0, -1.0, 0.18, 0.17),),
    "4": (Pull("inner brow", -0.45, 0.8, 0.18, 0.16), Pull("outer brow", -0.1, 0.3, 0.18, 0.16)),
    "6": (Pull("cheek", 0.0, -0.8, 0.20, 0.15), Pull("lower lid", 0.0, -0.4, 0.16, 0.11)),
    "9": (Pull("nose wing", 0.1, -0.9, 0.13, 0.16), Pull("upper lip", 0.0, -0.4, 0.18, 0.12)),
    "12": (Pull("lip corner", 0.7, -0.8, 0.17, 0.17), Pull("cheek", 0.2, -0.3, 0.20, 0.16)),
    "15": (Pull("lip corner", 0.0, 1.0, 0.15, 0.18),),
    "25": (Pull("upper lip", 0.0, -0.4, 0.20, 0.11), Pull("lower lip", 0.0, 0.9, 0.20, 0.13)),
    "26": (Pull("lower lip", 0.0, 0.6, 0.24, 0.14), Pull("chin", 0.0, 1.0, 0.30, 0.20)),
    "45": (Pull("upper lid", 0.0, 1.0, 0.15, 0.11),),
}
"""Inner and outer brow raiser, brow lowerer, cheek raiser, nose wrinkler, lip corner puller and depressor, lips part,
jaw drop, blink."""


def places(face: Face) -> dict[str, tuple[float, float]]:
    """Return where the places of `Pull` are in a face: (x, y) on the right half, or on the midline (x = 0)."""
    return {
        "inner brow": (face.eye_x - 0.7 * face.brow_half_width, face.brow_y),
        "outer brow": (face.eye_x + 0.7 * face.brow_half_width, face.brow_y),
        "upper lid": (face.eye_x, face.eye_y - face.eye_half_height),
        "lower lid": (face.eye_x, face.eye_y + face.eye_half_height),
        "cheek": (face.eye_x + 0.05, (face.eye_y + face.nose_y) / 2 + 0.10),
        "nose wing": (face.nose_half_width, face.nose_y - 0.05),
        "lip corner": (face.mouth_half_width, face.mouth_y),
        "upper lip": (0.0, face.mouth_y - face.lip_half_height),
        "lower lip": (0.0, face.mouth_y + face.lip_half_height),
        "chin": (0.0, face.mouth_y + 0.30),
    }


class Bump(NamedTuple):
    """A Gaussian window of displacement: centre, standard deviations, and the displacement (dx, dy) in its centre."""

    x: float
    y: float
    width: float
    height: float
    dx: float
    dy: float


class Activity(NamedTuple):
    """How strongly an action unit acts on the left and on the right half of the image."""

    left: float
    right: float


Field = tuple[Bump, ...]


def field_of(face: Face, activities: Mapping[str, Activity]) -> Field:
    """Return the displacement field of some action units on a face, in no particular scale.

    Example:
        >>> from mernas.components.datasets.synthetic_face import draw_face
        >>> face = draw_face(np.random.default_rng(0))
        >>> [bump.dy < 0 for bump in field_of(face, {"1": Activity(1.0, 0.5)})]  # both inner brows go up
        [True, True]
    """
    where = places(face)
    bumps = []
    for unit, activity in activities.items():
        for pull in ACTION_UNITS[unit]:
            x, y = where[pull.place]
            sides = ((-1, activity.left), (1, activity.right)) if x else ((0, sum(activity) / 2),)
            for side, strength in sides:
                dx, dy = strength * side * pull.outwards, strength * pull.down
                bumps.append(Bump(side * x, y, pull.width, pull.height, dx, dy))
    return tuple(bumps)


def displace(field: Field, x: Map, y: Map) -> tuple[Map, Map]:
    """Return the displacement (dx, dy) of a field at points; `x` and `y` are broadcast against each other.

    A Gaussian window is a product of one factor in x and one in y, which makes open grids, (1, W) and (H, 1), cheap.
    """
    shape = np.broadcast_shapes(x.shape, y.shape)
    dx, dy = np.zeros(shape, x.dtype), np.zeros(shape, x.dtype)
    for bump in field:
        window = np.exp(-0.5 * ((x - bump.x) / bump.width) ** 2) * np.exp(-0.5 * ((y - bump.y) / bump.height) ** 2)
        dx += bump.dx * window
        dy += bump.dy * window
    return dx, dy


def scaled(field: Field, largest: float) -> Field:
    """Return the field scaled so that its largest displacement is `largest`.

    Example:
        >>> scaled((Bump(0.0, 0.0, 0.1, 0.1, 3.0, 4.0),), 1.0)[0].dy
        0.8
    """
    axis = np.linspace(-1, 1, 101)
    dx, dy = displace(field, *np.meshgrid(axis, axis))
    factor = largest / float(np.hypot(dx, dy).max())
    return tuple(bump._replace(dx=bump.dx * factor, dy=bump.dy * factor) for bump in field)


def grid(size: int) -> tuple[Map, Map]:
    """Return the face coordinates (x, y) of the centres of the pixels of a frame, each (size, size)."""
    axis = ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    return x, y


def undo(field: Field, strength: float, x: Map, y: Map) -> tuple[Map, Map]:
    """Return the points that `p - strength * field(p)` takes to (x, y), by fixed-point iteration."""
    px, py = x, y
    for _ in range(40):  # fields change by less than half a unit per unit, so 40 rounds are plenty
        dx, dy = displace(field, px, py)
        px, py = x + strength * dx, y + strength * dy
    return px, py
