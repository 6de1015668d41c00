"""The command line as a user meets it: one message per mistake and exit code 2, results on standard output."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mernas.cli import cli
from mernas.evaluation.picking import default_budgets, format_size, parse_budgets, parse_size
from mernas.search.evaluate import find_pipeline
from mernas.search.run import load_data
from mernas.space.presets import load_preset

SPACE = """
extends: full
keep: {input: [optical_flow], flow_estimator: [farneback, given], block: [convolution, residual], attention: none,
       readout: [average], cascade: none, head: [linear, mlp], fusion: [concatenation], preprocessing: none,
       augmentation: [flip, shift], training: [scratch], schedule: [constant, cosine], sampler: none, mixing: none,
       averaging: none, loss: [cross_entropy], auxiliary_loss: none, side_task: none}
set:
  input.optical_flow: {size: 14}
  training.scratch: {epochs: 1, batch: 32}
  pipeline.network: {streams: 1}
  stream.stream: {backbone: 1}
  block.convolution: {width: {low: 2, high: 8}}
  block.residual: {width: {low: 2, high: 4}}
"""


def mernas(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def mistakes(result: Result) -> list[str]:
    """The messages of a refused command; no traceback, nothing on standard output but what came before."""
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.output
    return [line for line in result.stderr.splitlines() if line.startswith("mernas: ")]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six subjects with one 14-pixel flow image of every class each."""
    generator = np.random.default_rng(0)
    root = tmp_path / "images"
    for subject in ("sub01", "sub02", "sub03", "s04", "s05", "s06"):
        for label in range(3):
            path = root / subject / "u_test" / str(label) / f"{subject}_{label} .png"
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), generator.integers(0, 256, size=(14, 14, 3), dtype=np.uint8))
    return root


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(SPACE)
    return path


def search(images: Path, space: Path, out: Path, *more: object) -> Result:
    small = ("--trials", 2, "--batch", 2, "--groups", 3, "--budgets", "1k,5k", "--max-params", "5k", "--workers", 1)
    return mernas("search", "--data", f"flow-images={images}", "--space", space, *small, "--out", out, *more)


def test_a_search_prints_front_rules_and_baselines_and_is_repeated_without_training(
    images: Path, space: Path, tmp_path: Path
) -> None:
    first = search(images, space, tmp_path / "run")
    assert first.exit_code == 0, first.output
    for words in ("Front", "nested UF1", "<=1k", "knee", "majority", "rbf_svm", "inner UF1"):
        assert words in first.stdout
    second = search(images, space, tmp_path / "run")
    assert second.stdout == first.stdout
    assert "to do" not in second.stderr


def test_a_search_prints_json_for_programs(images: Path, space: Path, tmp_path: Path) -> None:
    result = search(images, space, tmp_path / "run", "--json")
    body = json.loads(result.stdout)
    assert {"front", "rules", "baselines", "choices", "plan", "folder"} <= body.keys()
    assert {row["rule"] for row in body["rules"]} == {"best", "knee"}


def test_a_budget_without_a_candidate_in_some_study_is_not_reported_and_that_is_said(
    images: Path, space: Path, tmp_path: Path
) -> None:
    budgets = ("--budgets", "5,5k", "--out", tmp_path / "run")
    shown = search(images, space, tmp_path / "run", *budgets)
    assert "Not reported, because some study has no candidate that small: 5." in shown.stdout
    body = json.loads(search(images, space, tmp_path / "run", *budgets, "--json").stdout)
    assert body["not_reported"] == [5]
    assert [row["budget"] for row in body["front"]] == ["5000"]


def test_a_dry_run_says_where_a_time_ends_the_proposals(images: Path, space: Path, tmp_path: Path) -> None:
    short = search(images, space, tmp_path / "run", "--dry-run", "--time", "0.01s")
    assert short.exit_code == 0, short.output
    assert "time 0 s; " in short.stderr
    assert "That is longer than --time 0 s: proposals end in time for the outer test" in short.stdout
    assert "longer than" not in search(images, space, tmp_path / "run", "--dry-run", "--time", "90h").output


def test_a_dry_run_forecasts_and_leaves_no_run_directory(images: Path, space: Path, tmp_path: Path) -> None:
    result = search(images, space, tmp_path / "run", "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    stages = {stage["stage"]: stage for stage in json.loads(result.stdout)["stages"]}
    assert stages["First round"]["jobs"] == 2 * (3 + 3)
    assert stages["Outer test"]["jobs"] == (2 + 3) * 6  # of two trials at most two pipelines are chosen
    assert all(stage["seconds"] > 0 for stage in stages.values())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("flag", "said"), [("--race", "racing on"), ("--no-race", "racing off")])
def test_whether_candidates_race_is_asked_and_said(
    flag: str, said: str, images: Path, space: Path, tmp_path: Path
) -> None:
    result = search(images, space, tmp_path / "run", "--dry-run", flag)
    assert result.exit_code == 0, result.output
    assert said in result.stderr


def test_a_textbook_search_asks_before_it_starts(images: Path, space: Path, tmp_path: Path) -> None:
    small = ("--trials", 1, "--batch", 1, "--budgets", "5k", "--max-params", "5k", "--out", tmp_path / "run")
    small += ("--workers", 1)
    arguments = ["search", "--data", f"flow-images={images}", "--space", space, "--groups", "subjects", *small]
    declined = CliRunner().invoke(cli, [str(argument) for argument in arguments], input="n\n")
    assert declined.exit_code == 1
    assert "Forecast" in declined.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_ctrl_c_and_sigterm_stop_cleanly_say_how_to_resume_and_the_same_command_resumes(
    number: signal.Signals, workers: int, images: Path, space: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    arguments = ["search", "--data", f"flow-images={images}", "--space", space, "--trials", 12, "--batch", 6]
    arguments += ["--groups", 3, "--budgets", "1k,5k", "--max-params", "5k", "--out", run]
    command = [sys.executable, "-m", "mernas", *map(str, arguments), "--workers", str(workers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while running.poll() is None and not _jobs(run):
            time.sleep(0.01)
        running.send_signal(number)
        output, told = running.communicate()
    assert running.returncode == 130, told
    assert output == ""
    assert "To resume, repeat the command." in told
    assert "Traceback" not in told
    assert (run / "interim.csv").read_text().startswith("budget,params,inner_uf1,genotype,status")
    done = _jobs(run)
    resumed = mernas(*arguments, "--workers", 1)
    assert resumed.exit_code == 0, resumed.output
    assert _jobs(run) > done
    assert not (run / "interim.csv").exists()


def _jobs(run: Path) -> int:
    """How many jobs a run's ledger holds; 0 while there is none."""
    try:
        with sqlite3.connect(f"file:{run / 'ledger.sqlite'}?mode=ro", uri=True) as database:
            return int(database.execute("SELECT count(*) FROM jobs").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_evaluate_runs_baselines_presets_and_files_under_plain_loso(images: Path, tmp_path: Path) -> None:
    data = f"flow-images={images}"
    majority = mernas("evaluate", "majority", "--data", data, "--json")
    assert majority.exit_code == 0, majority.output
    body = json.loads(majority.stdout)
    assert body["scores"]["all"]["uar"] == pytest.approx(1 / 3)
    assert body["parameters"] is None
    file = tmp_path / "mine.yaml"
    file.write_text(
        "streams: [{input: {optical_flow: {estimator: given, size: 14}}, backbone: [{convolution: {width: 3}}]}]\n"
        "tasks: [{emotion: {head: linear}}]\ntraining: {scratch: {epochs: 1}}\nloss: cross_entropy\n"
    )
    mine = mernas("evaluate", file, "--data", data, "--out", tmp_path / "predictions.csv")
    assert mine.exit_code == 0, mine.output
    assert "smic" in mine.stdout
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 18


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["search", "--data", "flow-imags=x"], ['"flow-images"']),
        (["search", "--data", "flow-images"], ["flow-images=PATH"]),
        (["search", "--data", "flow-images=/no/such/folder"], ["/no/such/folder"]),
        (["search", "--data", "synthetic=/somewhere"], ["has no files"]),
        (["evaluate", "ststnt", "--data", "synthetic"], ['"ststnet"']),
        (["evaluate", "majority", "--data", "synthetic", "--protocol", "losso"], ['"loso"']),
    ],
)
def test_unknown_data_and_names_are_answered_with_what_is_known(arguments: list[str], parts: list[str]) -> None:
    (message,) = mistakes(mernas(*arguments))
    assert all(part in message for part in parts), message


def test_an_empty_folder_is_told(tmp_path: Path, space: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert len(mistakes(search(tmp_path / "empty", space, tmp_path / "run"))) == 1


def test_unknown_label_folders_and_corrupt_images_are_told_together(images: Path, space: Path, tmp_path: Path) -> None:
    (images / "sub01" / "u_test" / "7").mkdir()
    (images / "s04" / "u_test" / "1" / "s04_1 .png").write_bytes(b"not a picture")
    told = mistakes(search(images, space, tmp_path / "run"))
    assert len(told) == 2
    assert any("7" in message and "u_test" in message for message in told)
    assert any("s04_1" in message for message in told)


def test_all_mistakes_of_a_plan_are_told_at_once(images: Path, space: Path, tmp_path: Path) -> None:
    result = mernas(
        "search", "--data", f"flow-images={images}", "--space", space, "--groups", 2, "--budgets", "2k,2k,9M,x",
        "--max-params", "1M", "--trials", 0, "--sampler", "tpee", "--time", "soon", "--job-time", "-1s", "--seeds", 0,
        "--out", tmp_path / "run",
    )  # fmt: skip
    told = "\n".join(mistakes(result))
    parts = ("--groups: must be at least 3", "twice", "9M", '"x"', "--trials", "--sampler", "--time", "--job-time")
    for part in (*parts, "--seeds"):
        assert part in told.replace("2 times", "twice").replace("'x'", '"x"'), part


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--workers", 0], ["--workers: must lie between 1 and"]),
        (["--executor", "spark"], ["--executor: must be one of auto, serial, ray, found spark"]),
        (["--executor", "serial", "--workers", 2, "--address", "auto"], ["has one worker", "knows no cluster"]),
        (["--address", "127.0.0.1:1"], ["--address 127.0.0.1:1: needs a Ray cluster that runs", "ray start --head"]),
        (["--address", "ray://127.0.0.1:1"], ["--address: must be auto or HOST:PORT"]),
    ],
)
def test_places_that_cannot_be_are_told(
    options: list[object], parts: list[str], images: Path, space: Path, tmp_path: Path
) -> None:
    told = "\n".join(mistakes(search(images, space, tmp_path / "run", *options)))
    for part in parts:
        assert part in told, part


def test_fewer_subjects_than_groups_is_told(images: Path, space: Path, tmp_path: Path) -> None:
    (message,) = mistakes(search(images, space, tmp_path / "run", "--groups", 7))
    assert "7 groups and 6 subjects" in message


def test_a_class_found_in_fewer_than_three_groups_is_told_by_name(images: Path, space: Path, tmp_path: Path) -> None:
    for subject in ("sub02", "sub03", "s04", "s05"):
        (images / subject / "u_test" / "2" / f"{subject}_2 .png").unlink()
    told = mistakes(search(images, space, tmp_path / "run"))
    assert any("surprise" in message for message in told)


def test_a_misspelt_leaf_in_a_space_file_is_answered_with_the_nearest(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("keep: {block: [convolutoin]}\nset: {input.optical_flow: {sise: 28}}\n")
    told = mistakes(search(images, path, tmp_path / "run"))
    assert len(told) == 2
    assert '"convolution"' in told[0]
    assert '"size"' in told[1]


def test_a_space_that_leaves_nothing_for_the_data_is_told(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("keep: {input: [apex_frame]}\n")
    told = "\n".join(mistakes(search(images, path, tmp_path / "run")))
    assert "fits the data" in told


def test_a_misspelt_leaf_in_a_pipeline_file_is_answered_with_the_nearest(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("streams: [{input: optical_flwo, backbone: [residul]}]\ntasks: [emotion]\nloss: cross_entropy\n")
    told = "\n".join(mistakes(mernas("evaluate", path, "--data", f"flow-images={images}")))
    assert '"optical_flow"' in told
    assert '"residual"' in told


def test_what_the_data_cannot_give_is_unavailable_with_its_need(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("streams: [{input: apex_frame, backbone: [residual]}]\ntasks: [emotion]\nloss: cross_entropy\n")
    (message,) = mistakes(mernas("evaluate", path, "--data", f"flow-images={images}"))
    assert "unavailable: needs" in message


def test_a_run_directory_of_another_plan_is_refused(images: Path, space: Path, tmp_path: Path) -> None:
    assert search(images, space, tmp_path / "run").exit_code == 0
    (message,) = mistakes(search(images, space, tmp_path / "run", "--seed", 1))
    assert "another plan" in message


def test_an_output_folder_that_cannot_be_written_is_told(images: Path, space: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    (message,) = mistakes(search(images, space, file / "run"))
    assert "cannot be written" in message


def test_a_damaged_ledger_gives_one_message(images: Path, space: Path, tmp_path: Path) -> None:
    assert search(images, space, tmp_path / "run").exit_code == 0
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (tmp_path / "run" / name).unlink(missing_ok=True)
    (tmp_path / "run" / "ledger.sqlite").write_bytes(b"this is no database" * 500)
    (message,) = mistakes(search(images, space, tmp_path / "run"))
    assert "ledger" in message


def test_help_is_quick_to_load_and_imports_no_heavy_library() -> None:
    script = (
        "import sys\nsys.argv = ['mernas', '--help']\nfrom mernas.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'optuna', 'ray', 'pandas', 'sklearn', 'numpy', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", ["search", "evaluate", "verify", "doctor"])
def test_every_command_has_help_with_examples(command: str) -> None:
    result = mernas(command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output


def test_a_negative_seed_a_binary_file_and_an_impossible_name_are_told(images: Path, tmp_path: Path) -> None:
    data = f"flow-images={images}"
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for arguments, part in (
        (["majority", "--seed", -3], "--seed"),
        ([tmp_path / "binary.yaml"], "UTF-8"),
        ([tmp_path], "no preset, baseline or file"),
        (["x" * 5000], "no preset, baseline or file"),
    ):
        (message,) = mistakes(mernas("evaluate", *arguments, "--data", data))
        assert part in message
    (message,) = mistakes(mernas("evaluate", "majority", "--data", "flow-images=" + "x" * 5000))
    assert "cannot be read" in message


def test_a_pipeline_that_cannot_be_built_is_refused_before_anything_is_trained(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    blocks = ", ".join(["{convolution: {pool: max3}}"] * 4)
    stream = f"{{input: {{optical_flow: {{estimator: given, size: 14}}}}, backbone: [{blocks}]}}"
    path.write_text(f"streams: [{stream}]\ntasks: [emotion]\nloss: cross_entropy\n")
    result = mernas("evaluate", path, "--data", f"flow-images={images}")
    (message,) = mistakes(result)
    assert "pooling" in message
    assert "to do" not in result.stderr


@pytest.mark.parametrize(
    ("options", "budgets"),
    [
        ((), "2k, 10k, 50k"),
        (("--max-params", "10k"), "2k, 10k"),
        (("--budgets", "100k"), "100k"),
    ],
)
def test_the_demonstration_takes_any_budgets_and_limit(
    options: tuple[str, ...], budgets: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planned = {}

    def plan_search(*arguments: object, **given: object) -> object:
        planned.update(given)
        raise RuntimeError("seen enough")

    monkeypatch.setattr("mernas.search.run.plan_search", plan_search)
    mernas("search", "--out", tmp_path / "run", *options)
    limit, given = parse_size(planned["max_params"]), planned["budgets"]
    found = default_budgets(limit) if given is None else parse_budgets(given, limit)
    assert ", ".join(map(format_size, found)) == budgets


def test_groups_and_a_partition_exclude_each_other(images: Path, space: Path, tmp_path: Path) -> None:
    assert search(images, space, tmp_path / "run").exit_code == 0
    told = mistakes(search(images, space, tmp_path / "other", "--partition", tmp_path / "run" / "plan.yaml"))
    assert any("cannot be given with --partition" in message for message in told)


def test_the_forecast_of_a_textbook_search_leaves_standard_output_to_the_result(
    images: Path, space: Path, tmp_path: Path
) -> None:
    small = ("--trials", 1, "--batch", 1, "--budgets", "5k", "--max-params", "5k", "--out", tmp_path / "run", "--json")
    small += ("--workers", 1)
    arguments = ["search", "--data", f"flow-images={images}", "--space", space, "--groups", "subjects", *small]
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input="y\n")
    assert result.exit_code == 0, result.output
    assert "Forecast" in result.stderr
    assert json.loads(result.stdout)["front"]


@pytest.mark.parametrize(
    "name", ["bi_woof", "lbp_top_svm", "capsulenet", "elrcn_se", "dssn", "strcn_g", "micro_exp_stcnn"]
)
def test_a_preset_of_frames_is_refused_on_flow_images_in_one_message(name: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for subject in ("sub01", "s01", "006"):
        for label in range(3):
            path = tmp_path / subject / "u_test" / str(label) / f"{subject}_{label} .png"
            path.parent.mkdir(parents=True)
            cv2.imwrite(str(path), generator.integers(0, 256, (28, 28, 3), dtype=np.uint8))
    refused = mernas("evaluate", name, "--data", f"flow-images={tmp_path}")
    assert refused.exit_code == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("mernas:")]
    assert f'preset "{name}": unavailable: needs frames with ' in line
    assert find_pipeline("rcn_a", load_data(f"flow-images={tmp_path}")) == load_preset("rcn_a").genotype
