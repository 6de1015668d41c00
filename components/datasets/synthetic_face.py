"""Faces of made-up people for the synthetic dataset: shape, tones, skin texture and light.

Everything is measured in *face units*: x to the right, y downwards, the frame spans [-1, 1] in both, whatever its size
in pixels. A face is painted once, on a canvas finer than any frame; frames are then looked up in that canvas.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CANVAS = 256
"""Pixels of the canvas along each side: finer than the largest frame."""

EXTENT = 1.2
"""The canvas spans [-EXTENT, EXTENT] in face units, so that a moving head never shows its edge."""

DENSITY = CANVAS / (2 * EXTENT)
"""Canvas pixels per face unit."""

Points = NDArray[np.floating[Any]]
"""Coordinates of points in face units, one array for x and one for y, or something that has a value at each point."""


def _range(low: float, high: float) -> Any:
    return field(metadata={"range": (low, high)})


@dataclass(frozen=True)
class Face:
    """Shape (face units) and tones (grey levels, or shares of the skin's) of one made-up person.

    The right half of the image is described; the left one mirrors it.
    """

    half_width: float = _range(0.70, 0.86)
    half_height: float = _range(0.98, 1.14)
    jaw: float = _range(0.05, 0.30)
    hairline: float = _range(-0.98, -0.76)
    eye_x: float = _range(0.30, 0.40)
    eye_y: float = _range(-0.30, -0.16)
    eye_half_width: float = _range(0.12, 0.17)
    eye_half_height: float = _range(0.045, 0.085)
    brow_gap: float = _range(0.16, 0.25)
    brow_half_width: float = _range(0.15, 0.22)
    brow_half_height: float = _range(0.020, 0.045)
    brow_tilt: float = _range(-0.20, 0.20)
    brow_arch: float = _range(0.2, 1.6)
    nose_y: float = _range(0.12, 0.24)
    nose_half_width: float = _range(0.09, 0.15)
    mouth_y: float = _range(0.44, 0.58)
    mouth_half_width: float = _range(0.20, 0.31)
    lip_half_height: float = _range(0.045, 0.085)
    mouth_curve: float = _range(-0.7, 0.7)
    skin_tone: float = _range(105.0, 205.0)
    hair_tone: float = _range(20.0, 110.0)
    brow_tone: float = _range(0.30, 0.65)
    lip_tone: float = _range(0.60, 0.88)
    freckles: float = _range(0.05, 0.11)

    @property
    def brow_y(self) -> float:
        """Height of the middle of a brow."""
        return self.eye_y - self.brow_gap


def draw_face(generator: np.random.Generator) -> Face:
    """Return a person drawn at random: every measure uniformly from its range.

    Example:
        >>> draw_face(np.random.default_rng(1)) == draw_face(np.random.default_rng(1))
        True
    """
    return Face(**{item.name: float(generator.uniform(*item.metadata["range"])) for item in fields(Face)})


def canvas_axis() -> NDArray[np.float32]:
    """Return the face coordinate of the canvas pixels along one side, (CANVAS,)."""
    return ((np.arange(CANVAS, dtype=np.float32) + 0.5) / DENSITY - EXTENT).astype(np.float32)


def paint(face: Face, generator: np.random.Generator) -> NDArray[np.float32]:
    """Return the face without light or expression as grey levels (CANVAS, CANVAS), about 0 to 255.

    Args:
        face: Whom to paint.
        generator: Draws the texture of skin, hair and background.
    """
    x, y = np.meshgrid(canvas_axis(), canvas_axis())
    side = np.abs(x)
    grain = _grain(generator)
    skin = face.skin_tone * (1 + face.freckles * grain)
    hair = face.hair_tone * (1 + 0.25 * _grain(generator, (0.02, 0.06)))
    image: Points = 70 * (1 + 0.15 * _grain(generator, (0.10, 0.20)))

    outline = side / (face.half_width * (1 - face.jaw * np.clip(y, 0, None) ** 2))
    inside = 1 - np.hypot(outline, y / face.half_height)  # positive within the face
    image = _lay(image, hair, _soft(1 - np.hypot(x / (face.half_width + 0.1), (y + 0.1) / face.half_height), 0.02))
    image = _lay(image, skin, _soft(inside, 0.02) * _soft(y - face.hairline - 0.12 * x**2, 0.03))

    # Sockets, the ridge and the wings of the nose, and the folds beside it.
    image *= 1 - 0.15 * _blob(side - face.eye_x, y - face.eye_y + 0.05, 0.20, 0.12)
    image *= 1 + 0.12 * _blob(x, y - face.nose_y + 0.20, 0.045, 0.22)
    image *= 1 - 0.20 * _blob(side - face.nose_half_width, y - face.nose_y, 0.035, 0.06)
    image *= 1 - 0.45 * _blob(side - 0.5 * face.nose_half_width, y - face.nose_y - 0.04, 0.030, 0.018)
    fold = face.nose_half_width + 0.06 + 0.35 * np.clip(y - face.nose_y, 0, None)
    image *= 1 - 0.10 * _blob(side - fold, y - (face.nose_y + face.mouth_y) / 2, 0.025, 0.12)

    # Eyes: the white, the iris, and the upper lid as a dark line.
    across = (side - face.eye_x) / face.eye_half_width
    lid = 1 - across**2  # from 1 in the middle of the eye to 0 at its corners
    within = face.eye_half_height * lid - np.abs(y - face.eye_y)
    image = _lay(image, 215.0, _soft(within, 0.008))
    iris = 0.75 * face.eye_half_height + 0.015 - np.hypot(side - face.eye_x, y - face.eye_y)
    image = _lay(image, 35.0, _soft(iris, 0.008) * _soft(within, 0.008))
    line = 0.014 - np.abs(y - face.eye_y + face.eye_half_height * lid)
    image = _lay(image, 0.4 * skin, _soft(line, 0.008) * _soft(1 - np.abs(across), 0.05))

    # Brows: a tilted arch that thins outwards.
    along: Points = (side - face.eye_x) / face.brow_half_width
    middle: Points = face.brow_y + face.brow_half_width * (0.35 * face.brow_arch * along**2 - face.brow_tilt * along)
    brow = face.brow_half_height * (1 - 0.3 * along) - np.abs(y - middle)
    image = _lay(image, face.brow_tone * skin * (1 + 0.2 * grain), _soft(brow, 0.010) * _soft(1 - np.abs(along), 0.06))

    # Mouth: two lips and the line between them, curved up or down at rest.
    along = x / face.mouth_half_width
    middle = face.mouth_y - 0.12 * face.mouth_half_width * face.mouth_curve * (along**2 - 0.4)
    lips = face.lip_half_height * np.clip(1 - along**2, 0, None) - np.abs(y - middle)
    image = _lay(image, face.lip_tone * skin, _soft(lips, 0.012))
    line = 0.012 - np.abs(y - middle)
    image = _lay(image, 0.35 * skin, _soft(line, 0.008) * _soft(1 - np.abs(along), 0.05))
    return image.astype(np.float32)


def shade(light_x: float, light_y: float) -> NDArray[np.float32]:
    """Return how bright the light leaves each place of the canvas, (CANVAS, CANVAS): 1 where it falls straight.

    Args:
        light_x: Where the light comes from: 0 is the camera, 1 is 45 degrees to the right of it.
        light_y: The same downwards.
    """
    x, y = np.meshgrid(canvas_axis() / 1.5, canvas_axis() / 1.6)
    depth = np.sqrt(np.clip(1 - x**2 - y**2, 0.05, None))  # a head is roughly an ellipsoid
    falling = (x * light_x + y * light_y + depth) / np.sqrt(light_x**2 + light_y**2 + 1)
    brightness: Points = 0.45 + 0.55 * np.clip(falling, 0, None)
    return brightness.astype(np.float32)


def _grain(generator: np.random.Generator, scales: tuple[float, ...] = (0.018, 0.035, 0.07)) -> Points:
    """Texture of mean 0 and standard deviation about 1, limited to bands of these widths (face units)."""
    total: Points = np.zeros((CANVAS, CANVAS), np.float32)
    for scale in scales:
        white = generator.standard_normal((CANVAS, CANVAS), dtype=np.float32)
        smooth = cv2.GaussianBlur(white, (0, 0), scale * DENSITY, borderType=cv2.BORDER_REFLECT)
        # White noise blurred by s pixels keeps the standard deviation 1 / (2 s sqrt(pi)).
        total += smooth * np.float32(2 * scale * DENSITY * np.sqrt(np.pi) / np.sqrt(len(scales)))
    return total


def _soft(distance: Points, width: float) -> Points:
    """1 where `distance` is positive, 0 where it is negative, with a smooth edge."""
    ramp: Points = np.clip(distance / (2 * width) + 0.5, 0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _blob(x: Points, y: Points, width: float, height: float) -> Points:
    """A Gaussian around the origin."""
    window: Points = np.exp(-0.5 * ((x / width) ** 2 + (y / height) ** 2))
    return window


def _lay(below: Points, above: Points | float, cover: Points) -> Points:
    """Paint `above` over `below` where `cover` is 1."""
    return below + (above - below) * cover
