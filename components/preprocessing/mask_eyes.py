"""Pre-processing `mask_eyes`: no blinking (survey section 4.1.4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.preprocessing.mapped_frames import frames_of, mapped, onset_points
from mernas.space.parameters import choice, real
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAMES, LANDMARKS, ONSET

EYES = (tuple(range(36, 42)), tuple(range(42, 48)))

CHEEKS = ((36, 41, 40, 39, 31, 48, 4, 3, 2, 1), (45, 46, 47, 42, 35, 54, 12, 13, 14, 15))
"""Polygons from the lower lid along the nose to the corner of the mouth, and back along the jaw."""


@register(
    "preprocessing",
    "mask_eyes",
    section="4.1.4",
    source="Le, Tran, Rege, Dynamic image for micro-expression recognition on region-based framework, IRI 2020",
    needs={FRAMES, ONSET, LANDMARKS},
    maps={CLIP: CLIP},
)
@dataclass(frozen=True, kw_only=True)
class MaskEyes:
    """Blackens the eyes in every frame, and the cheeks if wanted: blinks are no expression, and cheeks move little.

    The mask is that of the onset frame, the same for all frames of a clip, so that its edges do not move. It also
    hides what lids do in an expression, such as the tightened lids of anger. Landmarks stay where they are.

    Example:
        >>> points = np.zeros((68, 2), np.float32)
        >>> points[36:42] = [[20, 40], [25, 36], [35, 36], [40, 40], [35, 44], [25, 44]]
        >>> points[42:48] = points[36:42] + [40, 0]
        >>> frames, landmarks = np.full((1, 100, 100), 90, np.uint8), points[np.newaxis]
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=frames, onset=0, landmarks=landmarks)
        >>> masked = MaskEyes(margin=0.0).apply(clip).frames[0]
        >>> masked[40, [30, 50, 70]].tolist()
        [0, 90, 0]
    """

    margin: float = real(0.0, 0.5, default=0.15, doc="added around each eye, relative to its width")
    cheeks: bool = choice(False, True, default=False, doc="whether the cheeks are masked, too")

    def apply(self, clip: Clip) -> Clip:
        """Return the clip with the eyes of all frames set to 0.

        Raises:
            DataError: If the clip has no frames, or no landmarks in its onset frame.
        """
        points = onset_points(clip)
        hidden = np.zeros(np.shape(frames_of(clip)[0])[:2], np.uint8)
        corners = np.rint(points).astype(np.int32)
        for eye in EYES:
            drawn = np.zeros_like(hidden)
            cv2.fillConvexPoly(drawn, cv2.convexHull(corners[list(eye)]), 1)
            reach = round(self.margin * float(np.ptp(points[list(eye), 0])))
            disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
            hidden |= np.asarray(cv2.dilate(drawn, disc), np.uint8)
        if self.cheeks:
            cv2.fillPoly(hidden, [corners[list(cheek)] for cheek in CHEEKS], 1)
        return mapped(clip, partial(_blackened, hidden=hidden.astype(bool)))


def _blackened(frame: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> NDArray[np.uint8]:
    changed = frame.copy()
    changed[hidden] = 0
    return changed
