"""What the people of the synthetic dataset do: which class a clip shows, by which action units, how strongly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mernas.components.datasets.synthetic_face import Face
from mernas.components.datasets.synthetic_muscles import PULLS, Activity, Field, field_of, scaled

CLASSES = ("negative", "positive", "surprise")
"""The classes of the field's common benchmark."""


@dataclass(frozen=True)
class Expression:
    """A class: action units that always act in it, and those that may, with their probabilities."""

    always: tuple[str, ...]
    sometimes: tuple[tuple[str, float], ...]


EXPRESSIONS: dict[str, Expression] = {
    "negative": Expression(("4",), (("9", 0.5), ("15", 0.5))),
    "positive": Expression(("12",), (("6", 0.6), ("25", 0.2))),
    "surprise": Expression(("1", "2"), (("25", 0.5), ("26", 0.4))),
}

STRAY = 0.5
"""How often an action unit that belongs to another class acts too: faces are not as tidy as their labels."""

BLINK = 0.2
"""How often the person blinks."""


def deal_emotions(generator: np.random.Generator, clips: int) -> tuple[str, ...]:
    """Return the class of each clip of a person, shuffled.

    The classes are dealt evenly, then two clips in five are dealt again at random: people differ in what they show.
    """
    deck = [
        CLASSES[int(generator.integers(len(CLASSES)))] if generator.random() < 0.4 else CLASSES[clip % len(CLASSES)]
        for clip in range(clips)
    ]
    return tuple(deck[card] for card in generator.permutation(clips))


def draw_activities(generator: np.random.Generator, emotion: str) -> dict[str, Activity]:
    """Return the action units of one clip with their activities in [0, 1], one side weaker than the other.

    Example:
        >>> sorted(draw_activities(np.random.default_rng(3), "surprise"))
        ['1', '2', '25', '26']
    """
    expression = EXPRESSIONS[emotion]
    activities = {unit: _activity(generator, 0.7, 1.0) for unit in expression.always}
    for unit, probability in expression.sometimes:
        if generator.random() < probability:
            activities[unit] = _activity(generator, 0.4, 1.0)
    if generator.random() < STRAY:
        others = [unit for name in CLASSES if name != emotion for unit in EXPRESSIONS[name].always]
        activities[others[int(generator.integers(len(others)))]] = _activity(generator, 0.3, 0.9)
    if generator.random() < BLINK:
        activities["45"] = _activity(generator, 0.3, 0.9)
    return activities


def draw_resting(generator: np.random.Generator, face: Face, largest: float) -> Field:
    """Return how the face looks before anything moves, as a displacement field of at most `largest` face units.

    A resting face is a little frowning or smiling already, as much as an expression would make it. That is why one
    frame tells so little, and the motion between two so much.
    """
    activities = {}
    for unit in PULLS:
        both, left, right = generator.normal(size=3).tolist()
        activities[unit] = Activity(both + 0.5 * left, both + 0.5 * right)
    return scaled(field_of(face, activities), largest)


def _activity(generator: np.random.Generator, low: float, high: float) -> Activity:
    strong = float(generator.uniform(low, high))
    weak = strong * float(generator.uniform(0.5, 1.0))
    return Activity(strong, weak) if generator.random() < 0.5 else Activity(weak, strong)
