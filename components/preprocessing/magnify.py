"""Pre-processing `magnify`: Eulerian magnification of motion (survey section 4.1.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip, Frames, Landmarks
from mernas.components.preprocessing.mapped_frames import frames_of
from mernas.space.errors import DataError, Problem
from mernas.space.parameters import integer, real
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAME_RATE, FRAMES

FINEST = 4.0
"""Wavelength that stands for the finest band of a Laplacian pyramid, in pixels; each further band has twice that."""

SMALLEST = 16
"""Frames are halved while their smaller side has at least so many pixels."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601


@register(
    "preprocessing",
    "magnify",
    section="4.1.2",
    source="Wu, Rubinstein, Shih, Guttag, Durand, Freeman, Eulerian video magnification, SIGGRAPH 2012",
    needs={FRAMES, FRAME_RATE},
    maps={CLIP: CLIP},
)
@dataclass(frozen=True, kw_only=True)
class Magnify:
    """Adds to every frame `alpha` times what changed in it at the frequencies from `low` to `high`.

    For motion d small against the wavelength of a pattern this shows the motion (1 + alpha) d. It is so for
    (1 + alpha) d < lambda / 8 only, hence the bands of a Laplacian pyramid are amplified by no more than what keeps
    this bound for the largest motion d = `wavelength` / (8 (1 + alpha)): in full from `wavelength` upwards, less below,
    not at all where nothing is left. What is too coarse for the pyramid (its last picture, of 8 to 15 pixels: mostly
    light) is not amplified either, nor are colours, only brightness.

    The Butterworth filter runs over the whole clip from its first frame, which it takes for the state of rest: that
    frame stays as it is. It looks only back, so that changes near `high` come a little late (in the middle of the
    band, not at all). A clip of 10 frames is long enough; one shorter than a period of `low` is treated as if `low`
    were lower, that is, all change since its first frame counts. Where the frame rate cannot show `high`, there is no
    upper limit. Noise within the band is amplified with the motion.

    Landmarks are moved by `alpha` times their own motion in the band. All frames are computed when the first is asked
    for.

    Example:
        >>> still = np.full((10, 32, 32), 90, np.uint8)
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=still, fps=100.0)
        >>> bool((Magnify(alpha=20.0).apply(clip).frames[9] == still[9]).all())
        True
    """

    alpha: float = real(0.0, 50.0, default=8.0, doc="motion is shown 1 + alpha times as large")
    low: float = real(0.05, 2.0, default=0.2, log=True, doc="lower edge of the band of frequencies, in Hz")
    high: float = real(2.5, 50.0, default=3.0, log=True, doc="upper edge of the band of frequencies, in Hz")
    order: int = integer(1, 4, default=1, doc="order of the Butterworth filter: how steep the edges are")
    wavelength: float = real(4.0, 128.0, default=16.0, log=True, doc="patterns finer than this are amplified less, px")

    def apply(self, clip: Clip) -> Clip:
        """Return the clip with its motion magnified.

        Raises:
            DataError: If the clip has no frames, or its frame rate is not known or too low for the band.
        """
        from scipy.signal import butter  # takes the best part of a second to import, in every worker

        frames = frames_of(clip)
        if clip.fps is None or not clip.fps > 2 * self.low:
            rule, found = f"must have more than {2 * self.low:g} frames per second, and say so", f"{clip.fps}"
            raise DataError(Problem(clip.key, rule, found, "give the frame rate, for the band is in Hz"))
        if self.high < 0.49 * clip.fps:
            band = butter(self.order, (self.low, self.high), "bandpass", output="sos", fs=clip.fps)
        else:
            band = butter(self.order, self.low, "highpass", output="sos", fs=clip.fps)
        landmarks = clip.landmarks
        if landmarks is not None:
            landmarks = _MagnifiedLandmarks(landmarks, band, self.alpha)
        return replace(clip, frames=_MagnifiedFrames(frames, band, self.alpha, self.wavelength), landmarks=landmarks)


@dataclass(frozen=True, eq=False)
class _MagnifiedFrames:
    frames: Frames
    band: NDArray[np.float64]  # second-order sections
    alpha: float
    wavelength: float

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        return self.magnified[frame].copy()

    @cached_property
    def magnified(self) -> list[NDArray[np.uint8]]:
        """All frames, computed one after the other: at no time are more than two of them more than bytes."""
        results: list[NDArray[np.uint8]] = []
        passing = _Passing(self.band)
        for number in range(len(self.frames)):
            frame = np.asarray(self.frames[number], np.float32)
            # The filter goes over pixels, not bands: filter and pyramid are linear, so their order does not matter.
            change = passing(frame @ LUMA if frame.ndim == 3 else frame)
            added = self._amplified(change.astype(np.float32))
            seen = frame + (added[:, :, np.newaxis] if frame.ndim == 3 else added)
            results.append(np.clip(np.rint(seen), 0, 255).astype(np.uint8))
        return results

    def _amplified(self, change: NDArray[np.float32]) -> NDArray[np.float32]:
        """The bands of a Laplacian pyramid of (H, W), amplified and put together again."""
        rest: NDArray[Any] = change
        bands: list[NDArray[Any]] = []
        wavelength = FINEST
        while min(rest.shape) >= SMALLEST:
            coarse = cv2.pyrDown(rest)
            gain = min(max((1 + self.alpha) * wavelength / self.wavelength - 1, 0.0), self.alpha)
            bands.append(np.float32(gain) * (rest - cv2.pyrUp(coarse, dstsize=rest.shape[::-1])))
            rest, wavelength = coarse, 2 * wavelength
        total: NDArray[Any] = np.zeros_like(rest)
        for band in reversed(bands):
            total = band + cv2.pyrUp(total, dstsize=band.shape[::-1])
        return total


@dataclass(frozen=True, eq=False)
class _MagnifiedLandmarks:
    landmarks: Landmarks
    band: NDArray[np.float64]
    alpha: float

    def __len__(self) -> int:
        return len(self.landmarks)

    def __getitem__(self, frame: int, /) -> NDArray[np.float32]:
        return self.magnified[frame].copy()

    @cached_property
    def magnified(self) -> list[NDArray[np.float32]]:
        """The landmarks of all frames."""
        passing = _Passing(self.band)
        points = [np.asarray(self.landmarks[number], np.float64) for number in range(len(self.landmarks))]
        return [(here + self.alpha * passing(here)).astype(np.float32) for here in points]


class _Passing:
    """A temporal filter that is given one array after the other, as if the first had been there for ever."""

    def __init__(self, band: NDArray[np.float64]) -> None:
        self._band = band
        self._state: NDArray[np.float64] | None = None

    def __call__(self, values: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what passes of the values at this moment, of their shape."""
        from scipy.signal import sosfilt, sosfilt_zi

        flat = values.reshape(1, -1).astype(np.float64)
        if self._state is None:
            self._state = sosfilt_zi(self._band)[:, :, np.newaxis] * flat
        passed, self._state = sosfilt(self._band, flat, axis=0, zi=self._state)
        return np.asarray(passed, np.float64).reshape(values.shape)
