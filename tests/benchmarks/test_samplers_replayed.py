"""Replays: one seed gives one search, by the code that proposes in a real one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import samplers
from tabular.measuring import Measure
from tabular.replay import CHANCE, REPLAYED, Landscape, Tried, replay, replay_plan
from tabular.surrogate import Surrogate, fit_surrogate
from tabular.table import FOLDS, write_table

from mernas.search.ledger import ACCEPTED
from mernas.search.plan import FINAL, plain_hash
from mernas.search.samplers import SAMPLERS
from mernas.search.sampling import first_batch
from mernas.space.tree import SearchSpace

LIMIT, TRIALS, BATCH = 3000, 12, 4
NAMES = (*REPLAYED, "tpe+chance")


@pytest.fixture(scope="module")
def surrogate(known: pd.DataFrame, space: SearchSpace) -> Surrogate:
    return fit_surrogate(known, space)


@pytest.fixture(scope="module")
def measure() -> Measure:
    return Measure(3)


def search(name: str, surrogate: Surrogate, space: SearchSpace, measure: Measure, **other: Any) -> list[Tried]:
    settings = {"seed": 0, "trials": TRIALS, "landscape": 0, **other}
    landscape = Landscape(surrogate, space, settings["landscape"])
    return replay(name, landscape, settings["seed"], settings["trials"], BATCH, LIMIT, measure)


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_gives_one_replay_and_a_longer_one_begins_with_it(
    name: str, surrogate: Surrogate, space: SearchSpace, measure: Measure
) -> None:
    once = search(name, surrogate, space, measure)
    assert search(name, surrogate, space, Measure(3)) == once
    assert search(name, surrogate, space, measure, trials=TRIALS - BATCH) == [
        one for one in once if one.spent <= FOLDS * (TRIALS - BATCH)
    ]
    if name != "grid":  # which is the same whatever the seed
        assert [one.genotype for one in search(name, surrogate, space, measure, seed=1)] != [
            one.genotype for one in once
        ]


@pytest.mark.parametrize("name", NAMES)
def test_whatever_is_tried_is_within_the_limit_once_and_paid_for(
    name: str, surrogate: Surrogate, space: SearchSpace, measure: Measure
) -> None:
    tried = search(name, surrogate, space, measure)
    assert all(0 < one.parameters <= LIMIT for one in tried)
    assert len({one.genotype for one in tried}) == len(tried)
    if name == "halving":
        # A batch of 4 pays for 12 folds: 8 candidates on one and 2 of them on the other two.
        assert Counter(one.spent for one in tried) == {12: 2, 24: 2, 36: 2}
    else:
        assert Counter(one.spent for one in tried) == {12: 4, 24: 4, 36: 4}


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "random"])
def test_later_batches_depend_on_what_was_answered_unless_on_the_grid(
    name: str, surrogate: Surrogate, space: SearchSpace, measure: Measure
) -> None:
    here = [one.genotype for one in search(name, surrogate, space, measure, trials=24)]
    there = [one.genotype for one in search(name, surrogate, space, measure, trials=24, landscape=1)]
    assert here[:BATCH] == there[:BATCH]
    assert (here == there) == (name == "grid")


def test_the_first_batch_is_that_of_the_search_itself(
    surrogate: Surrogate, space: SearchSpace, measure: Measure
) -> None:
    draws, _ = first_batch(replay_plan(space, "tpe", 5, TRIALS, BATCH, LIMIT), FINAL, measure)
    expected = [draw.genotype for draw in draws if draw.state == ACCEPTED]
    for name in ("tpe", "nsga2", "random"):
        assert [one.genotype for one in search(name, surrogate, space, measure, seed=5)][:BATCH] == expected


def test_halving_promotes_by_the_first_fold_and_never_an_unpromoted_one_counts(
    surrogate: Surrogate, space: SearchSpace, measure: Measure
) -> None:
    landscape = Landscape(surrogate, space, 0)
    tried = replay("halving", landscape, 0, BATCH, BATCH, LIMIT, measure)
    asked = landscape._known
    assert len(asked) == 8
    assert len(tried) == 2
    for one in tried:  # nobody of the cohort is at most as large and better on the fold that decides
        rivals = [
            key
            for key, other in asked.items()
            if other.uf1_folds[0] > one.answer.uf1_folds[0] and (measure._known[key] or 0) <= one.parameters
        ]
        assert not rivals


# The command


def test_the_command_prints_who_beats_random_and_draws_the_curves(
    known: pd.DataFrame, space: SearchSpace, toy_space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = known.copy()
    frame.attrs = {**known.attrs, "space": plain_hash(space.describe())}
    write_table(tmp_path / "table.parquet", frame)
    arguments = [str(tmp_path / "table.parquet"), "--space", str(toy_space), "--seeds", "2", "--trials", "8", "16"]
    names = ["random", "nsga2", f"nsga2{CHANCE}"]
    chosen = ["--samplers", *names, "--workers", "1", "--plot", str(tmp_path / "curves.png")]
    assert samplers.main([*arguments, *chosen]) == 0
    said = capsys.readouterr().out
    assert "surrogate extra_trees: R2" in said
    assert said.count("At 8 trials") == said.count("At 16 trials") == 1
    assert said.count("nsga2+chance") >= 8
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_table_of_another_space_is_refused(
    known: pd.DataFrame, toy_space: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = known.copy()
    frame.attrs = {**known.attrs, "space": "of yesterday"}
    write_table(tmp_path / "table.parquet", frame)
    with pytest.raises(SystemExit):
        samplers.main([str(tmp_path / "table.parquet"), "--space", str(toy_space)])
    assert "was made of another space" in capsys.readouterr().err


def test_nothing_is_dealt_out_to_the_grid_which_has_no_first_batch() -> None:
    with pytest.raises(SystemExit):
        samplers.main(["table.parquet", "--samplers", f"grid{CHANCE}"])
