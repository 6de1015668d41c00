"""Several grey frames of one clip: a pair to measure motion between, or a stack of maps (survey section 4.2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.inputs.apex_frame import frame_number, grey_frame, in_grey, resized
from mernas.space.errors import DataError, Problem


def frame_pair(clip: Clip) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the onset and the apex frame of a clip in grey, each (H, W).

    Raises:
        DataError: If the clip lacks one of them, or the two differ in size.
    """
    onset, apex = grey_frame(clip, "onset"), grey_frame(clip, "apex")
    if onset.shape != apex.shape:
        rule = "onset and apex frame must be of one size"
        raise DataError(Problem(clip.key, rule, f"{onset.shape} and {apex.shape}", "crop all frames alike"))
    return onset, apex


def expression_span(clip: Clip) -> tuple[int, int]:
    """Return the numbers of the onset and the offset frame of a clip; they may be the same.

    Raises:
        DataError: If the clip lacks one of them, or ends before it begins.
    """
    onset, offset = frame_number(clip, "onset"), frame_number(clip, "offset")
    if offset < onset:
        rule = "must have its offset after its onset"
        raise DataError(Problem(clip.key, rule, f"onset {onset}, offset {offset}", "annotate the clip again"))
    return onset, offset


def grey_maps(clip: Clip, numbers: Sequence[int], size: int) -> NDArray[np.float32]:
    """Return some frames of a clip in grey as maps (N, size, size) in [0, 1].

    Args:
        clip: The clip; it must have these frames (see `frame_number`).
        numbers: Which frames.
        size: Height and width of the maps, in pixels.

    Raises:
        DataError: If the clip has no frames at all, or these differ in size.

    Example:
        >>> frames = np.array([[[0, 0], [0, 0]], [[0, 255], [255, 0]]], np.uint8)
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=frames)
        >>> grey_maps(clip, [0, 1], 1).ravel().tolist()
        [0.0, 0.5]
    """
    if clip.frames is None:
        raise DataError(Problem(clip.key, "must have frames", "none", "choose another input"))
    frames = [in_grey(clip.frames[number]) for number in numbers]
    sizes = {frame.shape for frame in frames}
    if len(sizes) > 1:
        found = " and ".join(str(shape) for shape in sorted(sizes))
        raise DataError(Problem(clip.key, "frames must be of one size", found, "crop all frames alike"))
    return np.concatenate([resized(frame[np.newaxis].astype(np.float32) / np.float32(255), size) for frame in frames])
