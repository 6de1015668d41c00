"""The grid: every point of a discretised space once, in one fixed order that spreads over the whole tree.

The order needs no list of all points, so the space may be as large as it likes. At every question the answers take
turns: each visit to the same question takes the next answer that is not used up, and a question met for the first time
begins at an answer that a hash of everything answered before picks. However few points are taken, the first questions
are then answered evenly and the later ones all over, where an odometer would turn only its last wheel.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterator, Sequence

from mernas.space.genotype import Genotype
from mernas.space.parameters import Primitive
from mernas.space.tree import SearchSpace


class GridOrder:
    """The points of a space in the grid's order, made as they are asked for and then remembered.

    Whole numbers of at most `whole` values and named choices keep all their values. Wider ranges and real numbers take
    `points` values, both ends included, at equal distances, or at equal ratios where the range is logarithmic. Points
    that are equal once they are canonical are not told apart here; a search takes the second for a duplicate.

    Args:
        space: What is enumerated.
        points: Values of a wide range.
        whole: The widest range of whole numbers that is taken whole.
    """

    def __init__(self, space: SearchSpace, points: int, whole: int) -> None:
        self._space = space
        self._points = points
        self._whole = whole
        self._root = _Turns(("the space",), 0)
        self._made: list[Genotype] = []

    def after(self, taken: int) -> Iterator[Genotype]:
        """Yield the points that follow the first `taken` ones, to the last of the grid."""
        while True:
            while len(self._made) <= taken and self._root.open:
                walk = _Walk(self._root, self._points, self._whole)
                self._made.append(self._space.suggest(walk))
                walk.close()
            if len(self._made) <= taken:
                return
            yield self._made[taken]
            taken += 1


class _Turns:
    """The answers of one question that lead to points not yet taken, the next one first."""

    def __init__(self, options: Sequence[Primitive], start: int) -> None:
        turned = [*options[start:], *options[:start]]
        self.open: deque[_Turn] = deque(_Turn(option) for option in turned)


class _Turn:
    """One answer, and the question that follows it; None while that is not known, or if none does."""

    def __init__(self, option: Primitive) -> None:
        self.option = option
        self.next: _Turns | None = None


class _Walk:
    """A trial that takes the next answer of every question that it is asked."""

    def __init__(self, root: _Turns, points: int, whole: int) -> None:
        self._points = points
        self._whole = whole
        self._path = [root]
        self._trace = hashlib.sha256()

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return the next whole number."""
        every = range(low, high + 1, step)
        if len(every) <= self._whole:
            return int(self._take(name, every))
        near = {min(every, key=lambda one: abs(one - value)) for value in self._between(low, every[-1], log)}
        return int(self._take(name, sorted(near)))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return the next number."""
        return float(self._take(name, self._between(low, high, log)))

    def suggest_categorical(self, name: str, choices: tuple[Primitive, ...]) -> Primitive:
        """Return the next choice."""
        return self._take(name, choices)

    def close(self) -> None:
        """Strike out the point, and every answer that leads to no other."""
        for turns in reversed(self._path):
            turn = turns.open.popleft()
            if turn.next is not None and turn.next.open:
                turns.open.append(turn)

    def _between(self, low: float, high: float, log: bool) -> list[float]:
        if log:
            return [low, *(math.exp(one) for one in self._between(math.log(low), math.log(high), False)[1:-1]), high]
        gaps = self._points - 1
        return [low, *(low + (high - low) * place / gaps for place in range(1, gaps)), high]

    def _take(self, name: str, options: Sequence[Primitive]) -> Primitive:
        turn = self._path[-1].open[0]
        self._trace.update(f"{name}\n".encode())
        if turn.next is None:
            turn.next = _Turns(options, int.from_bytes(self._trace.digest()[:8], "little") % len(options))
        self._path.append(turn.next)
        answer = turn.next.open[0].option
        self._trace.update(f"{answer!r}\n".encode())
        return answer
