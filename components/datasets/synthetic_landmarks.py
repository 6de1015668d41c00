"""Landmarks of the faces of the synthetic dataset: computed from what moves the face, so without any error.

They are the 68 points of the iBUG 300-W annotation (Sagonas et al., ICCV Workshops 2013), placed on the lines that
`synthetic_face.paint` draws. Left and right are those of the image, not of the person.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.synthetic_face import Face, Points
from mernas.components.datasets.synthetic_frames import SyntheticFrames
from mernas.components.datasets.synthetic_muscles import Field, undo

SEAM = 0.012
"""Half the thickness of the line between the lips, which the inner lip points lie above and below (face units)."""


@dataclass(frozen=True)
class SyntheticLandmarks:
    """The landmarks of the frames of one synthetic clip, (68, 2) in pixels of the frame; computed when asked for.

    Each is a point of the skin and goes where the frames' own displacement takes it: by the resting expression, by
    the action units as strongly as they act in that frame, and by the head. A long face may have its chin (5 to 11)
    below the frame.

    Attributes:
        frames: The frames that they belong to.

    Example:
        >>> from mernas.components.datasets.synthetic import Synthetic
        >>> clip = Synthetic(subjects=1, clips=1, macro_subjects=0).load().clips[0]
        >>> left, right = clip.landmarks[clip.apex][[48, 54]]  # the corners of the mouth
        >>> clip.landmarks[clip.apex].shape, bool(left[0] < right[0])
        ((68, 2), True)
    """

    frames: SyntheticFrames

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, frame: int, /) -> NDArray[np.float32]:
        """Return the landmarks of a frame, (68, 2): x to the right, y downwards; pixel middles are whole numbers.

        Raises:
            IndexError: If there is no such frame.
        """
        x, y = self.frames.places(frame, *_at_rest(self.frames.face, self.frames.resting))
        return _to_pixels(np.stack([x[0], y[0]], axis=1), self.frames.size).astype(np.float32)


def painted(face: Face) -> NDArray[np.float64]:
    """Return where the landmarks are on a face as it is painted, before any expression: (68, 2), in face units.

    Example:
        >>> from mernas.components.datasets.synthetic_face import draw_face
        >>> face = draw_face(np.random.default_rng(0))
        >>> painted(face)[8].round(6).tolist() == [0.0, round(face.half_height, 6)]  # the chin
        True
    """
    right_half = {
        # From the chin along the outline up to the height of the eyes.
        "jaw": _outline(face, np.linspace(np.pi / 2, np.arcsin(face.eye_y / face.half_height), 9)),
        "brow": _brow(face, np.linspace(-0.9, 0.9, 5)),  # from the inner end outwards
        "wing": np.array([(1.0, 0.02), (0.5, 0.04)]) * (face.nose_half_width, 1) + (0, face.nose_y),
        "upper lid": _lid(face, np.array([-1.0, -0.4, 0.4, 1.0]), -1),  # from the inner corner outwards
        "lower lid": _lid(face, np.array([0.4, -0.4]), 1),  # from outside inwards
        "upper lip": _lip(face, np.array([0.25, 0.6, 1.0]), -face.lip_half_height),  # from the middle outwards
        "lower lip": _lip(face, np.array([0.6, 0.25]), face.lip_half_height),
        "upper seam": _lip(face, np.array([0.4, 0.85]), -SEAM),
        "lower seam": _lip(face, np.array([0.4]), SEAM),
    }
    left_half = {name: points * (-1, 1) for name, points in right_half.items()}
    middle = np.zeros(1)
    heights = np.linspace(face.eye_y, face.nose_y - 0.05, 4)
    return np.concatenate(
        [
            left_half["jaw"][:0:-1],  # 0-7
            right_half["jaw"],  # 8-16
            left_half["brow"][::-1],  # 17-21
            right_half["brow"],  # 22-26
            np.stack([np.zeros(4), heights], axis=1),  # 27-30
            left_half["wing"],  # 31, 32
            [(0.0, face.nose_y + 0.06)],  # 33
            right_half["wing"][::-1],  # 34, 35
            left_half["upper lid"][::-1],  # 36-39
            left_half["lower lid"][::-1],  # 40, 41
            right_half["upper lid"],  # 42-45
            right_half["lower lid"],  # 46, 47
            left_half["upper lip"][::-1],  # 48-50
            _lip(face, middle, -face.lip_half_height),  # 51
            right_half["upper lip"],  # 52-54
            right_half["lower lip"],  # 55, 56
            _lip(face, middle, face.lip_half_height),  # 57
            left_half["lower lip"][::-1],  # 58, 59
            left_half["upper seam"][::-1],  # 60, 61
            _lip(face, middle, -SEAM),  # 62
            right_half["upper seam"],  # 63, 64
            right_half["lower seam"],  # 65
            _lip(face, middle, SEAM),  # 66
            left_half["lower seam"],  # 67
        ]
    )


def _to_pixels(points: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The inverse of `synthetic_frames.grid`."""
    return (points + 1) * (size / 2) - 0.5


# A clip's landmarks are asked for frame after frame; the face at rest is the same in all of them.
@functools.lru_cache(maxsize=4)
def _at_rest(face: Face, resting: Field) -> tuple[Points, Points]:
    """Where the landmarks are once the resting expression has moved them: x and y, each (1, 68)."""
    points = painted(face)
    return undo(resting, 1.0, points[None, :, 0], points[None, :, 1])


def _outline(face: Face, angle: NDArray[np.float64]) -> NDArray[np.float64]:
    y = face.half_height * np.sin(angle)
    return np.stack([face.half_width * (1 - face.jaw * np.clip(y, 0, None) ** 2) * np.cos(angle), y], axis=1)


def _brow(face: Face, along: NDArray[np.float64]) -> NDArray[np.float64]:
    x, bend = face.eye_x + face.brow_half_width * along, 0.35 * face.brow_arch * along**2 - face.brow_tilt * along
    return np.stack([x, face.brow_y + face.brow_half_width * bend], axis=1)


def _lid(face: Face, across: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    x, y = face.eye_x + face.eye_half_width * across, face.eye_y + side * face.eye_half_height * (1 - across**2)
    return np.stack([x, y], axis=1)


def _lip(face: Face, along: NDArray[np.float64], height: float) -> NDArray[np.float64]:
    """Points of an arc: `height` below the line between the lips in the middle of the mouth, on it at the corners."""
    middle = face.mouth_y - 0.12 * face.mouth_half_width * face.mouth_curve * (along**2 - 0.4)
    return np.stack([face.mouth_half_width * along, middle + height * (1 - along**2)], axis=1)
