"""Pre-processing `tim`: the temporal interpolation model (survey section 4.1.3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.preprocessing.mapped_frames import frames_of
from mernas.components.preprocessing.resampled_frames import KeptFrames, onset_to_offset, resampled
from mernas.space.parameters import integer
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAMES, OFFSET, ONSET


@register(
    "preprocessing",
    "tim",
    section="4.1.3",
    source="Zhou, Zhao, Pietikainen, Towards a practical lipreading system, CVPR 2011",
    needs={FRAMES, ONSET, OFFSET},
    maps={CLIP: CLIP},
)
@dataclass(frozen=True, kw_only=True)
class TemporalInterpolation:
    """Brings every clip to the same number of frames, from onset to offset, along a smooth curve through all frames.

    The n frames are taken for the nodes of a path graph, whose Laplacian has the eigenvectors
    y_k(t) = sin(pi k t + pi (n - k) / (2 n)), k = 1 … n - 1, at the nodes t = 1/n, 2/n, …, 1. A linear map from
    (y_1, …, y_(n-1)) to frames less their mean is fitted at the nodes and followed between them. The singular value
    decomposition by which the paper finds the map is a change of basis that drops out: each new frame is a sum of old
    ones whose weights depend on n and t only (see `weights`). For that reason frames need not be linearly independent,
    either. Between the frames of a quick change the curve may swing a little beyond them, as any such curve does.

    Example:
        >>> greys = np.uint8([10, 40, 70])[:, None, None] * np.ones((1, 4, 4), np.uint8)
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=greys, onset=0, apex=1, offset=2, fps=50.0)
        >>> longer = TemporalInterpolation(frames=5).apply(clip)
        >>> [int(frame[0, 0]) for frame in longer.frames], longer.apex, longer.fps
        ([10, 23, 40, 57, 70], 2, 100.0)
    """

    frames: int = integer(2, 256, default=10, log=True, doc="how many frames a clip has afterwards")

    def apply(self, clip: Clip) -> Clip:
        """Return the clip from onset to offset in `frames` frames, with its landmarks, moments and rate.

        Raises:
            DataError: If the clip has no frames, or no offset after its onset.
        """
        onset, offset = onset_to_offset(clip)
        table = weights(offset - onset + 1, self.frames)
        mixtures = [dict(enumerate(row, start=onset)) for row in table.tolist()]
        return resampled(clip, KeptFrames(frames_of(clip)), mixtures, np.linspace(onset, offset, self.frames))


def weights(count: int, frames: int) -> NDArray[np.float64]:
    """Return the weights (frames, count) of `count` old frames in new ones, evenly spaced from the first to the last.

    The eigenvectors are orthogonal, each of squared length n / 2, and orthogonal to a constant: the map that fits at
    the nodes is 2 / n times the product of frames and eigenvectors, and the mean adds 1 / n to every weight.

    Example:
        >>> weights(3, 2).round(9) + 0.0
        array([[1., 0., 0.],
               [0., 0., 1.]])
    """
    order = np.arange(1, count)[:, None]
    nodes, times = np.arange(1, count + 1) / count, np.linspace(1 / count, 1, frames)

    def curve(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.sin(np.pi * order * t + np.pi * (count - order) / (2 * count)))

    return np.asarray(1 / count + 2 / count * curve(times).T @ curve(nodes))
