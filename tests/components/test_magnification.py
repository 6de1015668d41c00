"""Eulerian magnification, against motion whose size is known and is measured in another way than it is magnified."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.preprocessing.magnify import Magnify
from mernas.space.errors import DataError

Array = NDArray[np.float64]

SIZE, PERIOD, FPS = 96, 12, 32.0


def clip(frames: Any, fps: float | None = FPS, **contents: Any) -> Clip:
    return Clip("set/person/clip", "set", "set/person", "fingerprint", frames=frames, fps=fps, **contents)


def moving_stripes(shift: Array, period: float = PERIOD, contrast: float = 80) -> NDArray[np.uint8]:
    """A sinusoidal pattern that is `shift[t]` pixels further right in frame t. Dithered, as bytes hide small motion."""
    x = np.arange(SIZE)
    rows = 128 + contrast * np.sin(2 * np.pi * (x - shift[:, None]) / period)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (SIZE, SIZE))
    return np.clip(np.rint(rows[:, None, :] + noise), 0, 255).astype(np.uint8)


def measured(frames: Any, period: float = PERIOD) -> Array:
    """How far the pattern is moved in each frame, in pixels: from the phase of its wave, away from the borders."""
    inside = slice(24, 72)
    wave = np.exp(-2j * np.pi * np.arange(SIZE)[inside] / period)
    seen = np.array([frames[number][inside, inside].mean(axis=0) @ wave for number in range(len(frames))])
    return np.asarray(-np.unwrap(np.angle(seen) + np.pi / 2) * period / (2 * np.pi))


def swing(frequency: float, amplitude: float = 0.12, seconds: float = 5.0) -> Array:
    """A shift in pixels that swings, and grows from rest within a second."""
    t = np.arange(round(seconds * FPS)) / FPS
    return np.asarray(amplitude * np.minimum(t, 1) * np.sin(2 * np.pi * frequency * t))


def amplitude(shift: Array, frequency: float) -> float:
    """Amplitude of a frequency in the last two seconds."""
    t = np.arange(len(shift))[-64:] / FPS
    parts = np.stack([np.ones_like(t), np.sin(2 * np.pi * frequency * t), np.cos(2 * np.pi * frequency * t)], axis=1)
    _, sine, cosine = np.linalg.lstsq(parts, shift[-64:], rcond=None)[0]
    return float(np.hypot(sine, cosine))


# The band is 1 to 4 Hz, in the middle of which, at 2 Hz, a Butterworth filter takes nothing away; and patterns of all
# wavelengths from 4 pixels, the finest, are amplified in full.
BAND = {"low": 1.0, "high": 4.0, "wavelength": 4.0}


def test_the_ruler_measures_motion() -> None:
    shift = swing(2.0)
    assert np.abs(measured(moving_stripes(shift)) - shift).max() < 0.005


@pytest.mark.parametrize("alpha", [2.0, 4.0, 8.0])
def test_motion_inside_the_band_is_magnified_by_one_plus_alpha(alpha: float) -> None:
    shift = swing(2.0)
    magnified = Magnify(alpha=alpha, **BAND).apply(clip(moving_stripes(shift)))
    assert amplitude(measured(magnified.frames), 2.0) == pytest.approx((1 + alpha) * 0.12, rel=0.1)


@pytest.mark.parametrize("frequency", [0.1, 14.0])
def test_motion_outside_the_band_is_not_magnified(frequency: float) -> None:
    shift = swing(frequency, seconds=20.0)
    magnified = Magnify(alpha=4.0, order=3, **BAND).apply(clip(moving_stripes(shift)))
    assert np.abs(measured(magnified.frames) - shift).max() < 0.3 * 0.12
    # … and is, where the band reaches it.
    wide = Magnify(alpha=4.0, order=3, low=0.05, high=50.0, wavelength=4.0).apply(clip(moving_stripes(shift)))
    assert np.abs(measured(wide.frames) - shift).max() > 2 * 0.12


def test_frequencies_are_in_hertz_whatever_the_frame_rate() -> None:
    shift = swing(2.0)
    twice = clip(moving_stripes(shift), fps=2 * FPS)  # the same frames filmed twice as fast: a swing at 4 Hz
    slow = Magnify(alpha=4.0, low=0.5, high=2.5, order=4, wavelength=4.0)
    assert amplitude(measured(slow.apply(clip(moving_stripes(shift))).frames), 2.0) > 0.4
    assert amplitude(measured(slow.apply(twice).frames), 2.0) < 0.2


def test_alpha_zero_gives_the_frames_back() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (12, 40, 33, 3), dtype=np.uint8)
    magnified = Magnify(alpha=0.0).apply(clip(frames))
    np.testing.assert_array_equal([magnified.frames[number] for number in range(12)], frames)


def test_patterns_finer_than_the_bound_allows_are_magnified_less() -> None:
    # Stripes of 6 pixels lie in the two finest bands, whose representative wavelengths are 4 and 8 pixels.
    shift = swing(2.0, amplitude=0.05)
    frames = moving_stripes(shift, period=6)
    seen = []
    for wavelength in (4.0, 16.0, 128.0):
        changed = Magnify(alpha=4.0, low=1.0, high=4.0, wavelength=wavelength).apply(clip(frames))
        seen.append(amplitude(measured(changed.frames, period=6), 2.0) / 0.05)
    full, less, none = seen
    assert full == pytest.approx(5, rel=0.1)
    assert none == pytest.approx(1, abs=0.1)
    # (1 + alpha) times wavelength over cut-off, less 1: 5 * 4 / 16 - 1 = 0.25 and 5 * 8 / 16 - 1 = 1.5.
    assert 1.25 < less < 2.5


def test_a_uniform_change_of_light_is_not_magnified() -> None:
    light = np.rint(100 + 20 * np.sin(np.arange(64) / 5)).astype(np.uint8)
    frames = np.broadcast_to(light[:, None, None], (64, 48, 48)).copy()
    magnified = Magnify(alpha=10.0, **BAND).apply(clip(frames))
    np.testing.assert_array_equal([magnified.frames[number] for number in range(64)], frames)


@pytest.mark.parametrize("colour", [True, False])
def test_a_short_clip_keeps_its_first_frame_and_shows_more_of_a_bump(colour: bool) -> None:
    # Ten frames at 30 per second, from rest to an apex of a quarter of a pixel.
    shift = 0.25 * np.sin(np.linspace(0, np.pi, 10)) ** 2
    frames = moving_stripes(shift)
    if colour:
        frames = np.stack([frames, frames // 2, frames // 3], axis=-1)
    magnified = Magnify(alpha=5.0, low=0.2, high=10.0, wavelength=4.0).apply(clip(frames, fps=30.0))
    np.testing.assert_array_equal(magnified.frames[0], frames[0])
    seen = [np.array(magnified.frames[number]) for number in range(10)]
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) if colour else frame for frame in seen]
    assert 0.6 < measured(grey).max() < 1.5  # 1.5 would be a filter that takes nothing away


def test_colours_stay_and_brightness_changes() -> None:
    stripes = moving_stripes(swing(2.0), contrast=30)
    frames = np.stack([stripes, stripes - 40, stripes + 20], axis=-1)
    magnified = Magnify(alpha=4.0, **BAND).apply(clip(frames))
    last = magnified.frames[-1 + len(frames)].astype(int)
    assert np.abs(last[..., 0] - last[..., 1] - 40).max() <= 1
    assert np.abs(last[..., 2] - last[..., 0] - 20).max() <= 1
    assert np.abs(last - frames[-1].astype(int)).max() > 3


def test_landmarks_move_as_much_more_as_the_pixels_they_lie_on() -> None:
    shift = swing(2.0)
    landmarks = np.full((len(shift), 68, 2), 40, np.float32)
    landmarks[..., 0] += shift[:, None]
    magnified = Magnify(alpha=4.0, **BAND).apply(clip(moving_stripes(shift), landmarks=landmarks))
    points = np.stack([magnified.landmarks[number] for number in range(len(shift))])
    assert np.abs(points[..., 1] - 40).max() < 1e-4
    assert np.abs(points[:, 7, 0] - 40 - measured(magnified.frames)).max() < 0.1
    assert points[:, 7, 0].max() > 40.5


@pytest.mark.parametrize("fps", [None, 3.0, float("nan")])
def test_a_frame_rate_that_is_unknown_or_too_low_is_refused(fps: float | None) -> None:
    with pytest.raises(DataError, match="frames per second"):
        Magnify(low=2.0).apply(clip(np.zeros((5, 32, 32), np.uint8), fps=fps))
