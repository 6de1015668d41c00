"""Values that were used lately: together they take at most so many bytes, and those used longest ago go first."""

from __future__ import annotations

from collections.abc import Collection
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Keeps values by name under a bound in bytes.

    Args:
        most: So many bytes do the values take at most, beside those that are needed at the time.

    Example:
        >>> recent = Recent[str](most=10)
        >>> for name in "abc":
        ...     recent.keep(name, name.upper(), size=4)
        >>> recent.get("a"), recent.get("b"), recent.get("c"), recent.size
        (None, 'B', 'C', 8)
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[str, tuple[Value, int]] = {}  # in the order of their last use

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def size(self) -> int:
        """How many bytes the values take together."""
        return sum(size for _, size in self._kept.values())

    def get(self, name: str) -> Value | None:
        """Return a value, which counts as a use, or None if there is none of that name any more."""
        if name not in self._kept:
            return None
        self._kept[name] = self._kept.pop(name)
        return self._kept[name][0]

    def keep(self, name: str, value: Value, size: int, needed: Collection[str] = ()) -> None:
        """Keep a value, in the place of one of the same name, and drop what goes beyond the bound.

        Args:
            name: Its name.
            value: The value.
            size: How many bytes it takes.
            needed: Names of values that must stay, however many bytes they take; the one that is given stays as well.
        """
        self._kept.pop(name, None)
        self._kept[name] = (value, size)
        beyond = self.size - self._most
        for old in [old for old in self._kept if old != name and old not in needed]:
            if beyond <= 0:
                return
            beyond -= self._kept.pop(old)[1]
