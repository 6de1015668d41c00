"""Where `--out` may write one file: nowhere that loses what is read or was made, and known before any training."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mernas.cli import cli
from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.manifest_writing import write_clips
from mernas.components.datasets.synthetic import Synthetic
from mernas.evaluation import bundle_files as bundle
from mernas.search import evaluate
from mernas.search.out_file import CANDIDATES, MODEL_FILES, RUN_FILES, check_out_file
from mernas.search.report import report_command
from mernas.search.run import SearchResult, run_search
from mernas.space.errors import DataError, PlanError


def mernas(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def mistakes(result: Result) -> list[str]:
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return [line for line in result.stderr.splitlines() if line.startswith("mernas: ")]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    write_clips(Synthetic(subjects=3, clips=3, macro_subjects=0).load(), tmp_path / "clips")
    return tmp_path / "clips"


@pytest.fixture
def run(finished: SearchResult, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr(evaluate, "working", refuse)


def frame_of(clips: Path) -> Path:
    return sorted(clips.rglob("*.png"))[0]


@pytest.mark.usefixtures("no_training")
@pytest.mark.parametrize("choose", [lambda clips: clips / "manifest.csv", frame_of])
def test_an_evaluation_never_replaces_its_data(choose: Callable[[Path], Path], clips: Path) -> None:
    before = contents(clips)
    out = choose(clips)
    (message,) = mistakes(mernas("evaluate", "majority", "--data", clips / "manifest.csv", "--out", out))
    assert "must not replace what the command reads" in message
    assert contents(clips) == before


@pytest.mark.usefixtures("no_training")
def test_an_evaluation_never_replaces_its_pipeline_or_its_kept_folds(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("streams: []\n")
    data = ("--data", clips / "manifest.csv")
    (message,) = mistakes(mernas("evaluate", tmp_path / "mine.yaml", *data, "--out", tmp_path / "mine.yaml"))
    assert "must not replace what the command reads" in message
    kept = tmp_path / "kept"
    (message,) = mistakes(mernas("evaluate", "majority", *data, "--keep", kept, "--out", kept / "ledger.sqlite"))
    assert "must not replace a file of a folder of kept folds" in message


def test_an_input_is_known_under_any_name(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("")
    (tmp_path / "link.csv").symlink_to("clips.csv")
    (tmp_path / "folder").symlink_to(".")
    os.link(tmp_path / "clips.csv", tmp_path / "hard.csv")
    for name in ("clips.csv", "link.csv", "folder/clips.csv", "hard.csv"):
        with pytest.raises(PlanError, match="what the command reads"):
            check_out_file(tmp_path / name, [tmp_path / "clips.csv"])
    assert check_out_file(tmp_path / "new" / "clips.csv", [tmp_path / "clips.csv"]) == tmp_path / "new" / "clips.csv"
    assert not (tmp_path / "new").exists()


def test_a_report_replaces_no_file_of_a_run_but_its_own_page(run: Path, finished: SearchResult, tmp_path: Path) -> None:
    before = contents(run)
    for name in ("ledger.sqlite", "front.csv", "Front.CSV", next(name for name in before if CANDIDATES in name)):
        with pytest.raises(PlanError, match="must not replace a file of a run directory"):
            report_command([run], run / name)
    with pytest.raises(PlanError, match="must not replace"):
        report_command([finished.folder], run / "report.html")
    with pytest.raises(PlanError, match="must not replace"):  # a comparison is no report of either
        report_command([finished.folder, run], run / "report.html")
    assert contents(run) == before
    assert report_command([run], run / "report.html") == (run / "report.html",)
    assert report_command([run], run / "mine.html") == (run / "mine.html",)
    assert report_command([run], run / "mine.html") == (run / "mine.html",)  # again: it is the user's own


def test_the_files_of_a_run_are_all_known(finished: SearchResult) -> None:
    found = {path.name for path in finished.folder.iterdir()}
    assert found <= RUN_FILES | {CANDIDATES}


def test_the_files_of_a_model_are_all_known_and_kept(tmp_path: Path) -> None:
    names = {bundle.WEIGHTS, bundle.CARD, bundle.PIPELINE, bundle.ENVIRONMENT, bundle.PROGRAM, bundle.ONNX}
    assert names <= MODEL_FILES
    (tmp_path / "bundle.json").write_text("{}")
    for name in MODEL_FILES:
        with pytest.raises(PlanError, match="must not replace a file of a model"):
            check_out_file(tmp_path / name)
    assert check_out_file(tmp_path / "predictions.csv") == tmp_path / "predictions.csv"


def test_a_run_is_not_made_where_a_model_lies(toy: Callable[..., Dataset], toy_space: Path, tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(PlanError, match=r"holds an exported model.*with --out"):
        run_search(toy(), space=toy_space, out=tmp_path, trials=1)
    with pytest.raises(PlanError, match=r"holds an exported model.*with --keep"):
        evaluate.run_evaluation("majority", toy(), keep=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.json"]


@pytest.mark.usefixtures("no_training")
def test_a_place_that_cannot_be_written_is_told_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (message,) = mistakes(mernas("evaluate", "majority", "--out", tmp_path))
    assert "--out: must be a file, found the folder" in message
    (tmp_path / "taken").write_text("")
    (message,) = mistakes(mernas("evaluate", "majority", "--out", tmp_path / "taken" / "x.csv"))
    assert "cannot be written, found Not a directory" in message
    assert "Choose another file with --out" in message

    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    (message,) = mistakes(mernas("evaluate", "majority", "--out", tmp_path / "new" / "x.csv"))
    assert "x.csv: cannot be written, found Permission denied. Choose another file with --out." in message
    assert not (tmp_path / "new").exists()


def test_scores_are_printed_although_their_file_can_no_longer_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mernas.search import results

    def full(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(results, "write_whole", full)
    done = mernas("evaluate", "majority", "--out", tmp_path / "x.csv")
    (message,) = mistakes(done)
    assert "Choose another file with --out" in message
    assert "UF1" in done.stdout


def test_what_cannot_be_written_names_the_option_that_named_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("")
    (message,) = mistakes(mernas("evaluate", "majority", "--keep", tmp_path / "taken" / "kept"))
    assert "Choose another folder with --keep" in message
    from mernas.search import results

    def refuse(*_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(results, "write_whole", refuse)
    with pytest.raises(DataError, match=r"Read-only file system.*--out FILE\.html"):
        report_command([run])
