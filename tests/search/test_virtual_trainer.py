"""The long-running proof in small: the virtual trainer needs no torch, kills leave no trace, memory stays flat.

The commands of benchmarks/ are run as processes of their own: their components exist on paper and would stand beside
the real ones in this process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

SEARCH = """
import sys
sys.path.insert(0, {benchmarks!r})
from pathlib import Path
from virtual_search import oracle, paper_plan, run
from virtual_trainer import VirtualWorkers
plan = paper_plan(subjects=12, clips=4, groups=3, trials=12, batch=4, sampler={sampler!r}, max_parameters=20_000)
workers = VirtualWorkers(oracle(plan), workers={workers}, seed={workers})
_, tables = run(plan, Path({folder!r}) / "ledger.sqlite", workers)
print(tables.front.to_csv(index=False), tables.choices.to_csv(index=False), tables.trials.to_csv(index=False))
print("torch" in sys.modules, "ray" in sys.modules)
"""

BYTES_PER_TRIAL = 4_000
"""What a driver may remember of a trial: its score, its size, which of its jobs are finished; no prediction."""


def benchmark(name: str, *words: str) -> str:
    found = subprocess.run(
        [sys.executable, str(BENCHMARKS / name), *words], capture_output=True, text=True, check=False, timeout=600
    )
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def search(folder: Path, sampler: str, workers: int) -> str:
    folder.mkdir()
    code = SEARCH.format(benchmarks=str(BENCHMARKS), sampler=sampler, workers=workers, folder=str(folder))
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600)
    return found.stdout


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_nested_search_needs_no_torch_and_gives_the_same_tables_on_one_and_on_seven_workers(
    sampler: str, tmp_path: Path
) -> None:
    alone, together = search(tmp_path / "alone", sampler, 1), search(tmp_path / "together", sampler, 7)
    assert alone.splitlines()[-1] == "False False"
    assert "nested_uf1" in alone
    assert alone == together


def test_forty_random_kills_leave_the_ledger_of_an_undisturbed_run() -> None:
    said = benchmark("random_kills.py", "--kills", "40", "--exact", "--seed", "5")
    assert said.startswith("40 drivers killed")
    kinds = dict(line.strip().split(": ") for line in said.splitlines() if line.startswith("  "))
    assert min(int(kinds[kind]) for kind in ("statement", "commit", "between events")) >= 5
    assert int(kinds["jobs recorded at their second attempt, because their worker had died"]) >= 1
    assert said.endswith("0 differences from the undisturbed runs\n")


def test_a_search_with_a_time_limit_ends_within_a_tenth_of_it() -> None:
    said = benchmark("time_limit.py", "--workers", "3", "--minutes", "20", "--seeds", "1", "--json")
    shares = json.loads(said)["shares"]
    assert len(shares) == 3  # without, with racing, with halving
    assert all(0.9 <= share <= 1.1 for share in shares)


def test_the_memory_of_a_driver_does_not_grow_with_the_predictions() -> None:
    words = ("--trials", "240", "--every", "40", "--groups", "3", "--subjects", "60", "--traced", "--json")
    found = json.loads(benchmark("driver_memory.py", *words))
    assert len(found["looks"]) >= 5
    assert found["bytes_per_trial"]["ledger"] > 4 * BYTES_PER_TRIAL  # there would be enough to remember
    assert found["bytes_per_trial"]["traced"] < BYTES_PER_TRIAL
