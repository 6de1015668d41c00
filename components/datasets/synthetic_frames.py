"""The frames of a synthetic clip, rendered when asked for, and their true optical flow.

A frame is defined backwards. A point of the frame, taken back by the pose of the head, is a point p of the moving
face; it shows the place p - s * D(p) of the face at rest, where D is the displacement field of the clip's action units
and s the strength of the expression in that frame. The flow between two frames follows from this with no estimation.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.synthetic_face import CANVAS, DENSITY, EXTENT, Face, Points, canvas_axis, paint, shade
from mernas.components.datasets.synthetic_muscles import Field, displace, undo
from mernas.components.datasets.synthetic_time import Head, Swing, Timeline

SHARPNESS = 0.6
"""Standard deviation of the camera's blur, in pixels of the frame: enough that sampling makes no false detail."""


@dataclass(frozen=True)
class SyntheticFrames:
    """The frames of one synthetic clip: (size, size) grey, uint8.

    Attributes:
        face: Whose face.
        skin_seed: Seeds the texture of the face.
        resting: Displacement of the face at rest: what this person looks like before anything moves.
        expression: Displacement at the apex.
        timeline, head: What happens when.
        light: Direction of the light, see `synthetic_face.shade`.
        drift: Change of brightness over time, over the whole frame and from left to right.
        noise: Standard deviation of the sensor's noise in grey levels.
        noise_seed: Seeds the noise, together with the number of the frame.
        size: Pixels along each side.
        fps: Frames per second.
    """

    face: Face
    skin_seed: tuple[int, ...]
    resting: Field
    expression: Field
    timeline: Timeline
    head: Head
    light: tuple[float, float]
    drift: tuple[Swing, Swing]
    noise: float
    noise_seed: tuple[int, ...]
    size: int
    fps: float

    def __len__(self) -> int:
        return self.timeline.length

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """Render a frame, (size, size).

        Raises:
            IndexError: If there is no such frame.
        """
        seconds = self._seconds(frame)
        x, y = grid(self.size)
        px, py = self._at_rest(frame, x, y)
        columns, rows = (px + EXTENT) * DENSITY - 0.5, (py + EXTENT) * DENSITY - 0.5
        canvas = _clip_canvas(self.face, self.skin_seed, self.resting, self.light, self.size)
        seen = cv2.remap(canvas, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        overall, sideways = (swing.at(seconds) for swing in self.drift)
        image: Points = seen * (1 + overall + sideways * x)
        if self.noise:
            generator = np.random.default_rng((*self.noise_seed, frame))
            image = image + self.noise * generator.standard_normal(image.shape, dtype=np.float32)
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)

    def true_flow(self, first: int, second: int) -> NDArray[np.float32]:
        """Return the flow from one frame to another, (2, size, size): pixels to the right and downwards.

        What frame `first` shows at the pixel x, frame `second` shows at x + flow(x). The motion of the head is part
        of it. It is exact to about a thousandth of a pixel.

        Raises:
            IndexError: If there is no such frame.
        """
        x, y = grid(self.size)
        px, py = self._at_rest(first, x, y)
        px, py = self.places(second, px, py)
        return np.stack([px - x, py - y]).astype(np.float32) * np.float32(self.size / 2)

    def places(self, frame: int, x: Points, y: Points) -> tuple[Points, Points]:
        """Return where a frame shows points of the face at rest (face units; both arrays alike, two-dimensional).

        Raises:
            IndexError: If there is no such frame.
        """
        pose = self.head.at(self._seconds(frame))
        return pose.forth(*undo(self.expression, self.timeline.strength(frame), x, y))

    def _at_rest(self, frame: int, x: Points, y: Points) -> tuple[Points, Points]:
        """Which points of the face at rest a frame shows at its points."""
        px, py = self.head.at(self._seconds(frame)).back(x, y)
        strength = self.timeline.strength(frame)
        if not strength:
            return px, py
        dx, dy = displace(self.expression, px, py)
        return px - strength * dx, py - strength * dy

    def _seconds(self, frame: int) -> float:
        """Time of a frame from the onset on."""
        if not 0 <= frame < len(self):
            raise IndexError(f"frame {frame}: a clip of {len(self)} frames has frames 0 to {len(self) - 1}")
        return (frame - self.timeline.onset) / self.fps


def grid(size: int) -> tuple[Points, Points]:
    """Return the face coordinates of the middles of the pixels of a frame: x (1, size) and y (size, 1)."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size) - 1
    return axis[None, :], axis[:, None]


# The frames of a clip are read one after the other, so a handful of canvases (0.3 MB each) saves nearly all painting.
@functools.lru_cache(maxsize=4)
def _face_canvas(face: Face, skin_seed: tuple[int, ...]) -> NDArray[np.float32]:
    return paint(face, np.random.default_rng(skin_seed))


@functools.lru_cache(maxsize=4)
def _clip_canvas(
    face: Face, skin_seed: tuple[int, ...], resting: Field, light: tuple[float, float], size: int
) -> NDArray[np.float32]:
    """The lit face at rest, blurred as a camera of this many pixels does."""
    axis = canvas_axis()
    # The displacement is smooth: a coarse grid, each point in the middle of 4 x 4 pixels, does.
    coarse = axis.reshape(-1, 4).mean(axis=1)
    dx, dy = (cv2.resize(part, (CANVAS, CANVAS)) for part in displace(resting, coarse[None, :], coarse[:, None]))
    columns, rows = (axis[None, :] - dx + EXTENT) * DENSITY - 0.5, (axis[:, None] - dy + EXTENT) * DENSITY - 0.5
    canvas = cv2.remap(_face_canvas(face, skin_seed), columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    pixel = CANVAS / (EXTENT * size)  # one pixel of the frame, in pixels of the canvas
    return np.asarray(cv2.GaussianBlur(canvas * shade(*light), (0, 0), SHARPNESS * pixel), np.float32)
