"""`mernas presets`: what it tells of published methods, and that it is so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mernas.cli import cli
from mernas.components.datasets.synthetic import Synthetic
from mernas.components.topologies.network import count_parameters
from mernas.search.data_needs import data_in_words, needs_of_data
from mernas.search.evaluate import find_pipeline, run_evaluation
from mernas.space.genotype import Genotype, from_plain, instantiate, parse_genotype
from mernas.space.presets import load_preset, preset_names
from mernas.space.taxonomy import APEX, FRAMES, GIVEN_FLOW, ONSET
from mernas.space.tree import SearchSpace

BUILT_IN = (
    "off_apexnet",
    "dual_inception",
    "rcn_a",
    "capsulenet",
    "elrcn_se",
    "dssn",
    "lbp_top_svm",
    "bi_woof",
    "sssnet",
)


def mernas(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def misfits(genotype: Genotype, facts: frozenset[str]) -> list[object]:
    return list(SearchSpace(facts, pipeline=genotype.root.name).problems(genotype))


def test_the_table_has_a_line_for_each_preset_with_its_published_scores() -> None:
    shown = mernas("presets")
    assert shown.exit_code == 0, shown.output
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.output.splitlines() if "│" in line]
    rows = {row[0]: row for row in cells if row[0]}
    assert set(rows) == set(preset_names())
    assert rows["capsulenet"][1:8] == ["CapsuleNet", "2019", "approximation", "13,836,224", "0.6520", "0.6506", "yes"]
    assert rows["ststnet"][1:8] == ["STSTNet", "2019", "faithful", "1,683", "0.7353", "0.7605", "no"]
    assert rows["dssn"][5:8] == ["", "", "unknown"]
    assert rows["lbp_top_svm"][4] == ""
    assert max(map(len, shown.output.splitlines())) <= 132


def test_the_list_as_json_holds_the_same_as_the_presets() -> None:
    listed = {facts["name"]: facts for facts in json.loads(mernas("presets", "--json").output)}
    assert set(listed) == set(preset_names())
    for name, facts in listed.items():
        preset = load_preset(name)
        assert (facts["title"], facts["year"], facts["label"]) == (preset.title, preset.year, preset.label)
        assert facts["published"] == preset.published
        assert facts["hash"] == preset.genotype.hash
        if preset.genotype.is_network:
            assert facts["parameters"] == count_parameters(preset.genotype, classes=3)
        else:
            assert facts["parameters"] is None
        assert facts["install"] == (["mernas[tvl1]"] if name in ("bi_woof", "dssn") else [])


@pytest.mark.parametrize("name", preset_names())
def test_one_preset_is_shown_as_a_file_that_evaluate_takes(name: str, tmp_path: Path) -> None:
    shown = mernas("presets", name)
    assert shown.exit_code == 0, shown.output
    preset = load_preset(name)
    assert parse_genotype(shown.output) == preset.genotype
    comments = " ".join(line.removeprefix("#").strip() for line in shown.output.splitlines() if line.startswith("#"))
    for said in (preset.title, preset.source, " ".join(preset.notes.split()), preset.label, str(preset.year)):
        assert said in " ".join(comments.split())
    for figure, value in preset.published.items():
        if isinstance(value, float):
            assert f"{figure}: {value}" in comments
    (tmp_path / "mine.yaml").write_text(shown.output)
    frames = Synthetic(subjects=3, clips=3).load()
    if GIVEN_FLOW not in needs_of_data(preset.genotype):
        assert find_pipeline(str(tmp_path / "mine.yaml"), frames) == preset.genotype


def test_one_preset_as_json_comes_with_its_genotype() -> None:
    facts = json.loads(mernas("presets", "RCN_A", "--json").output)
    assert from_plain(facts["genotype"]) == load_preset("rcn_a").genotype
    assert facts["published"]["uf1"] == 0.7432
    assert "class_activation" in facts["notes"]


def test_an_unknown_preset_is_answered_with_the_nearest_in_one_message() -> None:
    refused = mernas("presets", "rcn-a")
    assert refused.exit_code == 2
    assert isinstance(refused.exception, SystemExit)
    (line,) = refused.stderr.splitlines()
    assert line.startswith('mernas: preset "rcn-a": is not known. Did you mean "rcn_a"')


@pytest.mark.parametrize("name", preset_names())
def test_the_stated_needs_are_enough_and_each_of_them_is_needed(name: str) -> None:
    genotype = load_preset(name).genotype
    needs = needs_of_data(genotype)
    assert misfits(genotype, needs) == []
    for need in needs:
        assert misfits(genotype, needs - {need}) != []


def test_needs_are_told_in_words() -> None:
    told = {name: data_in_words(needs_of_data(load_preset(name).genotype)) for name in preset_names()}
    assert told["capsulenet"] == "frames with apex"
    assert told["strcn_g"] == "frames with onset, apex and frame rate"
    assert {name for name in told if "flow maps" in told[name]} == {
        *("dual_inception", "off_apexnet", "rcn_a", "rcn_s", "rcn_w", "sssnet", "ststnet")
    }
    assert data_in_words(frozenset({FRAMES})) == "frames"


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_runs_on_clips_with_frames(name: str) -> None:
    frames = Synthetic(subjects=3, clips=3).load()
    genotype = find_pipeline(name, frames)
    if GIVEN_FLOW in needs_of_data(load_preset(name).genotype):
        assert misfits(genotype, frozenset({FRAMES, ONSET, APEX})) == []
    for stream in genotype.streams:
        clip = frames.clips[0]
        for step in stream["preprocessing"]:
            clip = instantiate(step).apply(clip)
        component = instantiate(stream["input"])
        made = component.prepare(clip)
        assert made.shape == component.shape
        assert made.std() > 0


@pytest.mark.parametrize("name", ["bi_woof", "lbp_top_svm"])
def test_loso_of_a_classical_preset_equals_scikit_learns_own_loop(name: str, tmp_path: Path) -> None:
    data = Synthetic(subjects=4, clips=3).load()
    (stream,) = load_preset(name).genotype.streams
    vectors = []
    for clip in data:
        for step in stream["preprocessing"]:
            clip = instantiate(step).apply(clip)  # the clip that the next step sees
        vectors.append(instantiate(stream["input"]).prepare(clip))
    scale = [StandardScaler()] if name == "bi_woof" else []
    cost = {"bi_woof": 0.01, "lbp_top_svm": 100}[name]
    peer = make_pipeline(*scale, SVC(C=cost, kernel="linear", class_weight="balanced", break_ties=True))
    subjects = [clip.subject for clip in data]
    said = cross_val_predict(peer, np.array(vectors, float), data.labels, groups=subjects, cv=LeaveOneGroupOut())
    result = run_evaluation(name, data, cache=tmp_path)
    assert list(result.predictions["prediction"]) == [data.classes[label] for label in said]
    assert result.parameters is None
