"""The ledger: what is written whole, what is refused, and what comes back."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mernas.components  # noqa: F401
from mernas.evaluation.jobs import JobKey, Outcome
from mernas.search.ledger import ACCEPTED, INFEASIBLE, Draw, Ledger
from mernas.search.reading_only import reading_only
from mernas.space.errors import LedgerError, PlanError
from mernas.space.presets import load_preset

KEY = JobKey("aa", ("toy/1", "toy/2"), 0, "cpu, 1 thread, single folds")
ROWS = np.array([1, 4, 7])


def outcome(**changes: object) -> Outcome:
    probabilities = np.arange(9, dtype=np.float64).reshape(3, 3) / 36
    epochs = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.int8)
    made = {"key": KEY.hash, "probabilities": probabilities, "epoch_predictions": epochs, "seconds": 1.5} | changes
    return Outcome(**made)  # type: ignore[arg-type]  # a test's shorthand


def test_a_job_comes_back_with_the_same_bits(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", "plan")
    ledger.add_job(KEY, outcome(), ROWS, ["toy/3", "toy/3", "toy/4"])
    ledger.close()
    again = Ledger(tmp_path / "ledger.sqlite", "plan")
    record = again.job(KEY)
    assert record is not None
    assert record.rows.tolist() == ROWS.tolist()
    assert record.probabilities is not None
    assert record.probabilities.tobytes() == outcome().probabilities.tobytes()  # type: ignore[union-attr]
    assert record.epoch_predictions is not None
    assert record.epoch_predictions.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert again.finished() == {KEY.hash}
    read = sqlite3.connect(tmp_path / "ledger.sqlite").execute("SELECT read FROM jobs").fetchone()
    assert read == ('["toy/3", "toy/4"]',)


def test_a_failed_job_comes_back_with_its_name(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", "plan")
    ledger.add_job(KEY, outcome(probabilities=None, epoch_predictions=None, failure="not-finite: x"), ROWS, [])
    record = ledger.job(KEY)
    assert record is not None
    assert record.probabilities is None
    assert record.failure == "not-finite: x"


def test_a_batch_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", "plan")
    genotype = load_preset("ststnet").genotype
    good = Draw("0", 0, 0, 0, ACCEPTED, "preset ststnet", genotype.hash, 1683, {"a": 1, "b": True, "c": "x"})
    ledger.add_batch([good], [(genotype, 1683)])
    clash = Draw("0", 0, 1, 0, INFEASIBLE, "tpe", genotype.hash, None, {})
    fresh = Draw("0", 1, 1, 0, ACCEPTED, "tpe", genotype.hash, 1683, {})
    with pytest.raises(LedgerError, match="cannot be written"):
        ledger.add_batch([fresh, clash], [])
    assert ledger.draws("0") == [good]
    assert ledger.genotype(genotype.hash) == genotype


def test_a_finished_job_is_never_overwritten(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", "plan")
    ledger.add_job(KEY, outcome(), ROWS, [])
    with pytest.raises(LedgerError):
        ledger.add_job(KEY, outcome(seconds=9.0), ROWS, [])
    record = ledger.job(KEY)
    assert record is not None
    assert record.seconds == 1.5


def test_the_ledger_of_another_plan_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.sqlite", "plan").close()
    with pytest.raises(PlanError, match="another plan"):
        Ledger(tmp_path / "ledger.sqlite", "other")


def test_a_ledger_that_is_refused_is_closed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger(tmp_path / "ledger.sqlite", "plan").close()
    (tmp_path / "damaged.sqlite").write_bytes(b"no database" * 1000)
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def watched(*place: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*place, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", watched)
    with pytest.raises(PlanError, match="another plan"):
        Ledger(tmp_path / "ledger.sqlite", "other")
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger(tmp_path / "damaged.sqlite", "plan")
    assert len(opened) == 2
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            connection.execute("SELECT 1")


def test_the_write_ahead_log_cut_anywhere_opens_at_a_whole_transaction(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path, "plan")
    keys = [JobKey(f"{number:02d}", ("toy/1",), 0, "cpu") for number in range(6)]
    sizes = []
    log = path.with_name("ledger.sqlite-wal")
    for key in keys:
        ledger.add_job(key, outcome(key=key.hash), ROWS, ["toy/2"])
        sizes.append(log.stat().st_size)
    content = log.read_bytes()
    for cut in range(0, len(content) + 1, 1543):
        folder = tmp_path / str(cut)
        folder.mkdir()
        shutil.copy(path, folder / path.name)
        (folder / log.name).write_bytes(content[:cut])
        whole = sum(size <= cut for size in sizes)
        if cut < sizes[0]:
            # Even the tables may be missing then: the ledger starts afresh.
            assert Ledger(folder / path.name, "plan").finished() == set()
        else:
            assert Ledger(folder / path.name, "plan").finished() == {key.hash for key in keys[:whole]}
    ledger.close()


def test_a_ledger_damaged_in_the_middle_gives_one_message_wherever_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path, "plan")
    genotype = load_preset("ststnet").genotype
    ledger.add_batch([Draw("0", 0, 0, 0, ACCEPTED, "preset", genotype.hash, 1683, {})], [(genotype, 1683)])
    for number in range(40):
        ledger.add_job(JobKey(f"{number:02d}", ("toy/1",), 0, "cpu"), outcome(key=str(number)), ROWS, ["toy/2"])
    ledger.close()
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    refused = 0
    for read in ("finished", "draws", "genotype"):
        argument = {"finished": (), "draws": ("0",), "genotype": (genotype.hash,)}[read]
        try:
            getattr(Ledger(path, "plan"), read)(*argument)
        except LedgerError as error:
            refused += "ledger" in str(error)
    assert refused == 3


def test_the_clock_of_a_run_adds_up_its_sessions_and_knows_nothing_of_the_machines_uptime(tmp_path: Path) -> None:
    for _ in range(2):
        ledger = Ledger(tmp_path / "ledger.sqlite", "plan")
        ledger.begin_session()
        stored = sqlite3.connect(tmp_path / "ledger.sqlite").execute("SELECT max(seconds) FROM sessions").fetchone()[0]
        assert 0 <= stored < 5
        time.sleep(0.2)
        ledger.close()
    ledger = Ledger(tmp_path / "ledger.sqlite", "plan")
    assert 0.4 <= ledger.seconds() < 10
    rows = sqlite3.connect(tmp_path / "ledger.sqlite").execute("SELECT seconds FROM sessions").fetchall()
    assert all(0.2 <= seconds < 5 for (seconds,) in rows)
    ledger.close()


@pytest.mark.parametrize("name", ["a#b", "a?b", "a%41b", "a b&mode=rwc", os.fsdecode(b"r\xe9sum\xe9")])
def test_a_ledger_is_read_in_a_folder_of_any_name_and_its_neighbour_is_not(name: str, tmp_path: Path) -> None:
    for place, plan in (("a", "neighbour"), ("aAb", "neighbour"), (name, "own")):
        folder = tmp_path / place
        try:
            folder.mkdir()
        except OSError:
            pytest.skip("this file system takes no such name")
        Ledger(folder / "ledger.sqlite", plan).close()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with closing(reading_only(tmp_path / name / "ledger.sqlite")) as database:
        assert database.execute("SELECT value FROM about WHERE name = 'plan'").fetchone() == ("own",)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            database.execute("INSERT INTO about VALUES ('x', 'y')")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_what_another_driver_is_just_writing_is_read_too(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite", "plan")
    ledger.add_job(KEY, outcome(), ROWS, [])
    with closing(reading_only(tmp_path / "ledger.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    ledger.close()
