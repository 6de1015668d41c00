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


@pytest.mark.parametrize("terminal", [False, True])
def test_a_long_stage_says_now_and_then_how_far_it_is(terminal: bool, tmp_path: Path) -> None:
    stream, now = io.StringIO(), 0.0
    console = Console(file=stream, force_terminal=terminal, width=200)
    with Screen(console, tmp_path / "log.txt", lambda: now) as screen:
        screen.stage("LOSO", 68)
        for number in range(68):
            now = 20.0 * (number + 1)  # after a minute, and then every five
            screen.advance()
    told = [
        "LOSO: 68 to do",
        "LOSO: 3 done in 60 s, 65 to do, about 21.7 min left",
        "LOSO: 18 done in 6.0 min, 50 to do, about 16.7 min left",
        "LOSO: 33 done in 11.0 min, 35 to do, about 11.7 min left",
        "LOSO: 48 done in 16.0 min, 20 to do, about 6.7 min left",
        "LOSO: 63 done in 21.0 min, 5 to do, about 100 s left",
        "LOSO: done in 1360.0 s",
    ]
    logged = (tmp_path / "log.txt").read_text().splitlines()
    assert [line[len("2000-01-01 00:00:00 ") :] for line in logged] == told
    if not terminal:  # where there is one, the bar shows it
        assert stream.getvalue().splitlines() == told


def test_a_stage_that_shrinks_reckons_with_what_is_left(tmp_path: Path) -> None:
    stream, now = io.StringIO(), 0.0
    with Screen(Console(file=stream, width=200), clock=lambda: now) as screen:
        screen.stage("Search", 1520)
        screen.advance()
        screen.resize(30)
        now = 90.0
        screen.advance()
    assert stream.getvalue().splitlines()[-1] == "Search: 2 done in 90 s, 29 to do, about 21.8 min left"
