"""Who tells the user what goes on: the protocol, and the one that says nothing."""

from __future__ import annotations

from typing import Protocol


class Reporter(Protocol):
    """Tells the user what goes on."""

    def stage(self, title: str, total: int) -> None:
        """A stage of `total` steps begins; if it begins inside another one, that one goes on when this one is done."""

    def resize(self, left: int) -> None:
        """The stage turns out to have so many steps left."""

    def advance(self) -> None:
        """One step of the stage is done."""

    def say(self, text: str) -> None:
        """Something that the user should know."""


class Silent:
    """A reporter that says nothing."""

    def stage(self, title: str, total: int) -> None:
        """Say nothing."""

    def resize(self, left: int) -> None:
        """Say nothing."""

    def advance(self) -> None:
        """Say nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""
