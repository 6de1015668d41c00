"""Golden runs: what earlier versions left behind opens, is verified and reported by this one, and goes on in none.

`make_golden_run.py` made each of them once. A run belongs to the version that trains it; reading one must outlive that.
"""

from __future__ import annotations

import importlib.util
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import mernas.search.plan as plan_module
from mernas.cli import cli
from mernas.evaluation.jobs import ENGINE_VERSION
from mernas.search import verify_space
from mernas.search.finished import open_run
from mernas.search.ledger import LEDGER_FORMAT, Ledger
from mernas.search.plan import PLAN_FORMAT
from mernas.search.run import execute_plan, write_report
from mernas.search.verify import verify_run
from mernas.space.errors import LedgerError, PlanError
from mernas.space.tree import SearchSpace

HERE = Path(__file__).resolve().parent
HASHES = {"golden_run_1": "53f6c45f425309a4", "golden_run_2": "8dc86467663374d0"}
"""The plan's hash of every golden run, as it was when the run was made."""
NOT_KEPT = {"report.html", "front.png", "front.svg", "tables.md", "tables.tex", "audit.json", "calibration.csv"}
NOT_KEPT |= {"environment.txt"}
"""Files of a run that golden runs are kept without."""


@pytest.fixture(params=sorted(path.name for path in HERE.glob("golden_run_*")))
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A golden run as the directory that it was, in a folder of the same name."""
    folder = tmp_path / str(request.param)
    shutil.copytree(HERE / str(request.param), folder)
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database:
        database.executescript((folder / "ledger.sql").read_text(encoding="utf-8"))
    return folder


@pytest.fixture
def whole(golden: Path) -> Path:
    """A golden run with what was not kept of it: the name of the machine, and the report, which is made again."""
    (golden / "environment.txt").write_text("python 3\n", encoding="utf-8")
    write_report(golden)
    return golden


def change(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def test_a_golden_run_opens_and_gives_the_tables_that_it_gave(golden: Path) -> None:
    run = open_run(golden)
    made = {name: table.to_csv(index=False, lineterminator="\n") for name, table in run.tables.files().items()}
    kept = {path.name: path.read_text(encoding="utf-8") for path in golden.glob("*.csv")}
    assert {"front.csv", "choices.csv", "predictions.csv"} <= kept.keys()
    assert made == kept


def test_a_golden_run_is_verified_under_the_plan_hash_that_it_had(whole: Path) -> None:
    found = verify_run(whole)
    assert found.holds, [str(finding) for check in found.checks for finding in check.findings]
    assert found.plan == HASHES[whole.name]


def test_of_a_golden_run_as_it_was_kept_only_the_report_is_missed(golden: Path) -> None:
    found = verify_run(golden)
    missed = {finding.where for check in found.checks for finding in check.findings}
    assert missed == NOT_KEPT


def test_proposals_of_another_version_that_fit_no_more_are_left_out_and_said(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(whole, "UPDATE draws SET answers = '{}' WHERE number = 0")
    monkeypatch.setattr(verify_space, "ENGINE_VERSION", ENGINE_VERSION + 1)
    found = verify_run(whole)
    assert found.holds, [str(finding) for check in found.checks for finding in check.findings]
    (space,) = [check for check in found.checks if check.name == "space"]
    assert space.verdict == "ok"
    assert space.left_out[0].startswith("4 proposals, which this version would call otherwise: the plan is of mernas")


def test_a_space_of_components_that_changed_is_left_out_and_said(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of the commonest block makes another space; which pipelines it had is then not asked."""
    described = SearchSpace.describe

    def newer(space: SearchSpace) -> list[Any]:
        facts, axes = described(space)
        axes["block"]["residual"][0] += 1
        return [facts, axes]

    monkeypatch.setattr(SearchSpace, "describe", newer)
    found = verify_run(whole)
    assert found.holds, [str(finding) for check in found.checks for finding in check.findings]
    (space,) = [check for check in found.checks if check.name == "space"]
    assert space.verdict == "not checked"
    (reason,) = space.left_out
    assert reason.startswith("plan.yaml, space: cannot be made again here; mernas 0.1.0 made it, found")
    assert "other or missing: block residual" in reason
    shown = CliRunner().invoke(cli, ["verify", str(whole)])
    assert shown.exit_code == 0
    assert f"left out: {reason}" in shown.output
    assert "Everything holds" not in shown.output


def test_a_golden_run_is_reported(golden: Path) -> None:
    text = write_report(golden).read_text(encoding="utf-8")
    assert HASHES[golden.name] in text


@pytest.mark.parametrize("engine", [ENGINE_VERSION + 1, ENGINE_VERSION + 7])
def test_a_run_of_another_engine_is_read_but_never_gone_on_with(
    engine: int, golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "ENGINE_VERSION", engine)
    assert open_run(golden).plan.hash == HASHES[golden.name]
    spec = importlib.util.spec_from_file_location("make_golden_run", HERE / "make_golden_run.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    before = (golden / "ledger.sqlite").read_bytes()
    begun = open_run(golden).plan.description["engine"]
    with pytest.raises(PlanError, match=f"engine {begun} of mernas .*other bits with engine {engine}.*--out"):
        execute_plan(maker.golden_plan(tmp_path / "toy.yaml"), golden, cache=tmp_path / "cache", executor="serial")
    assert (golden / "ledger.sqlite").read_bytes() == before


@pytest.mark.parametrize("read", [open_run, verify_run])
def test_a_plan_of_a_newer_format_says_which_mernas_can_read_it(read: object, golden: Path) -> None:
    path = golden / "plan.yaml"
    text = path.read_text(encoding="utf-8")
    stated = f"\nformat: {PLAN_FORMAT}\n"
    assert stated in text
    path.write_text(text.replace(stated, f"\nformat: {PLAN_FORMAT + 1}\n"), encoding="utf-8")
    with pytest.raises(PlanError, match=rf"up to {PLAN_FORMAT}, found format {PLAN_FORMAT + 1}\. Install mernas"):
        read(golden)  # type: ignore[operator]  # either function


@pytest.mark.parametrize("read", [open_run, verify_run])
def test_a_ledger_of_a_newer_format_is_refused_with_a_remedy(read: object, golden: Path) -> None:
    change(golden, f"UPDATE about SET value = '{LEDGER_FORMAT + 1}' WHERE name = 'format'")
    with pytest.raises(LedgerError, match=rf"found format {LEDGER_FORMAT + 1}\. Install the mernas that wrote it"):
        read(golden)  # type: ignore[operator]  # either function
    with pytest.raises(LedgerError, match="Install the mernas that began it, or a newer one"):
        Ledger(golden / "ledger.sqlite", HASHES[golden.name])


def test_a_finished_ledger_of_the_first_format_is_read_but_not_written(golden: Path) -> None:
    """The first format had no sessions; nothing else has changed since."""
    change(golden, "DROP TABLE sessions", "UPDATE about SET value = '1' WHERE name = 'format'")
    assert open_run(golden).plan.hash == HASHES[golden.name]
    assert {finding.where for check in verify_run(golden).checks for finding in check.findings} <= NOT_KEPT
    with pytest.raises(LedgerError, match="Go on with the mernas that began it"):
        Ledger(golden / "ledger.sqlite", HASHES[golden.name])
