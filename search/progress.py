"""Progress: a bar with an estimate on a terminal, a line now and then elsewhere, and everything in log.txt."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining

from mernas.search.duration import format_duration

FIRST_LINE, NEXT_LINES = 60.0, 300.0
"""Where there is no bar, how far a stage is gets told after so many seconds, and then every so many."""


@dataclass
class _Stage:
    title: str
    left: int
    since: float
    next_line: float
    bar: TaskID | None
    done: int = 0


class Screen:
    """Tells the user what goes on; used as a context manager.

    Args:
        console: Where to; standard error by default, so that standard output stays for results.
        log: A file that gets every line with its time, or None.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        console: Console | None = None,
        log: Path | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.console = console or Console(stderr=True)
        self._log = log
        self._clock = clock
        self._progress: Progress | None = None
        self._stages: list[_Stage] = []

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left:"),
                Remaining(),
                console=self.console,
            )
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def stage(self, title: str, total: int) -> None:
        """A stage of `total` steps begins; if it begins inside another one, that one goes on when this one is done."""
        bar = self._progress.add_task(title, total=total) if self._progress is not None else None
        now = self._clock()
        self._stages.append(_Stage(title, total, now, now + FIRST_LINE, bar))
        self._tell(f"{title}: {total:,} to do")

    def resize(self, left: int) -> None:
        """The stage turns out to have so many steps left."""
        if not self._stages:
            return
        stage = self._stages[-1]
        stage.left = left
        if self._progress is not None and stage.bar is not None:
            done = self._progress.tasks[self._progress.task_ids.index(stage.bar)].completed
            self._progress.update(stage.bar, total=done + left)
        if left == 0:
            self._end()

    def advance(self) -> None:
        """One step of the stage is done."""
        if not self._stages:
            return
        stage = self._stages[-1]
        stage.left -= 1
        stage.done += 1
        if self._progress is not None and stage.bar is not None:
            self._progress.advance(stage.bar)
        now = self._clock()
        if stage.left == 0:
            self._end()
        elif now >= stage.next_line:
            stage.next_line = now + NEXT_LINES
            taken = now - stage.since
            rest = f"about {format_duration(taken * stage.left / stage.done)} left"
            self._tell(f"{stage.title}: {stage.done:,} done in {format_duration(taken)}, {stage.left:,} to do, {rest}")

    def _end(self) -> None:
        stage = self._stages.pop()
        self._tell(f"{stage.title}: done in {self._clock() - stage.since:.1f} s")

    def _tell(self, text: str) -> None:
        """Something that a bar shows."""
        if self._progress is None:
            self.console.print(text, highlight=False, markup=False)
        self._write(text)

    def say(self, text: str) -> None:
        """Something that the user should know."""
        (self._progress.console if self._progress is not None else self.console).print(
            text, highlight=False, markup=False
        )
        self._write(text)

    def _write(self, text: str) -> None:
        if self._log is not None:
            # On a full disk it is the ledger that says so, and stops the run with a remedy.
            with contextlib.suppress(OSError), self._log.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
