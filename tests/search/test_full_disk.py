"""A disk that fills up in mid-run: one clear message, nothing half-written, and with room again the run goes on."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mernas.components.datasets.clip import Dataset
from mernas.search import run as run_module
from mernas.search.ledger import Ledger
from mernas.search.run import SearchResult, run_search
from mernas.space.errors import DataError, LedgerError

_SPEC = importlib.util.spec_from_file_location("resume", Path(__file__).with_name("test_resume.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
resume = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(resume)

ROOM = "Free some"
"""What the remedy must say."""

# The command line as a user meets it, on the toy clips; `limit` is the largest file that the process may write.
CHILD = """
import importlib.util, resource, sys

conftest, limit, *arguments = sys.argv[1:]
spec = importlib.util.spec_from_file_location("toy", conftest)
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)

from mernas.search import run

run.load_data = lambda *texts, **_: toy.make_toy()
import mernas.cli

if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
sys.argv[1:] = arguments
mernas.cli.main()
"""


def command_line(
    space: Path, folder: Path, small: dict[str, Any], limit: int = 0, **changes: Any
) -> subprocess.CompletedProcess[str]:
    conftest = Path(__file__).resolve().parents[1] / "conftest.py"
    options = {**small, "data": "synthetic", "space": space, "out": folder, **changes}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [sys.executable, "-c", CHILD, str(conftest), str(limit), "search", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def check_message(child: subprocess.CompletedProcess[str], named: str) -> None:
    """Exit code 2 and one message that names the file and the remedy."""
    assert child.returncode == 2, child.stderr
    assert "Traceback" not in child.stderr, child.stderr
    lines = [line for line in child.stderr.splitlines() if line.startswith("mernas: ")]
    assert len(lines) == 1, child.stderr
    assert named in lines[0]
    assert ROOM in lines[0]


def finished_jobs(folder: Path) -> set[str]:
    """The keys in a ledger that must be sound."""
    database = sqlite3.connect(folder / "ledger.sqlite")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    keys = {row[0] for row in database.execute("SELECT key FROM jobs")}
    database.close()
    return keys


def check_resumes(again: Resumed, folder: Path, finished: SearchResult) -> None:
    """With room again the run ends as one that was never disturbed, and nothing finished is run again."""
    check_nothing_half_written(folder)
    before = finished_jobs(folder)
    assert before
    done = again(folder)
    resume.check_same(finished.folder, folder)
    assert len(done) == len(finished_jobs(folder)) - len(before)


def check_nothing_half_written(folder: Path) -> None:
    assert list(folder.rglob("*.part")) == []
    assert not (folder / "driver.txt").exists()


class Resumed:
    """Runs the search again and counts the jobs."""

    def __init__(self, data: Dataset, space: Path, cache: Path, small: dict[str, Any]) -> None:
        self._data, self._space, self._cache, self._small = data, space, cache, small

    def __call__(self, folder: Path, **changes: Any) -> list[str]:
        done: list[str] = []
        run_search(
            self._data,
            space=self._space,
            out=folder,
            cache=self._cache,
            reporter=resume.Counter(done),
            **{**self._small, **changes},
        )
        return done


@pytest.fixture
def again(toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path) -> Resumed:
    return Resumed(toy(), toy_space, tmp_path / "cache", small)


class SmallLedger(Ledger):
    """A ledger whose file may grow by so many pages only."""

    pages = 0

    def __init__(self, path: Path, plan_hash: str) -> None:
        super().__init__(path, plan_hash)
        (size,) = self._database.execute("PRAGMA page_count").fetchone()
        self._database.execute(f"PRAGMA max_page_count = {size + self.pages}")


@pytest.mark.parametrize("pages", [0, 8, 30])
def test_a_ledger_that_is_full_ends_the_run_with_one_message_and_the_run_goes_on_when_there_is_room(
    pages: int, again: Resumed, finished: SearchResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(SmallLedger, "pages", pages)
        patch.setattr(run_module, "Ledger", SmallLedger)
        with pytest.raises(LedgerError) as caught:
            again(folder)
    assert len(caught.value.problems) == 1
    assert str(folder / "ledger.sqlite") in str(caught.value)
    assert ROOM in str(caught.value)
    check_nothing_half_written(folder)
    before = finished_jobs(folder)
    assert bool(before) == (pages > 0)
    done = again(folder)
    resume.check_same(finished.folder, folder)
    assert len(done) == len(finished_jobs(folder)) - len(before)  # nothing that was finished is run again


def test_a_ledger_that_fills_up_while_ray_runs_the_jobs_is_no_other_matter(
    again: Resumed, finished: SearchResult, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(SmallLedger, "pages", 30)
        patch.setattr(run_module, "Ledger", SmallLedger)
        with pytest.raises(LedgerError, match=ROOM):
            again(folder, executor="ray", workers=2)
    check_resumes(again, folder, finished)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system of so many KiB; called again, it gets another size."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a real full disk needs Linux and the right to mount a small file system")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def sized(kibibytes: int) -> Path:
        nonlocal mounted
        options = f"{'remount,' if mounted else ''}size={kibibytes}k"
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], capture_output=True, text=True, check=False
        )
        if made.returncode and not mounted:
            pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
        assert made.returncode == 0, made.stderr
        mounted = True
        return place

    yield sized
    if mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="needs the mount command")
def test_a_disk_that_is_really_full_is_told_in_one_message_and_the_same_command_goes_on_when_there_is_room(
    disk: Callable[[int], Path], again: Resumed, finished: SearchResult, toy_space: Path, small: dict[str, Any]
) -> None:
    folder = disk(1400) / "run"
    check_message(command_line(toy_space, folder, small), str(folder / "ledger.sqlite"))
    check_nothing_half_written(folder)
    disk(20_000)
    before = finished_jobs(folder)
    assert before
    done = again(folder)
    resume.check_same(finished.folder, folder)
    assert len(done) == len(finished_jobs(folder)) - len(before)


@pytest.mark.skipif(shutil.which("mount") is None, reason="needs the mount command")
def test_a_disk_without_room_for_the_tables_leaves_no_half_of_one(
    disk: Callable[[int], Path], again: Resumed, finished: SearchResult, tmp_path: Path
) -> None:
    folder = disk(20_000) / "run"
    shutil.copytree(finished.folder, folder)
    for name in finished.tables.files():
        (folder / name).unlink()
    (folder / "front.png").unlink()
    kept = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with sqlite3.connect(folder / "ledger.sqlite") as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    used = sum(-(-path.stat().st_size // 4096) * 4 for path in folder.rglob("*") if path.is_file())
    disk(used + 150)
    with pytest.raises(DataError, match=ROOM) as caught:
        again(folder)
    assert str(folder) in str(caught.value)
    check_nothing_half_written(folder)
    for path in folder.iterdir():
        whole = finished.folder / path.name
        if path.suffix == ".csv":
            assert path.read_bytes() == whole.read_bytes(), path.name
        elif path.name in kept and path.suffix == ".yaml":
            assert path.read_bytes() == kept[path.name], path.name
    disk(20_000)
    assert again(folder) == []
    resume.check_same(finished.folder, folder)


def test_a_limit_on_the_size_of_files_is_told_in_one_message(
    again: Resumed, finished: SearchResult, toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows knows no such limit")
    folder = tmp_path / "run"
    child = command_line(toy_space, folder, small, limit=700_000)
    check_message(child, str(folder / "ledger.sqlite"))
    check_resumes(again, folder, finished)


def test_a_run_directory_without_any_room_is_told_in_one_message(
    toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    if sys.platform == "win32":
        pytest.skip("Windows knows no such limit")
    folder = tmp_path / "run"
    check_message(command_line(toy_space, folder, small, limit=1000), str(folder))
    assert list(folder.rglob("*.part")) == []
