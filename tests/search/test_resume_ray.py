"""A driver of Ray that is killed with kill -9: the serial executor goes on with its run, and nothing of it is left."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mernas.components.datasets.clip import Dataset
from mernas.search.run import SearchResult, run_search

_SPEC = importlib.util.spec_from_file_location("resume", Path(__file__).with_name("test_resume.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
resume = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(resume)


def running(mark: bytes) -> dict[int, str]:
    """The commands of all processes that have inherited a mark in their environment, zombies not counted."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:  # it has just ended
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc to see what runs")
def test_a_killed_driver_of_ray_takes_its_workers_along_and_its_run_is_resumed_serially(
    finished: SearchResult, toy: Callable[..., Dataset], toy_space: Path, small: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    conftest = Path(__file__).resolve().parents[1] / "conftest.py"
    settings = json.dumps({**small, "executor": "ray", "workers": 2})
    arguments = [conftest, toy_space, folder, tmp_path / "cache", settings, "job", "before", 60]
    mark = f"MERNAS_TEST_RUN={tmp_path}"
    with tempfile.TemporaryDirectory(prefix="ray") as scratch:  # a short path: Ray's sockets lie in it
        environment = {**os.environ, "RAY_TMPDIR": scratch, **dict([mark.split("=", 1)])}
        command = [sys.executable, "-c", resume.CHILD, *map(str, arguments)]
        with (tmp_path / "child.txt").open("w") as output:
            killed = subprocess.run(
                command, env=environment, stdout=output, stderr=output, timeout=120, check=False
            ).returncode
        assert killed == -signal.SIGKILL, (tmp_path / "child.txt").read_text()
        before = {row[0]: row for row in resume.contents(folder)["jobs"]}
        assert len(before) == 59
        done: list[str] = []
        run_search(toy(), space=toy_space, out=folder, cache=tmp_path / "cache", reporter=resume.Counter(done), **small)
        resume.check_same(finished.folder, folder)
        after = {row[0]: row for row in resume.contents(folder)["jobs"]}
        assert len(done) == len(after) - len(before)  # nothing that was finished is run again
        assert all(after[key] == row for key, row in before.items())
        # Ray's agents end a while after the rest of Ray; no worker may outlive its driver by more than some seconds.
        until = time.monotonic() + 30
        while (left := {own for own in running(mark.encode()).values() if "Agent" not in own}) and (
            time.monotonic() < until
        ):
            time.sleep(0.2)
        assert left == set()
