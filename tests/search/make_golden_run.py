"""Makes the golden run of a version: a small finished run directory, kept as text, that every later version must open.

    python tests/search/make_golden_run.py tests/search/golden_run_2

Run it once for a version that changes the plan, the ledger or what equal trainings give, and never again: a golden run
that is made anew proves nothing. Its clips are made up, its ledger is kept as the SQL that makes it.
"""

from __future__ import annotations

import importlib.util
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

from mernas.evaluation.picking import default_rules
from mernas.search.baselines import families
from mernas.search.plan import Plan, Settings, make_plan
from mernas.search.run import execute_plan, plan_search

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
SETTINGS: dict[str, Any] = {"trials": 3, "batch": 2, "seed": 11}
KEPT = (
    "plan.yaml",
    "front.csv",
    "rules.csv",
    "choices.csv",
    "predictions.csv",
    "trials.csv",
    "baselines.csv",
    "baseline_predictions.csv",
    "scores.csv",
)


def golden_plan(space: Path) -> Plan:
    """Return the plan of the golden runs.

    Args:
        space: Where the space file may be written.
    """
    toy = _toy()
    space.write_text(toy.TOY_SPACE, encoding="utf-8")
    data = toy.make_toy(subjects=6, clips=3)
    asked = plan_search(data, space, groups=3, budgets="300,3k", max_params="3k", **SETTINGS)
    every = families(data)
    few = {name: every[name][:1] for name in sorted(every)[:2]}
    settings = Settings(**{**vars(asked.settings), "budgets": asked.budgets})
    return make_plan(data, asked.space, "toy.yaml", asked.partition, settings, default_rules(()), {}, few)


def _toy() -> ModuleType:
    spec = importlib.util.spec_from_file_location("toy", CONFTEST)
    if spec is None or spec.loader is None:
        raise ImportError(str(CONFTEST))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(folder: Path) -> None:
    """Search, and keep what a finished run is read from, without the machine's name."""
    if folder.exists():
        sys.exit(f"{folder} exists: a golden run is made once")
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        execute_plan(golden_plan(Path(scratch) / "toy.yaml"), run, cache=Path(scratch) / "cache", executor="serial")
        folder.mkdir(parents=True)
        for name in KEPT:
            (folder / name).write_bytes((run / name).read_bytes())
        shutil.copytree(run / "candidates", folder / "candidates")
        with closing(sqlite3.connect(run / "ledger.sqlite")) as database:
            database.execute("UPDATE jobs SET host = 'machine:1', started = 0, seconds = 0.5")
            database.execute("UPDATE sessions SET started = 0, seconds = 1")
            database.commit()
            (folder / "ledger.sql").write_text("\n".join(database.iterdump()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
