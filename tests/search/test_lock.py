"""One driver per run directory: a second one is told who holds it; a killed one holds nothing."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mernas.components.datasets.clip import Dataset
from mernas.search.lock import sole_driver
from mernas.search.run import SearchResult, run_search
from mernas.space.errors import LedgerError, MernasError

HOLDER = """
import sys, time
from pathlib import Path
from mernas.search.lock import sole_driver
with sole_driver(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_driver_is_refused_and_told_who_holds_the_run_and_a_killed_one_holds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(LedgerError, match=rf"in use.*process {holder.pid} on "), sole_driver(tmp_path):
            raise AssertionError("two drivers at once")
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / "driver.txt").exists()  # what the dead one wrote of itself is stale, and in nobody's way
    with sole_driver(tmp_path):
        assert str(holder.pid) not in (tmp_path / "driver.txt").read_text()
    assert not (tmp_path / "driver.txt").exists()


def test_the_lock_ends_with_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), sole_driver(tmp_path):
        raise ZeroDivisionError
    with sole_driver(tmp_path):
        pass


@pytest.fixture(params=[errno.EACCES, errno.EROFS, errno.ENOLCK])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder in which no file can be made; root is refused nothing, so the lock itself refuses."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    return os.strerror(request.param)


def test_a_folder_that_takes_no_lock_is_told_in_one_message(no_locks: str, tmp_path: Path) -> None:
    refused = pytest.raises(LedgerError, match=rf"cannot be written, found {no_locks}\..*with --keep")
    with refused, sole_driver(tmp_path, "--keep"):
        raise AssertionError("held without a lock")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("no_locks")
def test_a_finished_run_that_cannot_be_written_gives_its_result_to_the_same_command_and_is_left_as_it_is(
    finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    before = contents(folder)
    again = run_search(toy(), space=toy_space, out=folder, **small)
    for name, table in finished.tables.files().items():
        assert again.tables.files()[name].to_csv() == table.to_csv(), name
    assert contents(folder) == before


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("change", ["another plan", "unfinished", "audit"])
def test_any_other_run_that_cannot_be_written_is_refused(
    change: str, finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any],
    tmp_path: Path,
) -> None:  # fmt: skip
    folder = Path(shutil.copytree(finished.folder, tmp_path / "run"))
    changes = {"another plan": {"trials": 6}, "audit": {"audit": "full"}}.get(change, {})
    if change == "unfinished":
        (folder / "front.csv").unlink()
    with pytest.raises(MernasError, match="cannot be written"):
        run_search(toy(), space=toy_space, out=folder, **{**small, **changes})
