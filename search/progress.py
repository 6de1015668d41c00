"""Progress: a bar with an estimate on a terminal, one line per stage elsewhere, and everything in log.txt."""

from __future__ import annotations

import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as Remaining


class Screen:
    """Tells the user what goes on; used as a context manager.

    Args:
        console: Where to; standard error by default, so that standard output stays for results.
        log: A file that gets every line with its time, or None.
    """

    def __init__(self, console: Console | None = None, log: Path | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._log = log
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._title = ""
        self._left = 0
        self._since = 0.0

    def __enter__(self) -> Screen:
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
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
        """A stage of `total` steps begins."""
        self._title, self._left, self._since = title, total, time.perf_counter()
        if self._progress is not None:
            self._task = self._progress.add_task(title, total=total)
        else:
            self.console.print(f"{title}: {total} to do", highlight=False)
        self._write(f"{title}: {total} to do")

    def advance(self) -> None:
        """One step of the stage is done."""
        self._left -= 1
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)
        if self._left == 0:
            text = f"{self._title}: done in {time.perf_counter() - self._since:.1f} s"
            if self._progress is None:
                self.console.print(text, highlight=False)
            self._write(text)

    def say(self, text: str) -> None:
        """Something that the user should know."""
        (self._progress.console if self._progress is not None else self.console).print(text, highlight=False)
        self._write(text)

    def _write(self, text: str) -> None:
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
