"""What verifying finds: one check per promise of a run, with everything that breaks it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SHOWN = 5
"""How many findings of one check a person is shown; programs get them all."""


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

    @property
    def verdict(self) -> str:
        """`failed`, `not checked` or `ok`."""
        if self.findings:
            return "failed"
        return "not checked" if self.skipped else "ok"

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
            "findings": [vars(finding) for finding in self.findings],
        }


def listed(names: Iterable[str]) -> str:
    """Return some names as a message has them.

    Example:
        >>> listed({"s/2", "s/1"}), listed([])
        ('s/1, s/2', 'nobody')
    """
    return ", ".join(sorted(names)) or "nobody"


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 300 else f"{text[:297]}..."
