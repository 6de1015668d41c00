"""Input `apex_frame`: the frame in which the expression is strongest (survey section 4.2.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import choice
from mernas.space.registry import register
from mernas.space.taxonomy import APEX, BRIGHTNESS, CLIP, FRAMES, IMAGE, MIRRORABLE, PIXELS, TURNABLE


@register(
    "input",
    "apex_frame",
    section="4.2.1",
    source="Li, Huang, Zhao, Can micro-expression be recognized based on single apex frame?, ICIP 2018",
    needs={FRAMES, APEX},
    maps={CLIP: IMAGE},
)
@dataclass(frozen=True, kw_only=True)
class ApexFrame:
    """The apex frame in grey, resized to a square, in [0, 1].

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> white = np.full((1, 40, 30, 3), 255, np.uint8)
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=white, apex=0)
        >>> map = ApexFrame(size=28).prepare(clip)
        >>> map.shape, float(map.min())
        ((1, 28, 28), 1.0)
    """

    size: int = choice(
        14,
        28,
        42,
        56,
        84,
        112,
        48,
        60,
        64,
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
        return ("gray",)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (1, size, size) of every map."""
        return (1, self.size, self.size)

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return what the maps provide: a mirrored, turned or brighter face is a face, whatever the data have."""
        return {PIXELS, MIRRORABLE, TURNABLE, BRIGHTNESS}

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        """Return the map of a clip, (1, size, size) in [0, 1].

        Raises:
            DataError: If the clip has no such frame.
        """
        return resized(grey_frame(clip, "apex").astype(np.float32)[np.newaxis] / np.float32(255), self.size)


def frame_number(clip: Clip, moment: Literal["onset", "apex", "offset"]) -> int:
    """Return the number of the onset, apex or offset frame of a clip, which exists.

    Raises:
        DataError: If the clip has no frames, or that moment is unknown or lies outside them.
    """
    number = {"onset": clip.onset, "apex": clip.apex, "offset": clip.offset}[moment]
    if clip.frames is None or number is None or not 0 <= number < len(clip.frames):
        found = "no frames" if clip.frames is None else f"frame {number} of {len(clip.frames)}"
        raise DataError(Problem(clip.key, f"must have its {moment} frame", found, "leave the clip out or annotate it"))
    return number


def grey_frame(clip: Clip, moment: Literal["onset", "apex", "offset"]) -> NDArray[np.uint8]:
    """Return the onset, apex or offset frame of a clip in grey, (H, W); colours are weighted as in ITU-R 601.

    Raises:
        DataError: If the clip has no frames, or that moment is unknown or lies outside them.
    """
    number = frame_number(clip, moment)
    assert clip.frames is not None  # noqa: S101  # `frame_number` has seen to it
    return in_grey(clip.frames[number])


def in_grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a frame (H, W) or (H, W, 3) in grey, (H, W), contiguous."""
    frame = np.ascontiguousarray(frame)
    return frame if frame.ndim == 2 else np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def resized(maps: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return maps (C, H, W) as (C, size, size), contiguous; the aspect ratio is not kept, nor are values rescaled.

    A side that shrinks is averaged over areas, so that nothing aliases; one that grows is interpolated linearly.
    """
    height, width = maps.shape[1:]

    def one(plane: NDArray[Any]) -> NDArray[Any]:
        if height > size or width > size:
            plane = cv2.resize(plane, (min(width, size), min(height, size)), interpolation=cv2.INTER_AREA)
        if height < size or width < size:
            plane = cv2.resize(plane, (size, size), interpolation=cv2.INTER_LINEAR)
        return plane

    return np.stack([one(np.ascontiguousarray(plane, dtype=np.float32)) for plane in maps])
