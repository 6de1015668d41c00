"""What mernas says when something is wrong: subject, rule, value found, remedy.

Every error of mernas derives from `MernasError` and from a builtin, so that callers who have never heard of
mernas can still catch a `ValueError`. An error carries a list of problems, because a user who made three mistakes
wants to hear of three.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Args:
        subject: What is wrong, as the user would name it (`block "convolution", width`).
        rule: What must hold.
        found: The value that breaks the rule, already printable; empty when there is none.
        remedy: What to do about it.

    Example:
        >>> print(Problem("--groups", "must be at least 3", "2", "use --groups 3 or more"))
        --groups: must be at least 3, found 2. Use --groups 3 or more.
    """

    subject: str
    rule: str
    found: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.subject}: {self.rule}"
        if self.found:
            text += f", found {self.found}"
        text += "."
        if self.remedy:
            text += f" {self.remedy[0].upper()}{self.remedy[1:]}."
        return text


class MernasError(Exception):
    """The base of every error that mernas raises on purpose.

    Args:
        problems: One or more problems; a plain string is taken as one.
    """

    def __init__(self, problems: Problem | str | Iterable[Problem | str]) -> None:
        if isinstance(problems, (Problem, str)):
            problems = (problems,)
        self.problems: tuple[Problem | str, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[MernasError], tuple[tuple[Problem | str, ...]]]:
        return (type(self), (self.problems,))


class SpaceError(MernasError, ValueError):
    """A genotype, a space file or a declaration that breaks the rules of the search space."""


class UnknownNameError(MernasError, LookupError):
    """A name that no registry knows; the message gives the nearest known ones."""


class DataError(MernasError, ValueError):
    """Data on disk that is missing, damaged or not what its dataset should be."""


class PlanError(MernasError, ValueError):
    """A plan that contradicts itself, or a run directory that belongs to another plan."""


class CustodyError(MernasError, PermissionError):
    """Something asked for rows or labels that it must not see."""


class UnavailableError(MernasError, RuntimeError):
    """Something that exists in mernas and cannot be had here; the message says what it needs."""


class LedgerError(MernasError, OSError):
    """A ledger that cannot be read or written."""


class RunError(MernasError, RuntimeError):
    """A run that cannot go on: something is wrong with the machine or the whole space, not with one candidate."""


def raise_all(error: type[MernasError], problems: Sequence[Problem | str]) -> None:
    """Raise `error` with all problems at once, or return if there are none.

    Example:
        >>> raise_all(SpaceError, [])
    """
    if problems:
        raise error(problems)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a remedy that names the known names most like `name`.

    Example:
        >>> nearest("convolutoin", ["convolution", "residual"])
        'did you mean "convolution"? Known: convolution, residual'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    listing = f"Known: {', '.join(names)}" if names else "nothing is registered there"
    if close:
        quoted = " or ".join(f'"{match}"' for match in close)
        return f"did you mean {quoted}? {listing}"
    return listing[0].lower() + listing[1:]
