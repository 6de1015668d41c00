"""What verifying finds: one check per promise of a run, with everything that breaks it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

SHOWN = 5
"""How many findings of one check a person is shown; programs get them all."""
AROUND = 60
"""So many characters before the first difference of two long lines are shown."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not what it must be.

    Attributes:
        where: The file and line, or the study, draw or job.
        found: What is there.
        expected: What must be there.
    """

    where: str
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.where}: found {self.found}, expected {self.expected}"


@dataclass(eq=False)
class Check:
    """One promise of a run.

    Attributes:
        name: Short and stable, for programs.
        promise: What must hold.
        checked: How many things were looked at.
        findings: Everything that breaks the promise.
        skipped: Why it could not be checked, or empty.
        left_out: What of it nobody here can check, and why; no fault of the run, which holds all the same.

    Example:
        >>> check = Check("budget", "no choice is over its budget")
        >>> check.expect(3 <= 2, "choices.csv line 2", 3, "at most 2")
        False
        >>> check.verdict, str(check.findings[0])
        ('failed', 'choices.csv line 2: found 3, expected at most 2')
    """

    name: str
    promise: str
    checked: int = 0
    findings: list[Finding] = field(default_factory=list)
    skipped: str = ""
    left_out: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """`failed`, `not checked` or `ok`."""
        if self.findings:
            return "failed"
        return "not checked" if self.skipped or (self.left_out and not self.checked) else "ok"

    @property
    def holds(self) -> bool:
        """Whether nothing breaks the promise, and nothing was skipped that could have been checked."""
        return not self.findings and not self.skipped

    def expect(self, holds: bool, where: str, found: object, expected: object) -> bool:
        """Count one thing looked at, note it if the promise does not hold there, and return whether it does."""
        self.checked += 1
        if not holds:
            self.fail(where, found, expected)
        return holds

    def equal(self, where: str, found: object, expected: object) -> bool:
        """Expect two values to be equal."""
        return self.expect(found == expected, where, found, expected)

    def fail(self, where: str, found: object, expected: object) -> None:
        """Note something that breaks the promise."""
        self.findings.append(Finding(where, _shown(found), _shown(expected)))

    def plain(self) -> dict[str, Any]:
        """Return the check as plain data."""
        return {
            "name": self.name,
            "promise": self.promise,
            "verdict": self.verdict,
            "checked": self.checked,
            "not_checked_because": self.skipped,
            "left_out": list(self.left_out),
            "findings": [vars(finding) for finding in self.findings],
        }


def listed(names: Iterable[str]) -> str:
    """Return some names as a message has them.

    Example:
        >>> listed({"s/2", "s/1"}), listed([])
        ('s/1, s/2', 'nobody')
    """
    return ", ".join(sorted(names)) or "nobody"


def first_difference(name: str, found: str, expected: str) -> Finding:
    r"""Return the first place at which two texts differ; of a long line what is around it.

    Args:
        name: The file.
        found: What is there.
        expected: What must be there; another text.

    Example:
        >>> str(first_difference("a.md", "x\ny = 1", "x\ny = 2"))
        "a.md line 2: found 'y = 1', expected 'y = 2'"
    """
    lines = enumerate(zip_longest(found.split("\n"), expected.split("\n")), start=1)
    number, differing = next((number, pair) for number, pair in lines if pair[0] != pair[1])
    one, other = (text or "" for text in differing)
    pairs = enumerate(zip(one, other, strict=False))
    same = next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))
    start = max(same - AROUND, 0) if max(len(one), len(other)) > 3 * AROUND else 0
    shown = ("no such line" if text is None else repr(text[start : start + 3 * AROUND]) for text in differing)
    return Finding(f"{name} line {number}", *shown)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 300 else f"{text[:297]}..."
