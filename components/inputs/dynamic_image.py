"""Input `dynamic_image`: a whole expression as one image, by approximate rank pooling (survey section 4.2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.inputs.grey_frames import expression_span, grey_maps
from mernas.space.parameters import choice
from mernas.space.registry import register
from mernas.space.taxonomy import BRIGHTNESS, CLIP, FRAMES, IMAGE, MIRRORABLE, OFFSET, ONSET, PIXELS, TURNABLE

FLAT = 1e-6
"""Contrast that is nothing but rounding: less than a thousandth of one of 256 grey levels."""


@register(
    "input",
    "dynamic_image",
    section="4.2.2",
    source="Bilen, Fernando, Gavves, Vedaldi, Gould, Dynamic image networks for action recognition, CVPR 2016",
    needs={FRAMES, ONSET, OFFSET},
    maps={CLIP: IMAGE},
)
@dataclass(frozen=True, kw_only=True)
class DynamicImage:
    """The grey frames from onset to offset, pooled with weights that tell later from earlier ones.

    The pooled image is the first step towards one whose product with what is ranked grows with time: the sum, over all
    pairs of moments, of the later minus the earlier. What is ranked are the frames themselves, or at each moment the
    mean of all frames so far, which is steadier. The weights of the frames add up to zero, so a still clip gives zero.

    By the scale `fixed` the weights above zero add up to 1 and those below to -1: the image is a mean of late frames
    minus a mean of early ones, in [-1, 1], and a small motion stays small. By `range` each image is stretched to
    [0, 1], as an image to be looked at is; one without any contrast becomes 0.5.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> frames = np.stack([np.full((40, 30), 51 * level, np.uint8) for level in range(6)])
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=frames, onset=0, offset=1)
        >>> round(float(DynamicImage().prepare(clip).mean()), 3)
        0.2
    """

    ranked: str = choice("means", "frames", default="means", doc="the means of all frames so far, or the frames")
    scale: str = choice("fixed", "range", default="fixed", doc="one scale for all clips, or each stretched to [0, 1]")
    size: int = choice(
        14,
        28,
        42,
        48,
        56,
        60,
        64,
        84,
        112,
        128,
        160,
        168,
        224,
        default=28,
        doc="height and width of a map, in pixels",
    )

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return ("stretched difference",) if self.scale == "range" else ("difference",)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (1, size, size) of every map."""
        return (1, self.size, self.size)

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return what the maps provide; a stretched image has lost the scale that a change of brightness needs."""
        return {PIXELS, MIRRORABLE, TURNABLE} | ({BRIGHTNESS} if self.scale == "fixed" else set())

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        """Return the map of a clip, (1, size, size).

        Raises:
            DataError: If the clip lacks its onset or offset, ends before it begins, or its frames differ in size.
        """
        onset, offset = expression_span(clip)
        maps = grey_maps(clip, range(onset, offset + 1), self.size)
        image = np.tensordot(rank_weights(len(maps), self.ranked), maps.astype(np.float64), axes=1)[np.newaxis]
        if self.scale == "range":
            low, high = image.min(), image.max()
            image = (image - low) / (high - low) if high - low > FLAT else np.full_like(image, 0.5)
        return image.astype(np.float32)


def rank_weights(frames: int, ranked: str) -> NDArray[np.float64]:
    """Return the weights of some frames: those above zero add up to 1, those below to -1; of one frame, 0.

    For T frames they are proportional to 2t - T - 1 where the frames are ranked, and to
    2 (T - t + 1) - (T + 1) (1/t + … + 1/T) where the means are, for t from 1 to T.

    Args:
        frames: How many, T.
        ranked: `frames` or `means`.

    Example:
        >>> rank_weights(3, "frames").tolist(), rank_weights(3, "means").round(6).tolist()
        ([-1.0, 0.0, 1.0], [-1.0, 0.5, 0.5])
    """
    times = np.arange(1, frames + 1, dtype=np.float64)
    if ranked == "frames":
        weights = 2 * times - frames - 1
    else:
        weights = 2 * (frames - times + 1) - (frames + 1) * np.cumsum(1 / times[::-1])[::-1]
    return np.asarray(weights / max(np.abs(weights).sum() / 2, 1e-9), dtype=np.float64)
