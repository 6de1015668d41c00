"""What the doctor found: facts for programs, lines with verdicts for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Line:
    """One line of the verdict.

    Attributes:
        verdict: `ok`, `note` or `problem`.
        subject: What it is about.
        text: What was found.
        remedy: What to do about a problem, or empty.
    """

    verdict: str
    subject: str
    text: str
    remedy: str = ""


@dataclass(eq=False)
class Diagnosis:
    """What was found.

    Attributes:
        facts: Everything, as plain data by subject.
        lines: The same for people, with verdicts.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether there is no problem."""
        return all(line.verdict != PROBLEM for line in self.lines)

    def add(self, verdict: str, subject: str, text: str, remedy: str = "") -> None:
        """Add a line."""
        self.lines.append(Line(verdict, subject, text, remedy))

    def plain(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"healthy": self.healthy, "lines": [vars(line) for line in self.lines], **self.facts}


def print_diagnosis(found: Diagnosis, say: Callable[[str], None] = click.echo) -> None:
    """Tell a person what was found."""
    width = max(len(line.subject) for line in found.lines)
    for line in found.lines:
        remedy = f". {line.remedy[0].upper()}{line.remedy[1:]}." if line.remedy else ""
        say(f"{line.verdict:<7}  {line.subject:<{width}}  {line.text}{remedy}")
    problems = sum(line.verdict == PROBLEM for line in found.lines)
    say("No problem found." if found.healthy else f"{problems} problem{'s' if problems > 1 else ''} found.")
