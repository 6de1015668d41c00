"""The two series of clips of the synthetic dataset: micro-expressions, and macro-expressions of other people."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mernas.components.datasets.synthetic_time import Timeline, draw_macro_timeline, draw_timeline


class Series(NamedTuple):
    """What tells one series of clips from another; all else is drawn alike.

    Attributes:
        dataset: Name of the dataset.
        letter: Subjects are called by it and their number.
        first_stream: Number of its first random stream: no two series share one, so they show different people.
        intensity: Largest displacement of the skin, relative to the size of the frame.
        weakest: Share of it that the weakest clip of the most expressive person shows.
        fps: Frames per second.
        draw_timeline: Draws when an expression begins, peaks and ends.
    """

    dataset: str
    letter: str
    first_stream: int
    intensity: float
    weakest: float
    fps: int
    draw_timeline: Callable[[np.random.Generator, int], Timeline]


def micro(intensity: float, fps: int) -> Series:
    """Return the series of micro-expressions: faint, and over within a third of a second."""
    return Series("synthetic", "s", 0, intensity, 0.25, fps, draw_timeline)


# As strongly as the displacement fields of every face can be undone, and filmed by an ordinary camera.
MACRO = Series("synthetic-macro", "m", 5, 0.04, 0.5, 25, draw_macro_timeline)
"""Expressions that everybody sees: about four times as large as micro-expressions by default, and of 1/2 to 4 s."""
