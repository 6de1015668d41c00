"""Export: a small search, a folder, a fresh process, and the same probabilities; and all that must be refused."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML
from sklearn.metrics import f1_score, recall_score

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.bundle import read_bundle
from mernas.evaluation.calibration import TEMPERATURES
from mernas.evaluation.fitting import fit_and_predict
from mernas.evaluation.footprint import FreshProcess
from mernas.evaluation.jobs import make_job
from mernas.evaluation.model import load_model, network_bytes
from mernas.evaluation.rows import number_rows
from mernas.search import export, placing
from mernas.search.calibrating import calibrate
from mernas.search.card_scores import PartScore, groupings, part_scores, published
from mernas.search.executor import Interrupted
from mernas.search.export import Exported, export_model, find_row, train_on_everyone
from mernas.search.features import FeatureShelf
from mernas.search.finished import FinishedRun, open_run
from mernas.search.model_card import CardContent, write_card
from mernas.search.placing import place_of
from mernas.search.printing import print_export
from mernas.search.reporter import Silent
from mernas.search.run import SearchResult, load_data
from mernas.space.errors import DataError, PlanError, RunError
from mernas.space.genotype import parse_genotype


@pytest.fixture(scope="module")
def run(finished: SearchResult) -> FinishedRun:
    return open_run(finished.folder)


@pytest.fixture(scope="module")
def data(toy: Callable[..., Dataset]) -> Dataset:
    """The data of the run, with annotations that its search did not need."""
    plain = toy()
    subjects = [clip.subject for clip in plain]
    sexes = ["female" if int(subject[-2:]) < 4 else "male" for subject in subjects]
    ages = [21 + 9 * (int(subject[-2:]) % 3) for subject in subjects]
    return replace(plain, annotations=plain.annotations.assign(sex=sexes, age=ages, camera="one"))


@pytest.fixture(scope="module")
def exported(run: FinishedRun, data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("export")
    return export_model(run, "best", folder / "model", data, cache=folder / "cache", repetitions=3)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, exported: Exported) -> Callable[[float], None]:
    """Exports without processes of their own, whose probabilities differ from this one's by `off`."""

    def set_up(off: float = 0.0) -> None:
        def predict(folder: Path, maps: list) -> FreshProcess:  # type: ignore[type-arg]  # not looked at
            return FreshProcess(load_model(folder).probabilities_of(maps) + off, None)

        monkeypatch.setattr(export, "predict_in_fresh_process", predict)
        monkeypatch.setattr(export, "measure", lambda *_: exported.footprint)

    set_up()
    return set_up


def card(exported: Exported) -> str:
    return (exported.folder / "README.md").read_text(encoding="utf-8")


def words(text: str) -> str:
    return " ".join(text.split())


def with_folder(run: FinishedRun, folder: Path) -> FinishedRun:
    """The same run as if it lay elsewhere, with nothing but what a test puts there."""
    return replace(run, folder=folder)


def test_a_fresh_process_gives_the_probabilities_of_this_one(exported: Exported) -> None:
    assert exported.difference <= 1e-5
    present = {path.name for path in exported.folder.iterdir()}
    made = {"README.md", "bundle.json", "environment.txt", "genotype.yaml", "model.safetensors", "model.pt2"}
    assert made <= present <= {*made, "model.onnx", ".gitattributes"}
    assert [path.name for path in exported.folder.parent.iterdir() if path.name.startswith(".")] == []


def test_the_model_is_the_rules_final_choice_trained_as_a_job_that_leaves_out_nobody(
    exported: Exported, run: FinishedRun, data: Dataset, tmp_path: Path
) -> None:
    final = run.tables.choices.query("rule == 'best' and group == 'final'").iloc[0]
    model = load_model(exported.folder)
    assert model.bundle.genotype.hash == final["genotype"]
    assert model.bundle.parameters == final["params"] == exported.footprint.parameters
    book = number_rows(data, run.plan.settings.seed)
    key, job = make_job(model.bundle.genotype, (), book, 3, run.plan.settings.seed)
    assert key.left_out == ()
    everyone = replace(job, predict_rows=np.arange(len(data)))
    store = FeatureShelf(data, book, tmp_path, Silent()).store([model.bundle.genotype])
    probabilities, _ = fit_and_predict(everyone, store)
    clips = [data.clips[place] for place in book.clips]
    assert np.abs(model.raw_probabilities_of(model.prepare(clips)) - probabilities).max() < 1e-6


def test_exporting_twice_gives_the_same_weights(
    exported: Exported, run: FinishedRun, data: Dataset, tmp_path: Path
) -> None:
    again = train_on_everyone(run.plan, exported.bundle.genotype, data, tmp_path)
    assert network_bytes(again) == (exported.folder / "model.safetensors").read_bytes()


def test_the_manifest_says_what_the_tables_and_the_calibration_say(
    exported: Exported, run: FinishedRun, data: Dataset
) -> None:
    bundle = read_bundle(exported.folder)
    rules = pd.read_csv(run.folder / "rules.csv").set_index("rule").loc["best"]
    assert bundle.estimate.uf1 == pytest.approx(rules["nested_uf1"])
    assert (bundle.estimate.low, bundle.estimate.high) == (rules["ci_low"], rules["ci_high"])
    assert (bundle.rule, bundle.plan, bundle.seed) == ("best", run.plan.hash, run.plan.settings.seed)
    assert (bundle.data.content, bundle.data.labels) == (data.fingerprint, data.label_fingerprint)
    assert bundle.facts == {"given flow", "given strain"}
    assert bundle.frames is None
    found = calibrate(run.plan, run.record, find_row(run, export.parse_rule("best")))
    assert found is not None
    shipped = next(one for one in found.abstention if one.target == 0.8)
    assert (bundle.temperature, bundle.threshold) == (found.temperatures["final"], shipped.thresholds["final"])
    assert bundle.coverage == 0.8


def test_nothing_in_the_folder_tells_whose_machine_it_was(exported: Exported) -> None:
    for path in exported.folder.iterdir():
        assert str(exported.folder.parent).encode() not in path.read_bytes(), path.name
        assert not re.search(rb"(?<![\w.~-])/(?:work|home|root|Users)/", path.read_bytes()), path.name


def test_every_rule_of_the_plan_can_be_picked_and_finds_the_front_s_choice(run: FinishedRun) -> None:
    front = run.tables.choices
    for rule, budget in (("<=300", "300"), ("<=3k", "3000")):
        expected = front[(front["budget"] == budget) & (front["group"] == "final")]
        if len(expected):
            assert find_row(run, export.parse_rule(rule)).final.genotype == expected.iloc[0]["genotype"]
    assert find_row(run, export.parse_rule("knee")).rule == "knee"


def test_a_rule_that_is_not_in_the_plan_has_no_estimate_and_the_command_that_makes_one_is_named(
    run: FinishedRun, data: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(PlanError) as caught:
        export_model(run, "<=5k", tmp_path / "model", data)
    message = str(caught.value)
    assert 'rule "<=5k": is not in the plan of this run (which has best, knee, <=300, <=3k)' in message
    assert "no estimate" in message
    command = message.partition("mernas search")[2]
    assert "--budgets 300,3k,5k --max-params 5k --trials 5 --batch 3" in command
    assert f"--space {run.folder / 'space.yaml'} --partition {run.folder / 'plan.yaml'}" in command
    assert "--seed 3" in command
    for text, meant in (("kneee", "knee"), ("3k", "<=3k")):
        with pytest.raises(PlanError, match=f'Did you mean "{meant}".* This run has best, knee, <=300, <=3k'):
            export_model(run, text, tmp_path / "model", data)


def test_a_rule_without_a_candidate_in_some_study_is_refused(run: FinishedRun, tmp_path: Path, data: Dataset) -> None:
    emptied = replace(run, chosen=replace(run.chosen, single=(), empty=(300, 3000)))
    with pytest.raises(PlanError, match="has no candidate in some study"):
        export_model(emptied, "<=300", tmp_path / "model", data)


def test_other_clips_are_refused_in_one_line_that_says_what_the_run_had_and_where_it_lay(
    run: FinishedRun, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    noted = with_folder(run, tmp_path / "run")
    (noted.folder / "data.txt").write_text("manifest=/data/my clips.csv\n")
    other = replace(toy(subjects=4, seed=1), provides=frozenset({"frames"}))
    with pytest.raises(DataError) as caught:
        export_model(noted, "best", tmp_path / "model", other)
    had = f"toy, {len(run.plan.dataset)} clips of {len(run.plan.dataset.subjects)} subjects"
    lay = "The run's data.txt names --data 'manifest=/data/my clips.csv'; write that, or where they lie now."
    found = f"{len(other)} other clips of 4 subjects"
    assert str(caught.value) == f"data toy: must be those of the run ({had}), found {found}. {lay}"
    (noted.folder / "data.txt").unlink()
    with pytest.raises(DataError, match=r"other clips of 4 subjects\. Name them: --data PATH/toy\.csv\.$"):
        export_model(noted, "best", tmp_path / "model", other)


def test_the_clips_of_the_run_with_other_annotations_are_refused_with_everything_that_differs(
    run: FinishedRun, toy: Callable[..., Dataset], tmp_path: Path
) -> None:
    plain = toy()
    swapped = plain.annotations.assign(emotion=plain.annotations["emotion"].iloc[::-1].to_numpy())
    with pytest.raises(DataError, match="the labels must be too") as caught:
        export_model(run, "best", tmp_path / "model", replace(plain, annotations=swapped))
    assert len(caught.value.problems) == 1
    with pytest.raises(DataError) as caught:
        export_model(run, "best", tmp_path / "model", replace(plain, annotations=swapped, provides=frozenset()))
    labels, facts = map(str, caught.value.problems)
    assert "the labels must be too" in labels
    had = ", ".join(sorted(run.plan.dataset.provides))
    assert f"the facts that the clips come with must be too ({had}), found none. Use the annotations" in facts
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_alone_has_no_clips_to_train_on(run: FinishedRun, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"are needed to train .* --data PATH/toy.csv"):
        export_model(run, "best", tmp_path / "model")


def test_data_are_named_part_by_part_and_with_a_path_only_where_there_is_one(run: FinishedRun, tmp_path: Path) -> None:
    named = replace(run.plan.dataset, name="flow-images+synthetic")
    composite = replace(run, plan=replace(run.plan, dataset=named), folder=tmp_path)
    with pytest.raises(DataError) as caught:
        export_model(composite, "best", tmp_path / "model")
    assert str(caught.value).endswith("Name them: --data flow-images=PATH --data synthetic.")
    with pytest.raises(PlanError) as refused:
        find_row(composite, export.parse_rule("<=5k"))
    # A run of an earlier version holds no space file, and says only how its own was called.
    assert "mernas search --data flow-images=PATH --data synthetic --space toy.yaml --part" in str(refused.value)
    # And that is what loading takes.
    assert load_data("synthetic").name == "synthetic"
    with pytest.raises(DataError, match="has no files"):
        load_data("synthetic=PATH")
    with pytest.raises(DataError, match="needs to know where it lies"):
        load_data("flow-images")


@pytest.mark.parametrize(
    ("noted", "command"),
    [
        (b"flow-images=/data/x y\n\n", b"--data 'flow-images=/data/x y' --space"),
        (b"flow-images=/data/\xe9\nsynthetic\n", b"--data 'flow-images=/data/\xe9' --data synthetic --space"),
    ],
)
def test_the_command_for_another_rule_names_the_data_where_they_lay(
    run: FinishedRun, tmp_path: Path, noted: bytes, command: bytes
) -> None:
    (tmp_path / "data.txt").write_bytes(noted)
    with pytest.raises(PlanError) as caught:
        find_row(with_folder(run, tmp_path), export.parse_rule("<=5k"))
    assert b"mernas search " + command in os.fsencode(str(caught.value))


def test_a_run_of_another_engine_is_refused(run: FinishedRun, data: Dataset) -> None:
    older = replace(run.plan, description={**run.plan.description, "engine": 0})
    with pytest.raises(PlanError, match="was made with engine 0"):
        train_on_everyone(older, run.genotype(run.chosen.rules[0].final.genotype), data)


def test_what_lies_in_the_place_is_never_lost(
    exported: Exported, run: FinishedRun, data: Dataset, tmp_path: Path, quick: object
) -> None:
    place = tmp_path / "model"
    place.write_text("mine")
    with pytest.raises(DataError, match="must be a folder, found a file"):
        export_model(run, "best", place, data)
    place.unlink()
    place.mkdir()
    (place / "thesis.tex").write_text("mine")
    with pytest.raises(DataError, match=r"must be empty, or hold a model .* found thesis\.tex"):
        export_model(run, "best", place, data)
    (place / "thesis.tex").unlink()
    export_model(run, "best", place, data, programs=())  # an empty folder is taken
    first = (place / "model.safetensors").read_bytes()
    made = export_model(run, "best", place, data, programs=())  # and so is a model of the same pipeline
    assert (place / "model.safetensors").read_bytes() == first
    assert read_bundle(place).files == made.bundle.files
    (place / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"found notes\.txt"):
        export_model(run, "best", place, data, programs=())
    (place / "notes.txt").unlink()
    (place / "README.md").write_text("my own words")
    with pytest.raises(DataError, match="that somebody has edited"):
        export_model(run, "best", place, data, programs=())
    assert (place / "README.md").read_text() == "my own words"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_is_written_whole_or_not_at_all(
    run: FinishedRun, data: Dataset, tmp_path: Path, quick: Callable[[float], None]
) -> None:
    quick(2e-5)
    with pytest.raises(RunError, match="a fresh process: must give the probabilities of this one to 1e-05"):
        export_model(run, "best", tmp_path / "model", data, programs=())
    assert list(tmp_path.iterdir()) == []
    quick(0.0)
    for place in (tmp_path / "model", tmp_path / "above" / "model"):
        for steps in range(4):  # after the training, the programs, the trial and the card
            answers = iter([False] * steps)
            with pytest.raises(Interrupted):
                export_model(run, "best", place, data, programs=(), stopping=lambda rest=answers: next(rest, True))
            assert list(tmp_path.iterdir()) == []


def test_a_process_that_fails_because_the_user_stops_is_no_fault_of_the_installation(
    run: FinishedRun, data: Dataset, tmp_path: Path, quick: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def stop(*_: object) -> None:
        asked.append(True)
        raise RunError("the fresh process failed, found KeyboardInterrupt")

    monkeypatch.setattr(export, "predict_in_fresh_process", stop)
    with pytest.raises(Interrupted):
        export_model(run, "best", tmp_path / "model", data, programs=(), stopping=lambda: bool(asked))
    with pytest.raises(RunError):
        export_model(run, "best", tmp_path / "model", data, programs=())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_found_out_before_the_training(
    run: FinishedRun, data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "train_on_everyone", lambda *_: pytest.fail("it trained"))
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"--out .*file/model: cannot be written"):
        export_model(run, "best", tmp_path / "file" / "model", data)
    (tmp_path / "empty").mkdir()

    def full(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(placing.tempfile, "mkdtemp", full)
    for name in ("new", "empty"):
        with pytest.raises(DataError, match=r"cannot be written, found Read-only file system"):
            export_model(run, "best", tmp_path / name, data)
    assert {path.name for path in tmp_path.iterdir()} == {"file", "empty"}


def test_a_folder_that_exists_stays_the_same_folder(
    run: FinishedRun, data: Dataset, tmp_path: Path, quick: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "mine"
    place.mkdir()
    number = place.stat().st_ino
    monkeypatch.chdir(place)
    for _ in range(2):  # an empty one, and one that holds a model
        made = export_model(run, "best", ".", data, programs=())
        assert made.folder == place
        assert place.stat().st_ino == number
        assert (Path.cwd() / "bundle.json").is_file()
        assert {path.name for path in place.iterdir()} == {*read_bundle(place).files, "bundle.json", ".gitattributes"}
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("before", [False, True])
def test_a_move_that_fails_half_way_leaves_what_was_there(
    exported: Exported, tmp_path: Path, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "model"
    shutil.copytree(exported.folder, place) if before else place.mkdir()
    was = {path.name: path.read_bytes() for path in place.iterdir()}
    rename, order = Path.rename, []

    def last_fails(source: Path, target: Path) -> Path:
        if source.name == "bundle.json" and target.parent == place and source.parent.suffix == ".part":
            order.extend(path.name for path in place.iterdir() if path.is_file())
            raise OSError(28, "No space left on device")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", last_fails)
    with placing.staging(place) as staged:
        shutil.copytree(exported.folder, staged, dirs_exist_ok=True)
        with pytest.raises(OSError, match="No space left"):
            placing.move_whole(staged, place, exported.bundle.genotype)
    assert {"model.safetensors", "README.md"} <= set(order)  # all others had been moved: the manifest comes last
    assert "bundle.json" not in order
    assert {path.name: path.read_bytes() for path in place.iterdir()} == was


def test_a_damaged_model_in_the_place_is_called_so_with_what_helps(
    exported: Exported, run: FinishedRun, data: Dataset, tmp_path: Path
) -> None:
    place = tmp_path / "model"
    shutil.copytree(exported.folder, place)
    (place / "model.safetensors").write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        export_model(run, "best", place, data)
    message = str(caught.value)
    assert f"--out {place}: holds a model that is damaged" in message
    assert "model.safetensors: is not the file that was exported" in message
    assert message.endswith("Choose another folder, or move this one away.")
    assert "again" not in message  # that is what was tried


def test_what_cannot_be_asked_of_an_export_is_told_at_once(run: FinishedRun, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        export_model(run, "best", tmp_path / "model", data, programs=("model.onx", "model.pt2"), repetitions=0)
    unknown, repetitions = map(str, caught.value.problems)
    assert unknown.startswith('program "model.onx": is not known. Did you mean "model.onnx"')
    assert "Known: model.onnx, model.pt2" in unknown
    assert "repetitions: must be at least 1, found 0" in repetitions
    with pytest.raises(PlanError, match="must be a list of names"):
        export_model(run, "best", tmp_path / "model", data, programs="model.pt2")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(DataError, match="--out"):
        export_model(run, "best", tmp_path / "loop", data)


def test_onnx_that_cannot_be_had_is_told_in_the_card_the_manifest_and_to_the_user(
    run: FinishedRun,
    data: Dataset,
    tmp_path: Path,
    quick: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "onnxscript" else known(name, *rest)
    )
    said: list[str] = []
    reporter = Silent()
    monkeypatch.setattr(reporter, "say", said.append)
    made = export_model(run, "best", tmp_path / "model", data, programs=("model.onnx",), reporter=reporter)
    reason = "ONNX: unavailable: needs onnxscript"
    assert not (tmp_path / "model" / "model.onnx").exists()
    assert reason in words(card(made))
    assert reason in read_bundle(tmp_path / "model").unavailable["model.onnx"]
    assert reason in said[0]
    for as_json in (False, True):
        print_export(made, as_json)
        assert reason in capsys.readouterr().out


# The card


def test_the_card_has_front_matter_for_the_hub_and_no_score_of_this_model(exported: Exported) -> None:
    _, front, _ = card(exported).split("---\n", 2)
    plain = YAML(typ="safe").load(front)
    assert plain["library_name"] == "mernas"
    assert plain["license"] == "other"
    assert {"micro-expression-recognition", "pytorch"} <= set(plain["tags"])
    assert "f1" in plain["metrics"]
    assert "model-index" not in plain  # there a figure would be this model's own score


def test_the_card_gives_the_estimate_as_that_of_the_rule(exported: Exported, run: FinishedRun) -> None:
    rules = pd.read_csv(run.folder / "rules.csv").set_index("rule").loc["best"]
    text = words(card(exported))
    sentence = (
        f"What this search with the rule `best` attains on new subjects: UF1 {rules['nested_uf1']:.3f}, 95% interval "
        f"{rules['ci_low']:.3f} to {rules['ci_high']:.3f}; UAR {rules['nested_uar']:.3f}."
    )
    assert sentence in text
    assert "It is not the score of this one model" in text
    assert f"{rules['inner_uf1']:.3f}" not in text or rules["inner_uf1"] == pytest.approx(rules["nested_uf1"], abs=1e-3)


def test_the_card_says_what_the_model_is_not_fit_for_and_where_it_comes_from(exported: Exported, data: Dataset) -> None:
    text = words(card(exported))
    for phrase in (
        "surveillance, lie detection, hiring",
        data.licence,
        "mernas predict model",
        "`model.pt2`",
        "seed 3",
    ):
        assert phrase in text
    assert "It cannot take a video" in text  # it was trained on given maps
    assert f"softmax(logits / {exported.bundle.temperature!r})" in text


def test_the_pipeline_in_the_card_is_the_pipeline(exported: Exported) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", card(exported), re.DOTALL)
    assert parse_genotype(block) == exported.bundle.genotype
    assert parse_genotype((exported.folder / "genotype.yaml").read_text()) == exported.bundle.genotype


def test_scores_of_groups_are_those_of_scikit_learn_on_the_published_predictions(
    exported: Exported, run: FinishedRun, data: Dataset
) -> None:
    predictions = pd.read_csv(run.folder / "predictions.csv", keep_default_na=False, dtype={"budget": str})
    rows = predictions[predictions["rule"] == "best"].set_index("clip")
    classes = list(data.classes)
    row = find_row(run, export.parse_rule("best"))
    grouped = groupings(data)
    assert set(grouped) == {"sex", "age"}  # everyone has the same camera, and that is no group of people
    for column, parts in grouped.items():
        for found in part_scores(run.plan, run.record, row, parts):
            inside = [clip.key for clip, part in zip(data, parts, strict=True) if part == found.part]
            truth, said = rows.loc[inside, "label"], rows.loc[inside, "prediction"]
            expected = f1_score(truth, said, labels=classes, average=None, zero_division=0)
            assert found.f1 == pytest.approx(tuple(expected)), column
            assert found.uf1 == pytest.approx(expected.mean())
            recall = recall_score(truth, said, labels=classes, average="macro", zero_division=0)
            assert found.uar == pytest.approx(recall)
            assert found.subjects == rows.loc[inside, "subject"].nunique()
            assert found.low <= found.high
            line = next(line for line in card(exported).splitlines() if line.startswith(f"| {found.part} |"))
            assert f"{found.subjects} \\*" in line  # fewer than ten people
            assert f" {found.uf1:.3f} |" in line


def test_ages_are_put_into_decades_and_gaps_are_told(data: Dataset) -> None:
    ages = pd.Series([19, 20, 29.5, None, *[40] * (len(data) - 4)], index=data.annotations.index)
    found = groupings(replace(data, annotations=data.annotations.assign(age=ages, sex="female")))
    assert found["age"][:5] == ["10 to 19", "20 to 29", "20 to 29", "not stated", "40 to 49"]
    assert "sex" not in found


@pytest.mark.parametrize("name", ["Age", "age_years", "Age in years"])
def test_no_age_is_published_as_it_is(data: Dataset, name: str) -> None:
    given = ["21", "n/a", "inf", "-1", "999", "nan", "31.5", "thirty", "1e400", "0"]
    ages = pd.Series([given[place % 10] for place in range(len(data))], index=data.annotations.index)
    plain = data.annotations.drop(columns=["age"])
    (found,) = (
        groups
        for column, groups in groupings(replace(data, annotations=plain.assign(**{name: ages}))).items()
        if column.startswith("age")
    )
    assert found[:10] == ["20 to 29", *["not stated"] * 5, "30 to 39", "not stated", "not stated", "0 to 9"]


def test_codes_of_groups_stay_codes_and_gaps_are_one_group(data: Dataset) -> None:
    count = len(data)
    codes = pd.Series([None, *[float(1 + place % 12) for place in range(count - 1)]], index=data.annotations.index)
    genders = [("F", "f ", "M", "n/a", "", "Unknown")[place % 6] for place in range(count)]
    table = data.annotations.assign(ethnicity=codes, Gender=genders)
    found = groupings(replace(data, annotations=table))
    assert found["ethnicity"][:13] == ["not stated", *(str(code) for code in range(1, 13))]
    assert found["gender"][:6] == ["F", "F", "M", *["not stated"] * 3]


@pytest.mark.parametrize(
    ("groups", "shown"),
    [
        (["abc", "de"], [0, 1]),
        (["abc", "d", "ef"], [0]),  # with two shown, the one person is everyone less both
        (["abcdefghij", "klmnopqrst", "u"], [0]),
        (["klmnopqrst", "u", "abcdefghi"], [0]),  # the smallest goes
        (["abc", "d"], []),
        (["abc", "d", "e"], [0]),  # who is left is a group of two
        (["abc", "d", "d", "ef"], [0]),  # the same person in two groups is one person
        (["abc", "d", "e", "fg"], [0, 3]),
        (["a", "b", "c"], []),
    ],
)
def test_neither_a_group_shown_nor_everyone_less_those_shown_is_a_single_person(
    groups: list[str], shown: list[int]
) -> None:
    scores = [
        PartScore(str(place), 9, len(people), 0.5, 0.4, 0.6, 0.5, 0.5, (0.5,), ())
        for place, people in enumerate(groups)
    ]
    people = {str(place): frozenset(names) for place, names in enumerate(groups)}
    kept, left_out = published(scores, people)
    assert [int(one.part) for one in kept] == shown
    assert left_out == len(groups) - len(shown)


def test_nobody_s_own_scores_are_published(run: FinishedRun, data: Dataset, tmp_path: Path, quick: object) -> None:
    first = data.subjects[0]
    alone = ["alone" if clip.subject == first else "others" for clip in data]
    three = ["lone" if one == "alone" else str(place % 2) for place, one in enumerate(alone)]
    table = data.annotations.assign(sex=alone, ethnicity=three)
    text = card(export_model(run, "best", tmp_path / "model", replace(data, annotations=table), programs=()))
    assert "| alone |" not in text
    assert "| others |" not in text
    assert "| lone |" not in text
    assert "| 0 | 5 \\* |" in text
    assert "| 1 |" not in text  # with it, the lone one is everyone less the two
    said = words(text)
    assert "Groups by sex that are not shown: 2." in said
    assert "Groups by ethnicity that are not shown: 2." in said
    assert "everyone less the groups shown would be one person" in said


def test_a_temperature_at_its_bound_is_flagged(
    run: FinishedRun, data: Dataset, tmp_path: Path, quick: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents: list[CardContent] = []
    monkeypatch.setattr(export, "write_card", lambda content: contents.append(content) or "card")
    export_model(run, "best", tmp_path / "model", data, programs=())
    (content,) = contents

    def text(temperature: float) -> str:
        return words(write_card(replace(content, bundle=replace(content.bundle, temperature=temperature))))

    low, high = TEMPERATURES
    assert "lies at a bound of the range in which it is sought, 0.05 to 20:" in text(low * (1 + 1e-6))
    assert "may be far too sure" in text(low)
    assert "say next to nothing" in text(high * (1 - 1e-6))
    assert "lies at a bound" not in text(1.3)


def test_a_part_that_lacks_a_class_has_no_interval(run: FinishedRun, data: Dataset) -> None:
    parts = ["without" if emotion != "surprise" else "with" for emotion in data.annotations["emotion"]]
    row = find_row(run, export.parse_rule("best"))
    having, lacking = part_scores(run.plan, run.record, row, parts)
    assert (having.part, having.absent) == ("with", (0, 1))
    assert (lacking.part, lacking.absent) == ("without", (2,))
    assert np.isnan([having.low, lacking.low]).all()


def test_a_card_without_groups_says_that_nothing_can_be_said(
    run: FinishedRun, toy: Callable[..., Dataset], tmp_path: Path, quick: object
) -> None:
    made = export_model(run, "knee", tmp_path / "model", toy(), programs=())
    assert "do not tell people apart by sex, ethnicity or age" in words(card(made))
    assert "`model.onnx`: was not asked for" in card(made)


def test_a_place_whose_name_is_not_utf_8_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="must have a name in UTF-8"):
        place_of(os.fsdecode(b"mod\xe8le"))
