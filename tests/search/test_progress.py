"""What the user is told: lines where there is no terminal, and everything in the log."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from mernas.search.progress import Screen


@pytest.mark.parametrize("terminal", [False, True])
def test_stages_are_told_and_logged(terminal: bool, tmp_path: Path) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100)
    with Screen(console, tmp_path / "log.txt") as screen:
        screen.stage("Round 1 of 2", 2)
        screen.advance()
        screen.say("a candidate failed")
        screen.advance()
    shown, logged = stream.getvalue(), (tmp_path / "log.txt").read_text().splitlines()
    assert "Round 1 of 2" in shown
    assert "a candidate failed" in shown
    assert ("2/2" in shown) == terminal
    assert ["2 to do" in logged[0], "failed" in logged[1], "done in" in logged[2]] == [True] * 3


@pytest.mark.parametrize("terminal", [False, True])
def test_square_brackets_are_text_and_no_markup(terminal: bool) -> None:
    stream = io.StringIO()
    with Screen(Console(file=stream, force_terminal=terminal, width=100)) as screen:
        screen.stage("LOSO of [red]x", 1)
        screen.say("install mernas[onnx]")
        screen.advance()
    assert "install mernas[onnx]" in stream.getvalue()
    assert "[red]x" in stream.getvalue()
