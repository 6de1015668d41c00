"""What a study knows is worked out once: a ledger is not read again for a candidate whose score is known."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.jobs import JobKey
from mernas.search import run
from mernas.search.executor import Interrupted
from mernas.search.ledger import JobRecord, Ledger
from mernas.search.record import Record
from mernas.search.results import interim_front, trials_table
from mernas.search.run import SearchResult, run_search


class Counting(Ledger):
    """A ledger that counts how often a job is read."""

    reads = 0

    def job(self, key: JobKey) -> JobRecord | None:
        self.reads += 1
        return super().job(key)


@pytest.mark.parametrize("name", ["finished", "raced", "halved"])
def test_a_table_of_trials_reads_no_job_of_a_candidate_whose_score_is_known(
    name: str, request: pytest.FixtureRequest
) -> None:
    result: SearchResult = request.getfixturevalue(name)
    with closing(Counting(result.folder / "ledger.sqlite", result.plan.hash)) as ledger:
        record = Record(result.plan, ledger)
        for study in result.plan.studies:
            record.candidates(study)
        assert ledger.reads > 0
        ledger.reads = 0
        trials = trials_table(result.plan, record)
        assert ledger.reads == 0
    pd.testing.assert_frame_equal(trials, result.tables.trials)


@pytest.mark.parametrize("name", ["finished", "raced", "halved"])
def test_a_verdict_is_the_same_whether_or_not_the_score_was_asked_for_first(
    name: str, request: pytest.FixtureRequest
) -> None:
    result: SearchResult = request.getfixturevalue(name)
    with closing(Ledger(result.folder / "ledger.sqlite", result.plan.hash)) as ledger:
        first, then = Record(result.plan, ledger), Record(result.plan, ledger)
        for study in result.plan.studies:
            then.candidates(study)
            for draw in then.proposals(study):
                key = draw.genotype or ""
                assert first.verdict(study, key) == then.verdict(study, key)


def test_the_interim_front_is_made_from_the_trials_alone(finished: SearchResult) -> None:
    trials = finished.tables.trials
    interim = interim_front(finished.plan, trials)
    own = trials[(trials["group"] == "final") & (trials["state"] == "completed")]
    for line in interim.to_dict(orient="records"):
        fitting = own[own["params"] <= line["budget"]]
        assert line["inner_uf1"] == fitting["inner_uf1"].max()
        assert line["status"] == "inner only"
    assert list(interim["budget"]) == [budget for budget in (300, 3000) if (own["params"] <= budget).any()]


def test_who_stops_a_run_waits_for_one_table_of_trials(
    toy: Callable[..., Dataset],
    toy_space: Path,
    small: dict[str, Any],
    countdown: Callable[[int], Callable[[], bool]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[pd.DataFrame] = []

    def counted(*given: Any) -> pd.DataFrame:
        made.append(trials_table(*given))
        return made[-1]

    monkeypatch.setattr(run, "trials_table", counted)
    monkeypatch.setattr("mernas.search.results.trials_table", counted)
    with pytest.raises(Interrupted):
        run_search(toy(), space=toy_space, out=tmp_path / "run", stopping=countdown(25), **small)
    assert len(made) == 1
    assert (tmp_path / "run" / "interim.csv").is_file()
    assert (tmp_path / "run" / "trials.csv").read_text() == made[0].to_csv(index=False, lineterminator="\n")
