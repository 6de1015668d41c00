"""How a clip of the synthetic dataset passes: when the expression begins, peaks and ends, and how the head moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mernas.components.datasets.synthetic_face import Points


@dataclass(frozen=True)
class Timeline:
    """Frame numbers at which an expression begins, peaks and ends, and how many frames there are.

    Example:
        >>> [Timeline(onset=1, apex=3, offset=7, length=9).strength(frame) for frame in range(9)]
        [0.0, 0.0, 0.5, 1.0, 0.84375, 0.5, 0.15625, 0.0, 0.0]
    """

    onset: int
    apex: int
    offset: int
    length: int

    def strength(self, frame: int) -> float:
        """Return the share of the displacement: 0 up to the onset and from the offset on, 1 at the apex alone."""
        if frame <= self.apex:
            share = (frame - self.onset) / (self.apex - self.onset)
        else:
            share = (self.offset - frame) / (self.offset - self.apex)
        share = min(max(share, 0.0), 1.0)
        return share * share * (3 - 2 * share)


def draw_timeline(generator: np.random.Generator, fps: int) -> Timeline:
    """Return a time course of 1/25 to 1/3 s from onset to offset, with a few neutral frames before and after.

    Onset, apex and offset are three frames, so that below 50 frames per second the shortest course is 2 / fps.
    """
    frames = round(generator.uniform(1 / 25, 1 / 3) * fps)
    frames = min(max(frames, math.ceil(fps / 25), 2), math.floor(fps / 3))
    return _course(generator, frames)


def draw_macro_timeline(generator: np.random.Generator, fps: int) -> Timeline:
    """Return a time course of 1/2 to 4 s from onset to offset, short ones oftener; neutral frames as in the other.

    Example:
        >>> course = draw_macro_timeline(np.random.default_rng(0), 25)
        >>> (course.offset - course.onset) / 25
        1.88
    """
    frames = round(math.exp(generator.uniform(math.log(1 / 2), math.log(4))) * fps)
    return _course(generator, min(max(frames, math.ceil(fps / 2)), 4 * fps))


def _course(generator: np.random.Generator, frames: int) -> Timeline:
    """An expression of this many frames from onset to offset, which mostly rises faster than it fades."""
    rise = min(max(round(frames * generator.uniform(0.3, 0.6)), 1), frames - 1)
    before, after = (int(count) for count in generator.integers(2, 5, size=2))
    return Timeline(before, before + rise, before + frames, before + frames + 1 + after)


class Swing(NamedTuple):
    """A slow oscillation: amplitude, frequency in Hz, phase in radians."""

    amplitude: float
    frequency: float
    phase: float

    def at(self, seconds: float) -> float:
        """Return its value at a time."""
        return self.amplitude * math.sin(2 * math.pi * self.frequency * seconds + self.phase)


def draw_swing(generator: np.random.Generator, amplitude: float) -> Swing:
    """Return an oscillation of at most this amplitude with a period of 0.7 to 3 s: slow beside an expression."""
    share, frequency, phase = generator.uniform((0.3, 1 / 3, 0.0), (1.0, 1.5, 2 * math.pi)).tolist()
    return Swing(amplitude * share, frequency, phase)


class Pose(NamedTuple):
    """Where the head is in the frame: it is enlarged by `zoom`, turned by `turn` radians, then shifted.

    Example:
        >>> pose = Pose(shift_x=0.5, shift_y=0.0, turn=0.0, zoom=2.0)
        >>> x, y = pose.forth(np.array([0.25]), np.array([0.5]))
        >>> x.tolist(), y.tolist(), [back.tolist() for back in pose.back(x, y)]
        ([1.0], [1.0], [[0.25], [0.5]])
    """

    shift_x: float
    shift_y: float
    turn: float
    zoom: float

    def forth(self, x: Points, y: Points) -> tuple[Points, Points]:
        """Return where points of the face at rest are in the frame."""
        cosine, sine = self.zoom * math.cos(self.turn), self.zoom * math.sin(self.turn)
        return cosine * x - sine * y + self.shift_x, sine * x + cosine * y + self.shift_y

    def back(self, x: Points, y: Points) -> tuple[Points, Points]:
        """Return which points of the face at rest are at points of the frame."""
        cosine, sine = math.cos(self.turn) / self.zoom, math.sin(self.turn) / self.zoom
        x, y = x - self.shift_x, y - self.shift_y
        return cosine * x + sine * y, cosine * y - sine * x


@dataclass(frozen=True)
class Head:
    """A pose, and slow swings around it: to the right, downwards (face units), and turning (radians)."""

    pose: Pose
    right: Swing
    down: Swing
    turning: Swing

    def at(self, seconds: float) -> Pose:
        """Return the pose at a time."""
        return self.pose._replace(
            shift_x=self.pose.shift_x + self.right.at(seconds),
            shift_y=self.pose.shift_y + self.down.at(seconds),
            turn=self.pose.turn + self.turning.at(seconds),
        )


def draw_head(generator: np.random.Generator, motion: float) -> Head:
    """Return a pose that is a few percent and degrees off, as face detectors leave it, and swings around it.

    Args:
        generator: Where the randomness comes from.
        motion: Largest amplitude of the swings, in face units and in radians.
    """
    shift_x, shift_y, turn, zoom = generator.uniform((-0.06, -0.06, -0.08, 0.94), (0.06, 0.06, 0.08, 1.06)).tolist()
    swings = [draw_swing(generator, motion) for _ in range(3)]
    return Head(Pose(shift_x, shift_y, turn, zoom), *swings)
