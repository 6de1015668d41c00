"""Nothing that study g proposes, trains or chooses may depend on the group that it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mernas.components.datasets.clip import Clip, Dataset
from mernas.search.halving import shortened
from mernas.search.ledger import Ledger
from mernas.search.plan import Plan
from mernas.search.record import Record
from mernas.search.run import SearchResult, run_search


def tampered(data: Dataset, sealed: set[str], seed: int, toy_clip: Callable[[str, np.ndarray], Clip]) -> Dataset:
    """The same clips, but those of some subjects have noise for frames and somebody else's labels."""
    generator = np.random.default_rng(seed)
    clips = tuple(
        toy_clip(clip.key, generator.normal(size=(3, 14, 14)).astype(np.float32) * 50)
        if clip.subject in sealed
        else clip
        for clip in data
    )
    annotations = data.annotations.copy()
    places = [place for place, clip in enumerate(data) if clip.subject in sealed]
    emotions = annotations["emotion"].to_numpy(dtype=object).copy()
    emotions[places] = [data.classes[(data.classes.index(emotions[place]) + 1) % 3] for place in places]
    annotations["emotion"] = emotions
    return replace(data, clips=clips, annotations=annotations)


def everything_of(study: str, plan: Plan, folder: Path) -> dict[str, Any]:
    """All that a study proposed, trained, stopped and chose, to the last bit."""
    ledger = Ledger(folder / "ledger.sqlite", plan.hash)
    record = Record(plan, ledger)
    trained, decided = [], []
    for draw in record.proposals(study):
        verdict = record.verdict(study, draw.genotype or "")
        decided.append((draw.genotype, verdict))
        left = plan.inner_left_out(study)
        jobs = [(draw.genotype or "", *fold) for fold in left[: verdict.folds]]  # others may be there for other studies
        if record.halving is not None:
            jobs += [(shortened(ledger.genotype(draw.genotype or "")).hash, *fold) for fold in left]
        for genotype, scored, left_out in jobs:
            job = record.job(genotype, left_out)
            assert job is not None
            rows = np.isin(job.rows, plan.book.rows_of(plan.partition.groups[scored]))
            probabilities = None if job.probabilities is None else job.probabilities[rows].tobytes()
            trained.append((genotype, job.key.hash, job.rows[rows].tobytes(), probabilities, job.failure))
    result = {"draws": ledger.draws(study), "trained": trained, "decided": decided, "scores": record.candidates(study)}
    result["baselines"] = [record.candidate(study, g.hash, 0) for grid in plan.families.values() for g in grid]
    ledger.close()
    return result


@pytest.mark.parametrize("group", [0, 2])
def test_labels_and_frames_of_the_left_out_group_change_nothing_in_its_study(
    group: int,
    toy_clip: Callable[[str, np.ndarray], Clip],
    toy: Callable[..., Dataset],
    toy_space: Path,
    small: dict[str, Any],
    finished: SearchResult,
    tmp_path: Path,
) -> None:
    check_sealed(group, toy(), finished, small, toy_clip, toy_space, tmp_path)


@pytest.mark.parametrize("group", [0, 1])
def test_nor_do_they_change_which_candidates_its_study_stops_and_when(
    group: int,
    toy_clip: Callable[[str, np.ndarray], Clip],
    many: Dataset,
    toy_space: Path,
    raced_settings: dict[str, Any],
    raced: SearchResult,
    tmp_path: Path,
) -> None:
    trials = raced.tables.trials
    assert (trials[trials["group"] == str(group)]["state"] == "stopped").sum() > 1
    check_sealed(group, many, raced, raced_settings, toy_clip, toy_space, tmp_path)


@pytest.mark.parametrize("group", [1])
def test_nor_do_they_change_who_goes_on_after_a_short_training(
    group: int,
    toy_clip: Callable[[str, np.ndarray], Clip],
    toy: Callable[..., Dataset],
    patient_space: Path,
    halved_settings: dict[str, Any],
    halved: SearchResult,
    tmp_path: Path,
) -> None:
    check_sealed(group, toy(), halved, halved_settings, toy_clip, patient_space, tmp_path)


@pytest.mark.parametrize("group", [0, 1, 2])
def test_nor_do_they_change_a_bit_where_folds_train_together(
    group: int,
    toy_clip: Callable[[str, np.ndarray], Clip],
    toy: Callable[..., Dataset],
    toy_space: Path,
    small: dict[str, Any],
    joined: SearchResult,
    tmp_path: Path,
) -> None:
    check_sealed(group, toy(), joined, {**small, "together": True}, toy_clip, toy_space, tmp_path)


def check_sealed(
    group: int,
    data: Dataset,
    before: SearchResult,
    settings: dict[str, Any],
    toy_clip: Callable[[str, np.ndarray], Clip],
    toy_space: Path,
    folder: Path,
) -> None:
    """Replace the labels and frames of a group, search again, and see that its study notices nothing."""
    partition = before.folder / "plan.yaml"
    sealed = set(before.plan.partition.groups[group])
    changed = tampered(data, sealed, group, toy_clip)
    again = run_search(
        changed, space=toy_space, out=folder / "run", partition=partition, **{**settings, "groups": None}
    )
    assert again.plan.partition == before.plan.partition
    study = str(group)
    assert everything_of(study, before.plan, before.folder) == everything_of(study, again.plan, again.folder)
    mine = [run.tables.choices[run.tables.choices["group"] == study].reset_index(drop=True) for run in (before, again)]
    assert mine[0].equals(mine[1])
    # The change itself is no small one: the other studies, which do see that group, notice.
    other = str((group + 1) % 3)
    assert everything_of(other, before.plan, before.folder) != everything_of(other, again.plan, again.folder)
    assert again.plan.hash != before.plan.hash
