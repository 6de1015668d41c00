"""Input `landmark_graph`: how the landmarks of the face move, as a graph (survey section 4.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.inputs.face_points import EYE_CORNERS, STABLE, SUBSETS
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import choice
from mernas.space.registry import register
from mernas.space.taxonomy import APEX, CLIP, GRAPH, LANDMARKS, OFFSET, ONSET


@register(
    "input",
    "landmark_graph",
    section="4.2.3",
    source="Kumar, Bhanu, Micro-expression classification based on landmark relations, CVPR Workshops 2021",
    needs={LANDMARKS, ONSET, APEX},
    maps={CLIP: GRAPH},
)
@dataclass(frozen=True, kw_only=True)
class LandmarkGraph:
    """A node per landmark with its displacement from the onset to the apex, and to the offset, and its position.

    All figures are in inter-ocular distances of the onset frame, x to the right and y downwards. Before the
    displacements are taken, the later frame is laid upon the onset frame by the shift, or the shift, turn and scale,
    that fits the bridge of the nose and the corners of the eyes best (least squares): what is left is not the head's.
    Positions are counted from the middle between the outer corners of the eyes.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> points = np.random.default_rng(0).random((68, 2), np.float32)
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", landmarks=[points, points + 2], onset=0, apex=1)
        >>> graph = LandmarkGraph(points=51).prepare(clip)
        >>> graph.shape, bool(abs(graph[:, :2]).max() < 1e-5)  # the head moved, the face did not
        ((51, 4), True)
    """

    points: int = choice(68, 51, 49, 30, default=51, doc="how many landmarks: all, no jaw, or brows and mouth")
    moments: str = choice(
        "apex", "apex+offset", default="apex", needs={"apex+offset": {OFFSET}}, doc="displacements from onset to what"
    )
    position: bool = choice(True, False, default=True, doc="whether nodes know where they are at the onset")
    align: str = choice("none", "shift", "similarity", default="similarity", doc="what of the head's motion is removed")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the features of a node, e.g. `("apex dx", "apex dy", "x", "y")`."""
        moved = tuple(f"{moment} {axis}" for moment in self.moments.split("+") for axis in ("dx", "dy"))
        return (*moved, "x", "y") if self.position else moved

    @property
    def shape(self) -> tuple[int, int]:
        """Shape (points, features) of every graph."""
        return (self.points, len(self.channels))

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return what the graphs provide: nothing, for they are no maps with a height and a width."""
        return set()

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        """Return the graph of a clip, (points, features); nodes in the order of iBUG 300-W.

        Raises:
            DataError: If landmarks of a frame that is wanted are missing or are no face.
        """
        onset = _points(clip, "onset", clip.onset)
        right, left = onset[list(EYE_CORNERS)]
        columns = []
        for moment in self.moments.split("+"):
            later = _points(clip, moment, clip.apex if moment == "apex" else clip.offset)
            columns.append(self._aligned(later, onset) - onset)
        if self.position:
            columns.append(onset - (right + left) / 2)
        features = np.concatenate(columns, axis=1)[list(SUBSETS[self.points])] / np.linalg.norm(left - right)
        return np.ascontiguousarray(features, dtype=np.float32)

    def _aligned(self, points: NDArray[np.float64], onset: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the points (68, 2) laid upon those of the onset frame."""
        if self.align == "none":
            return points
        stable = list(STABLE)
        here, there = points[stable].mean(axis=0), onset[stable].mean(axis=0)
        if self.align == "shift":
            return np.asarray(points - here + there)
        # A plane vector as a complex number: turn and scale together are the multiplication by one complex number.
        moved = (points - here) @ np.array([1, 1j])
        target = (onset[stable] - there) @ np.array([1, 1j])
        turned = moved * (np.vdot(moved[stable], target) / np.vdot(moved[stable], moved[stable]))
        return np.asarray(np.stack([turned.real, turned.imag], axis=1) + there)


def _points(clip: Clip, moment: str, number: int | None) -> NDArray[np.float64]:
    """Return the landmarks (68, 2) of one frame of a clip.

    Raises:
        DataError: If there are none, or they are no face: not 68 finite points with two eyes apart.
    """
    remedy = "leave the clip out or annotate it"
    if clip.landmarks is None or number is None or not 0 <= number < len(clip.landmarks):
        found = "no landmarks" if clip.landmarks is None else f"frame {number} of {len(clip.landmarks)}"
        raise DataError(Problem(clip.key, f"must have landmarks of its {moment} frame", found, remedy))
    points = np.asarray(clip.landmarks[number], dtype=np.float64)
    if points.shape != (68, 2) or not np.isfinite(points).all():
        found = f"shape {points.shape}" if points.shape != (68, 2) else "values that are no numbers"
        raise DataError(Problem(f"{clip.key}, {moment}", "landmarks must be 68 finite points", found, remedy))
    if not np.linalg.norm(points[EYE_CORNERS[0]] - points[EYE_CORNERS[1]]) > 0:
        raise DataError(Problem(f"{clip.key}, {moment}", "the eyes must be apart", "one place for both", remedy))
    return points
