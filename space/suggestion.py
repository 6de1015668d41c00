"""Trials that need no optimiser: plain random draws, and answers that were recorded before."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import Primitive


class RandomTrial:
    """Answers every question at random, uniformly, or uniformly in the logarithm where ratios matter.

    Args:
        seed: Whatever `random.Random` takes; equal seeds give equal answers in every process.

    Example:
        >>> RandomTrial(0).suggest_categorical("fusion", ("sum", "concatenation")) in ("sum", "concatenation")
        True
    """

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number in [low, high]."""
        if log:
            drawn = math.exp(self._random.uniform(math.log(low), math.log(high + 1)))
            return min(max(int(drawn), low), high)
        return self._random.randrange(low, high + 1, step)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number in [low, high]."""
        if log:
            return min(max(math.exp(self._random.uniform(math.log(low), math.log(high))), low), high)
        return self._random.uniform(low, high)

    def suggest_categorical(self, name: str, choices: tuple[Primitive, ...]) -> Primitive:
        """Return one of the choices."""
        return self._random.choice(choices)


class DealtTrial(RandomTrial):
    """Answers at random, but deals out what a stream looks at instead of drawing it.

    Every question about a stream's input has its choices in an order that the seed shuffles, and the trial of a turn
    takes the choice of that number, beginning again when all have been taken: a Latin hypercube over the inputs.

    Args:
        seed: Seeds all other answers.
        dealer: Seeds the orders; the same for all turns.
        turn: Whose turn it is, from 0.

    Example:
        >>> trials = [DealtTrial(f"attempt {turn}", "deck", turn) for turn in range(4)]
        >>> sorted(one.suggest_categorical("streams.0.input.flow.centre", ("none", "median")) for one in trials)
        ['median', 'median', 'none', 'none']
    """

    def __init__(self, seed: int | str, dealer: int | str, turn: int) -> None:
        super().__init__(seed)
        self._dealer = dealer
        self._turn = turn

    def suggest_categorical(self, name: str, choices: tuple[Primitive, ...]) -> Primitive:
        """Return the choice whose turn it is, or a random one where the question is not about an input."""
        if ".input" not in name:
            return super().suggest_categorical(name, choices)
        order = list(choices)
        random.Random(f"{self._dealer} {name}").shuffle(order)
        return order[self._turn % len(order)]


class RecordedTrial:
    """Gives recorded answers, by dotted name.

    Args:
        answers: The answers.
    """

    def __init__(self, answers: Mapping[str, Primitive]) -> None:
        self._answers = answers

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return the recorded whole number."""
        return int(self._answer(name))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return the recorded number."""
        return float(self._answer(name))

    def suggest_categorical(self, name: str, choices: tuple[Primitive, ...]) -> Primitive:
        """Return the recorded choice."""
        return self._answer(name)

    def _answer(self, name: str) -> Primitive:
        if name not in self._answers:
            raise SpaceError(Problem(name, "no answer was recorded", "", "the record belongs to another space"))
        return self._answers[name]
