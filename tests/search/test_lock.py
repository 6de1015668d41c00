"""One driver per run directory: a second one is told who holds it; a killed one holds nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mernas.search.lock import sole_driver
from mernas.space.errors import LedgerError

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
