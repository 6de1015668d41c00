"""Plain LOSO of one pipeline: against scikit-learn's own loop, and presets on data of both kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, recall_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.synthetic import Synthetic
from mernas.evaluation import fitting
from mernas.evaluation.jobs import Job, Outcome
from mernas.search.evaluate import find_pipeline, run_evaluation
from mernas.search.executor import Interrupted
from mernas.search.run import load_data
from mernas.space.errors import PlanError, UnavailableError
from mernas.space.genotype import parse_genotype
from mernas.space.presets import load_preset
from mernas.space.taxonomy import FRAMES


def test_loso_of_a_baseline_equals_scikit_learns_own_loop(toy: Callable[..., Dataset], tmp_path: Path) -> None:
    data = toy(subjects=8, signal=0.3)
    text = """
    streams: [{input: {optical_flow: {estimator: given, size: 14}}}]
    classifier: {logistic_regression: {C: 0.01}}
    """
    result = run_evaluation(parse_genotype(text), data, cache=tmp_path)
    maps = [np.concatenate([clip.given["flow"](), clip.given["strain"]()[None]]).ravel() for clip in data]
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=5000))
    subjects = [clip.subject for clip in data]
    said = cross_val_predict(peer, np.array(maps, dtype=float), data.labels, groups=subjects, cv=LeaveOneGroupOut())
    assert result.scores.uf1 == pytest.approx(f1_score(data.labels, said, average="macro"))
    assert result.scores.uar == pytest.approx(recall_score(data.labels, said, average="macro"))
    assert set(result.parts) == {"toy0", "toy1"}
    assert result.ci_low <= result.scores.uf1 <= result.ci_high


def test_equal_seeds_give_equal_predictions_and_every_clip_one(toy: Callable[..., Dataset], tmp_path: Path) -> None:
    text = """
    streams:
      - input: {optical_flow: {estimator: given, size: 14}}
        backbone: [{convolution: {width: 3, dropout: 0.3}}]
    tasks: [emotion]
    training: {scratch: {epochs: 2}}
    loss: cross_entropy
    """
    first, second = (run_evaluation(parse_genotype(text), toy(), cache=tmp_path, seed=4) for _ in range(2))
    assert first.predictions.equals(second.predictions)
    assert list(first.predictions["clip"]) == [clip.key for clip in toy()]
    assert first.parameters == 3 * (9 * 3 + 1) + 6 + 3 * (3 * 9 + 1)  # convolution, norm, 3 x 3 grid to three classes


def test_a_preset_of_given_flow_runs_on_frames_with_farnebacks_flow(toy: Callable[..., Dataset]) -> None:
    frames = Synthetic(subjects=3, clips=3).load()
    changed = find_pipeline("STSTNet", frames)
    assert {stream["input"]["estimator"].name for stream in changed.streams} == {"farneback"}
    assert changed["normalisation"].name == "standardise"
    assert find_pipeline("ststnet", toy()) == load_preset("ststnet").genotype


def test_a_baseline_without_what_it_needs_is_unavailable(toy: Callable[..., Dataset]) -> None:
    with pytest.raises(UnavailableError, match="needs flow maps, or frames"):
        find_pipeline("rbf_svm", replace(toy(), provides=frozenset()))


def test_a_pipeline_of_ones_own_is_told_what_the_data_lack_as_a_preset_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("streams: [{input: apex_frame, backbone: [residual]}]\ntasks: [emotion]\nloss: cross_entropy\n")
    bare = replace(Synthetic(subjects=3, clips=3).load(), provides=frozenset({FRAMES}))
    with pytest.raises(UnavailableError) as error:
        find_pipeline(str(path), bare)
    told = 'input "apex_frame": unavailable: needs the apex frame of every clip, which these data lack.'
    assert str(error.value) == f"streams.0.input, {told} Use other data or leave it out."


def test_the_majority_on_the_released_flow_images_has_its_known_scores(real_data: Path) -> None:
    result = run_evaluation("majority", load_data(f"flow-images={real_data}"))
    assert result.scores.uf1 == pytest.approx(0.241, abs=0.001)
    assert result.scores.uar == pytest.approx(1 / 3)


def test_an_evaluation_that_keeps_its_folds_goes_on_where_it_was_stopped(
    toy: Callable[..., Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
    streams: [{input: {optical_flow: {estimator: given, size: 14}}, backbone: [{convolution: {width: 3}}]}]
    tasks: [emotion]
    training: {scratch: {epochs: 2}}
    loss: cross_entropy
    """
    genotype, folder = parse_genotype(text), tmp_path / "kept"
    whole = run_evaluation(genotype, toy(), cache=tmp_path)
    trained: list[str] = []
    run = fitting.run_job

    def counted(job: Job, *rest: Any) -> Outcome:
        trained.append(job.key)
        return run(job, *rest)

    monkeypatch.setattr(fitting, "run_job", counted)
    with pytest.raises(Interrupted):
        run_evaluation(genotype, toy(), cache=tmp_path, keep=folder, stopping=lambda: len(trained) >= 2)
    assert len(trained) == 2
    resumed = run_evaluation(genotype, toy(), cache=tmp_path, keep=folder)
    assert len(trained) == len(set(trained)) == 6
    assert resumed.predictions.equals(whole.predictions)
    assert resumed.audit is not None
    assert whole.audit is not None
    assert resumed.audit.plain() == whole.audit.plain()
    again = run_evaluation(genotype, toy(), cache=tmp_path, keep=folder)
    assert again.predictions.equals(whole.predictions)
    assert len(trained) == 6


def test_folds_of_another_evaluation_are_not_taken_for_ones_own(toy: Callable[..., Dataset], tmp_path: Path) -> None:
    run_evaluation("majority", toy(), cache=tmp_path, keep=tmp_path / "kept")
    with pytest.raises(PlanError, match="another"):
        run_evaluation("majority", toy(), seed=1, cache=tmp_path, keep=tmp_path / "kept")
    with pytest.raises(PlanError, match="another"):
        run_evaluation("majority", toy(seed=1), cache=tmp_path, keep=tmp_path / "kept")
