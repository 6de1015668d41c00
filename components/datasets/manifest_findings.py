"""What is found in a manifest: every mistake with its line, told by kind so that one kind cannot bury another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from mernas.space.errors import Problem

SHOWN = 5
"""So many mistakes of one kind in one column are told in full; of the others, how many and where."""

LISTED = 10
"""So many line numbers are listed."""

PATH_LENGTH = 500
"""So much of a path is told; a path that is cut helps nobody."""


@dataclass(eq=False)
class Findings:
    """Mistakes, which make a manifest unusable, and notes, which do not.

    Attributes:
        name: How messages call the manifest.
        notes: What was assumed, or what is worth a look.

    Example:
        >>> findings = Findings("clips.csv")
        >>> findings.mistake(4, "fps", "sign", "must be above 0", "-25", "write frames per second, or nothing")
        >>> print(findings.problems()[0])
        clips.csv, line 4, fps: must be above 0, found -25. Write frames per second, or nothing.
    """

    name: str
    notes: list[str] = field(default_factory=list)
    _found: defaultdict[tuple[str, str], list[tuple[int, Problem]]] = field(default_factory=lambda: defaultdict(list))

    def mistake(
        self, line: int | None, column: str, kind: str, rule: str, found: str = "", remedy: str = "", after: str = ""
    ) -> None:
        """Add a mistake.

        Args:
            line: Line of the manifest, counted from 1; None for what concerns all of it.
            column: The column, or empty.
            kind: Mistakes of one kind and column are counted together.
            rule: What must hold.
            found: What was found instead; anything printable.
            remedy: What to do about it.
            after: What the subject is followed by, such as the name of a file.
        """
        places = [self.name, "" if line is None else f"line {line}", shortened(column), shortened(after, PATH_LENGTH)]
        subject = ", ".join(place for place in places if place)
        self._found[column, kind].append((line or 0, Problem(subject, rule, shortened(found), remedy)))

    def problems(self) -> list[Problem]:
        """Return all mistakes by line, and after them how many more of a kind there are."""
        told: list[tuple[int, Problem]] = []
        more: list[Problem] = []
        for (column, _), places in self._found.items():
            told += places[:SHOWN]
            if rest := [line for line, _ in places[SHOWN:]]:
                subject = f"{self.name}, {shortened(column)}" if column else self.name
                rule = f"{len(rest)} more like that of line {places[0][0]}"
                more.append(Problem(subject, rule, "", f"look at {lines(rest)}"))
        return [problem for _, problem in sorted(told, key=lambda place: place[0])] + more


def lines(numbers: Sequence[int]) -> str:
    """Return line numbers for people, the first few of many.

    Example:
        >>> lines([3]), lines([3, 5])
        ('line 3', 'lines 3, 5')
    """
    listed = ", ".join(map(str, numbers[:LISTED]))
    more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
    return f"line{'s' if len(numbers) > 1 else ''} {listed}{more}"


def shortened(text: str, length: int = 80) -> str:
    r"""Return a cell as it can be printed: on one line, without control signs, and not too long.

    Example:
        >>> shortened("a\nb")
        'a\\nb'
    """
    plain = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)
    return plain if len(plain) <= length else f"{plain[: length - 1]}…"
