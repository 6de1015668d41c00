"""How the faces of the synthetic dataset move: action units as local displacement fields.

Lengths are in the face units of `synthetic_face`. The action units are those of the Facial Action Coding System (Ekman
and Friesen, 1978): where each of them pulls, and which way, follows its muscle; how far it reaches is made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mernas.components.datasets.synthetic_face import Face, Points


class Pull(NamedTuple):
    """What an action unit does at one place: direction (`outwards` from the midline, `down`) and reach."""

    place: str
    outwards: float
    down: float
    width: float
    height: float


PULLS: dict[str, tuple[Pull, ...]] = {
    # inner brow raiser
    "1": (Pull("inner brow", 0.0, -1.0, 0.16, 0.17),),
    # outer brow raiser
    "2": (Pull("outer brow", 0.0, -1.0, 0.18, 0.17),),
    # brow lowerer, which also draws the brows together
    "4": (Pull("inner brow", -0.45, 0.8, 0.18, 0.16), Pull("outer brow", -0.1, 0.3, 0.18, 0.16)),
    # cheek raiser
    "6": (Pull("cheek", 0.0, -0.8, 0.20, 0.15), Pull("lower lid", 0.0, -0.4, 0.16, 0.11)),
    # nose wrinkler
    "9": (Pull("nose wing", 0.1, -0.9, 0.13, 0.16), Pull("upper lip", 0.0, -0.4, 0.18, 0.12)),
    # lip corner puller
    "12": (Pull("lip corner", 0.7, -0.8, 0.17, 0.17), Pull("cheek", 0.2, -0.3, 0.20, 0.16)),
    # lip corner depressor
    "15": (Pull("lip corner", 0.0, 1.0, 0.15, 0.18),),
    # lips part
    "25": (Pull("upper lip", 0.0, -0.4, 0.20, 0.11), Pull("lower lip", 0.0, 0.9, 0.20, 0.13)),
    # jaw drop
    "26": (Pull("lower lip", 0.0, 0.6, 0.24, 0.14), Pull("chin", 0.0, 1.0, 0.30, 0.20)),
    # blink
    "45": (Pull("upper lid", 0.0, 1.0, 0.15, 0.11),),
}


def places(face: Face) -> dict[str, tuple[float, float]]:
    """Return where the places of the pulls are: (x, y) on the right half of the image, or on the midline (x = 0)."""
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


class Activity(NamedTuple):
    """How strongly an action unit acts on the left and on the right half of the image."""

    left: float
    right: float


class Bump(NamedTuple):
    """A Gaussian window of displacement: centre, standard deviations, and the displacement (dx, dy) in its centre."""

    x: float
    y: float
    width: float
    height: float
    dx: float
    dy: float


Field = tuple[Bump, ...]
"""A displacement field is the sum of its bumps."""


def field_of(face: Face, activities: Mapping[str, Activity]) -> Field:
    """Return the displacement field of action units on a face; its scale is that of the activities.

    Example:
        >>> from mernas.components.datasets.synthetic_face import draw_face
        >>> face = draw_face(np.random.default_rng(0))
        >>> [bump.dy for bump in field_of(face, {"1": Activity(left=1.0, right=0.5)})]  # both inner brows go up
        [-1.0, -0.5]
    """
    where = places(face)
    bumps = []
    for unit, (left, right) in activities.items():
        for pull in PULLS[unit]:
            x, y = where[pull.place]
            sides = [(-1, left), (1, right)] if x else [(0, (left + right) / 2)]
            for side, strength in sides:
                dx, dy = side * pull.outwards * strength, pull.down * strength
                bumps.append(Bump(side * x, y, pull.width, pull.height, dx, dy))
    return tuple(bumps)


def displace(field: Field, x: Points, y: Points) -> tuple[Points, Points]:
    """Return the displacement (dx, dy) of a field at points; `x` and `y` are broadcast against each other, (H, W)."""
    numbers = np.array(field, dtype=x.dtype)
    centre_x, centre_y, width, height = numbers[:, :4].T[:, :, None, None]  # each (bumps, 1, 1)
    across, down = (x - centre_x) / width, (y - centre_y) / height
    # A Gaussian window is a factor in x times a factor in y, which makes open grids, (1, W) and (H, 1), cheap.
    windows = np.exp(-0.5 * across * across) * np.exp(-0.5 * down * down)
    dx, dy = np.einsum("kc,khw->chw", numbers[:, 4:], windows)
    return dx, dy


def undo(field: Field, strength: float, x: Points, y: Points) -> tuple[Points, Points]:
    """Return the points p with `p - strength * field(p)` = (x, y), by fixed-point iteration.

    It converges where the field changes by less than one unit per unit of length; those of the synthetic dataset stay
    well below that.
    """
    px, py = x, y
    for _ in range(40):
        dx, dy = displace(field, px, py)
        px, py = x + strength * dx, y + strength * dy
    return px, py


def scaled(field: Field, largest: float) -> Field:
    """Return the field scaled so that its largest displacement within the frame is `largest`.

    Example:
        >>> scaled((Bump(0.0, 0.0, 0.1, 0.1, 3.0, 4.0),), 1.0)[0].dy
        0.8
    """
    axis = np.linspace(-1, 1, 101)
    dx, dy = displace(field, axis[None, :], axis[:, None])
    factor = largest / float(np.hypot(dx, dy).max())
    return tuple(bump._replace(dx=bump.dx * factor, dy=bump.dy * factor) for bump in field)
