"""How the clips of the synthetic dataset pass: when an expression begins, peaks and ends, and how the head moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
SHIFT=.05
TURN=.06
ZOOM=.05


@dataclass(frozen=True)
class Timeline:
    """When an expression begins, peaks and ends, as frame numbers, and how many frames there are."""

    onset: int
    apex: int
    offset: int
    length: int

    def strength(self, frame: int) -> float:
        """Return the share of the displacement at a frame: 0 up to the onset and from the offset on, 1 at the apex.

        Example:
            >>> [Timeline(1, 3, 7, 9).strength(frame) for frame in range(9)]
            [0.0, 0.0, 0.5, 1.0, 0.84375, 0.5, 0.15625, 0.0, 0.0]
        """
        if frame <= self.apex:
            share = (frame - self.onset) / (self.apex - self.onset)
        else:
            share = (self.offset - frame) / (self.offset - self.apex)
        share = min(max(share, 0.0), 1.0)
        return share * share * (3 - 2 * share)


def draw_timeline(generator: np.random.Generator, fps: float) -> Timeline:
    """Return a time course that lasts 1/25 to 1/3 s from onset to offset, with a few neutral frames around it.

    Two frames is the least that holds an onset, an apex and an offset: below 50 frames per second the shortest
    expressions are therefore longer than 1/25 s.
    """
    frames = round(generator.uniform(1 / 25, 1 / 3) * fps)
    frames = min(max(frames, math.ceil(fps / 25), 2), math.floor(fps / 3))
    onset = int(generator.integers(2, 5))
    apex = onset + min(max(round(frames * generator.uniform(0.3, 0.6)), 1), frames - 1)
    return Timeline(onset, apex, onset + frames, onset + frames + 1 + int(generator.integers(2, 5)))


class Swing(NamedTuple):
    """A slow oscillation: amplitude, frequency in Hz, and phase in radians."""

    amplitude: float
    frequency: float
    phase: float

    def at(self, seconds: float) -> float:
        """Return its value at a time."""
        return self.amplitude * math.sin(2 * math.pi * self.frequency * seconds + self.phase)


def draw_swing(generator: np.random.Generator, amplitude: float) -> Swing:
    """Return an oscillation of up to `amplitude` with a period of 0.7 to 3 s."""
    return Swing(
        amplitude * float(generator.uniform(0.3, 1.0)),
        float(generator.uniform(1 / 3, 1.5)),
        float(generator.uniform(0, 2 * math.pi)),
    )


@dataclass(frozen=True)
class Head:
    """Where the head is: a fixed pose (shift in face units, turn in radians, zoom) and slow swings around it."""

    shift_x: float
    shift_y: float
    turn: float
    zoom: float
    swings: tuple[Swing, Swing, Swing]

    def pose(self, seconds: float) -> NDArray[np.float64]:
        """Return the pose at a time as an affine matrix (2, 3) from the face at rest to the frame."""
        x, y, turn = (swing.at(seconds) for swing in self.swings)
        cosine, sine = self.zoom * math.cos(self.turn + turn), self.zoom * math.sin(self.turn + turn)
        return np.array([[cosine, -sine, self.shift_x + x], [sine, cosine, self.shift_y + y]])


def draw_head(generator: np.random.Generator, motion: float) -> Head:
    """Return a pose that is off by a few percent and degrees, as face detectors leave it, and its motion.

    Args:
        generator: Where the randomness comes from.
        motion: Largest shift from the pose in face units, and largest turn from it in radians.
    """
    return Head(
        shift_x=float(generator.uniform(-SHIFT, SHIFT)),
        shift_y=float(generator.uniform(-SHIFT, SHIFT)),
        turn=float(generator.uniform(-TURN, TURN)),
        zoom=float(generator.uniform(1-ZOOM, 1+ZOOM)),
        swings=(draw_swing(generator, motion), draw_swing(generator, motion), draw_swing(generator, motion)),
    )


def transform(matrix: NDArray[np.float64], x: Map, y: Map) -> tuple[Map, Map]:
    """Return points moved by an affine matrix (2, 3)."""
    (a, b, c), (d, e, f) = matrix.tolist()
    return a * x + b * y + c, d * x + e * y + f


def inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine matrix (2, 3) that undoes another.

    Example:
        >>> inverse(np.array([[2.0, 0.0, 4.0], [0.0, 2.0, 6.0]])).tolist()
        [[0.5, 0.0, -2.0], [0.0, 0.5, -3.0]]
    """
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])


