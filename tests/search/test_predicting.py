"""Prediction end to end: a trained model in a folder, videos of synthetic clips, and what is printed and written."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

from mernas.cli import cli
from mernas.components.datasets.clip import Clip
from mernas.components.datasets.synthetic import Synthetic
from mernas.components.inputs.farneback import Farneback
from mernas.components.inputs.optical_flow import OpticalFlow
from mernas.evaluation.bundle import Bundle, FrameSizes, RuleEstimate, TrainingData, read_bundle, write_bundle
from mernas.evaluation.bundle_files import PIPELINE, WEIGHTS
from mernas.evaluation.estimator import MernasClassifier
from mernas.evaluation.model import network_bytes
from mernas.search.predicting import PredictedClip, grouped_notes, predict_command, predict_sources
from mernas.space.errors import DataError, MernasError, PlanError
from mernas.space.genotype import parse_genotype

CLASSES = ("negative", "positive", "surprise")
TEMPERATURE = 1.7
GENOTYPE = """
streams:
  - input: {optical_flow: {estimator: farneback, size: 14}}
    backbone: [{convolution: {width: 4}}]
tasks: [{emotion: {head: linear}}]
training: {scratch: {epochs: 8, optimizer: {adamw: {lr: 0.02}}}}
loss: cross_entropy
"""


@dataclass(frozen=True, eq=False)
class Trained:
    """A model on disk, the network in this process, and the clips that it was trained on."""

    folder: Path
    network: torch.nn.Module
    clips: tuple[Clip, ...]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    data = Synthetic(subjects=3, clips=3).load()
    genotype = parse_genotype(GENOTYPE)
    cache = tmp_path_factory.mktemp("cache")
    fitted = MernasClassifier(genotype, cache=cache).fit(data.clips, data.annotations["emotion"])
    assert fitted.classes_.tolist() == list(CLASSES)
    bundle = Bundle(
        genotype=genotype,
        classes=CLASSES,
        facts=data.provides,
        parameters=100,
        data=TrainingData(data.name, data.fingerprint, data.label_fingerprint, len(data), 3, data.licence),
        rule="knee",
        estimate=RuleEstimate("nested-loso", 0.61, 0.52, 0.69, 0.6),
        plan="0" * 16,
        seed=0,
        temperature=TEMPERATURE,
        threshold=0.5,
        coverage=0.9,
        frames=FrameSizes((64, 64, 64), (64, 64, 64)),
    )
    folder = tmp_path_factory.mktemp("model")
    files = {WEIGHTS: network_bytes(fitted.model_), PIPELINE: genotype.to_yaml().encode()}
    write_bundle(folder, bundle, files)
    return Trained(folder, fitted.model_, data.clips)


def write_video(path: Path, clip: Clip, codec: str) -> Path:
    assert clip.frames is not None
    height, width = clip.frames[0].shape
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 200.0, (width, height))
    for number in range(len(clip.frames)):
        writer.write(cv2.cvtColor(clip.frames[number], cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def decoded(path: Path) -> NDArray[np.uint8]:
    """The frames of a video by OpenCV alone, in RGB."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][:, :, ::-1])
    return np.stack(frames)


def probabilities(network: torch.nn.Module, frames: NDArray[np.uint8], onset: int, apex: int) -> NDArray[np.float64]:
    """What the network in this process says of some frames, by the softmax's formula."""
    flow = OpticalFlow(estimator=Farneback(), size=14)
    map_ = flow.prepare(Clip("a/b/c", "a", "a/b", "no hash", frames=frames, onset=onset, apex=apex))
    with torch.inference_mode():
        logits = network.eval()([torch.from_numpy(map_[None])])[0].double().numpy() / TEMPERATURE
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def test_a_frame_rate_that_is_given_is_told_where_the_video_says_another(trained: Trained, tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mkv", trained.clips[0], "FFV1")
    arguments = ["predict", str(trained.folder), str(video), "--onset", "0", "--apex", "5", "--csv", "--fps"]
    said = CliRunner().invoke(cli, [*arguments, "100"])
    assert said.exit_code == 0, said.output
    assert said.stderr == f"{video}: frame rate: 100 per second as given, where the video says 200\n"
    for wrong in ("0", "-5", "nan", "inf"):
        refused = CliRunner().invoke(cli, [*arguments, wrong])
        assert refused.exit_code == 2
        assert f"--fps: must be a positive finite number, found {float(wrong)}" in refused.stderr


@pytest.mark.parametrize(("codec", "suffix"), [("mp4v", "mp4"), ("FFV1", "mkv")])
def test_a_video_is_predicted_as_its_decoded_frames_are_in_the_process_that_trained(
    codec: str, suffix: str, trained: Trained, tmp_path: Path
) -> None:
    for number, clip in enumerate(trained.clips[:3]):
        path = write_video(tmp_path / f"{number}.{suffix}", clip, codec)
        frames = decoded(path)
        (named,) = predict_sources(trained.folder, [path], onset=clip.onset, apex=clip.apex).clips
        assert clip.onset is not None
        assert clip.apex is not None
        expected = probabilities(trained.network, frames, clip.onset, clip.apex)
        np.testing.assert_allclose(list(named.probabilities.values()), expected, rtol=0, atol=1e-5)
        assert named.prediction == CLASSES[int(expected.argmax())]
        assert named.confident == (expected.max() >= 0.5)
        assert named.notes == ()
        (assumed,) = predict_sources(trained.folder, [path]).clips
        middle = len(frames) // 2  # of frames 0 to n - 1, the later of two
        expected = probabilities(trained.network, frames, 0, middle)
        np.testing.assert_allclose(list(assumed.probabilities.values()), expected, rtol=0, atol=1e-5)
        assert assumed.notes[1].startswith(f"apex: frame {middle}, the middle")


def test_a_folder_of_frames_is_predicted_as_the_lossless_video(trained: Trained, tmp_path: Path) -> None:
    clip = trained.clips[4]
    video = write_video(tmp_path / "clip.mkv", clip, "FFV1")
    folder = tmp_path / "frames"
    folder.mkdir()
    assert clip.frames is not None
    for number in range(len(clip.frames)):
        cv2.imwrite(str(folder / f"img{number}.png"), clip.frames[number])
    from_video, from_folder = predict_sources(trained.folder, [video, folder]).clips
    np.testing.assert_allclose(
        list(from_folder.probabilities.values()), list(from_video.probabilities.values()), rtol=0, atol=1e-5
    )
    assert (from_video.source, from_folder.source) == (str(video), str(folder))


@pytest.fixture
def videos(trained: Trained, tmp_path: Path) -> list[str]:
    return [str(write_video(tmp_path / f"{number}.mkv", trained.clips[number], "FFV1")) for number in range(2)]


Captured = pytest.CaptureFixture[str]


def test_json_holds_everything_and_the_notes_are_on_standard_error_too(
    trained: Trained, videos: list[str], capsys: Captured
) -> None:
    predict_command(trained.folder, videos, as_json=True)
    said = capsys.readouterr()
    found = json.loads(said.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found["classes"] == list(CLASSES)
    assert found["threshold"] == 0.5
    assert [clip["source"] for clip in found["predictions"]] == videos
    for clip in found["predictions"]:
        assert set(clip) == {"source", "prediction", "confident", "probabilities", "notes"}
        assert sum(clip["probabilities"].values()) == pytest.approx(1)
        assert clip["prediction"] == max(clip["probabilities"], key=clip["probabilities"].__getitem__)
        assert clip["confident"] == (max(clip["probabilities"].values()) >= 0.5)
        assert all(note in said.err for note in clip["notes"])
        assert len(clip["notes"]) == 2
    assert "onset: frame 0, the first; give --onset to name it" in said.err


def test_csv_has_one_line_per_clip_with_the_bits_of_the_json(
    trained: Trained, videos: list[str], capsys: Captured
) -> None:
    predict_command(trained.folder, videos, as_json=True)
    clips = json.loads(capsys.readouterr().out)["predictions"]
    predict_command(trained.folder, videos, as_csv=True)
    said = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(said.out)))
    assert list(rows[0]) == ["source", "prediction", "confident", *(f"p_{name}" for name in CLASSES)]
    for row, clip in zip(rows, clips, strict=True):
        assert (row["source"], row["prediction"]) == (clip["source"], clip["prediction"])
        assert row["confident"] == str(clip["confident"])
        assert [float(row[f"p_{name}"]) for name in CLASSES] == list(clip["probabilities"].values())
    assert "onset: frame 0" in said.err


@pytest.mark.parametrize(
    ("name", "flag", "kind"),
    [("x.json", None, "json"), ("x.csv", None, "csv"), ("x", None, "csv"), ("x.txt", "json", "json")],
)
def test_a_file_holds_what_would_be_printed_and_nothing_is_printed_but_notes(
    name: str, flag: str | None, kind: str, trained: Trained, videos: list[str], capsys: Captured, tmp_path: Path
) -> None:
    predict_command(trained.folder, videos, **{f"as_{kind}": True})
    printed = capsys.readouterr()
    asked = {f"as_{flag}": True} if flag else {}
    predict_command(trained.folder, videos, **asked, out=tmp_path / "new" / name)
    said = capsys.readouterr()
    assert (tmp_path / "new" / name).read_text() == printed.out
    assert (said.out, said.err) == ("", printed.err)


def test_the_table_for_people_shows_notes_confidence_and_the_estimate(
    trained: Trained, videos: list[str], capsys: Captured
) -> None:
    predict_command(trained.folder, videos)
    said = capsys.readouterr()
    assert said.err == ""
    for text in (*CLASSES, "confident", "onset: frame 0, the first; give --onset to name it"):
        assert text in said.out
    assert "Confident: the largest probability is at least 0.500, as was to be so for 90% of new clips." in said.out
    assert "the rule knee attains UF1 0.610 (0.520 to 0.690) on new subjects" in said.out
    (shown,) = predict_sources(trained.folder, videos[:1]).clips
    figures = [f"{value:.3f}" for value in shown.probabilities.values()]  # the first line of a clip, its name may fold
    assert any(all(figure in line for figure in figures) for line in said.out.splitlines())


def test_a_path_with_square_brackets_is_shown_as_it_is(trained: Trained, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "[red]x[").mkdir()
    path = write_video(tmp_path / "[red]x[/red].mkv", trained.clips[0], "FFV1")
    predict_command(trained.folder, [str(path)])
    shown = "".join(line.strip("│ ").partition("│")[0].strip() for line in capsys.readouterr().out.splitlines())
    assert "[red]x[/red].mkv" in shown


def test_a_model_whose_place_is_not_utf8_is_named_in_what_can_be_printed(
    trained: Trained, videos: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"mod\xe9l")
    try:
        shutil.copytree(trained.folder, folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    told = json.loads(predict_sources(folder, videos).json().encode("utf-8"))
    assert told["model"] == f"{tmp_path}/mod\\udce9l"
    assert told["predictions"] == predict_sources(trained.folder, videos).plain()["predictions"]


def test_a_recording_whose_name_is_not_utf8_is_told_in_one_message(trained: Trained, tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mkv", trained.clips[0], "FFV1")
    renamed = tmp_path / os.fsdecode(b"clip\xe9.mkv")
    try:
        video.rename(renamed)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    found = messages(DataError, lambda: predict_command(trained.folder, [renamed]))
    assert found == [f'"{tmp_path}/clip\\udce9.mkv": its name must be UTF-8. Rename it.']


def test_clips_that_share_a_note_share_a_line() -> None:
    clips = [PredictedClip(f"{number}.mp4", "a", True, {"a": 1.0}, ("same", f"own {number}")) for number in range(5)]
    lines = grouped_notes(clips)
    assert lines[0] == "0.mp4, 1.mp4, 2.mp4 and 2 more: same"
    assert lines[1:] == [f"{number}.mp4: own {number}" for number in range(5)]


Refused = Callable[[], None]


def messages(error: type[MernasError], call: Refused) -> list[str]:
    with pytest.raises(error) as caught:
        call()
    return [str(problem) for problem in caught.value.problems]


def test_a_wrong_size_and_a_missing_file_are_told_at_once(trained: Trained, tmp_path: Path) -> None:
    frames = np.zeros((2, 32, 32), np.uint8)
    small = Clip("a/b/c", "a", "a/b", "no hash", frames=frames)
    path = write_video(tmp_path / "small.mkv", small, "FFV1")
    found = messages(DataError, lambda: predict_command(trained.folder, [str(path), str(tmp_path / "none.mp4")]))
    assert found[0].startswith(f'"{path}": frames must be 58 to 70 pixels high and 58 to 70 wide')
    assert found[0].endswith("found 32 x 32. Crop the face as in the training data, then scale it to that size.")
    assert found[1] == f'"{tmp_path / "none.mp4"}": does not exist. Check the path.'


def test_csv_and_json_exclude_each_other(trained: Trained, videos: list[str]) -> None:
    (found,) = messages(PlanError, lambda: predict_command(trained.folder, videos, as_csv=True, as_json=True))
    assert found.startswith("--csv and --json: exclude each other.")


def test_a_folder_that_is_no_model_is_named(tmp_path: Path, videos: list[str]) -> None:
    (found,) = messages(DataError, lambda: predict_command(tmp_path / "none", videos))
    assert str(tmp_path / "none") in found


def test_a_file_that_cannot_be_written_is_named(trained: Trained, videos: list[str], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    (found,) = messages(DataError, lambda: predict_command(trained.folder, videos, out=tmp_path / "taken" / "x.csv"))
    assert "cannot be written" in found
    assert "choose another file with --out" in found.lower()


def test_predictions_replace_no_recording_and_no_file_of_the_model(trained: Trained, videos: list[str]) -> None:
    for out in (Path(videos[0]), trained.folder / "bundle.json"):
        before = out.read_bytes()
        (found,) = messages(PlanError, partial(predict_command, trained.folder, videos, out=out))
        assert "must not replace" in found
        assert out.read_bytes() == before


def test_a_network_that_gives_no_numbers_is_refused(trained: Trained, videos: list[str], tmp_path: Path) -> None:
    network = torch.nn.Module()
    weights = {name: tensor.clone() for name, tensor in trained.network.state_dict().items()}
    next(iter(reversed(weights.values()))).fill_(float("nan"))
    network.state_dict = lambda: weights  # type: ignore[method-assign]  # all that network_bytes asks for
    bundle = replace(read_bundle(trained.folder), files={})
    files = {WEIGHTS: network_bytes(network), PIPELINE: bundle.genotype.to_yaml().encode()}
    write_bundle(tmp_path / "broken", bundle, files)
    (found,) = messages(DataError, lambda: predict_command(tmp_path / "broken", videos))
    assert "must give probabilities that are numbers" in found


def test_predicting_needs_neither_ray_nor_optuna(trained: Trained, videos: list[str]) -> None:
    code = (
        "import sys; from mernas.search.predicting import predict_sources; "
        "predict_sources(sys.argv[1], [sys.argv[2]]); print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(trained.folder), videos[0]], capture_output=True, text=True, check=True
    )
    assert not {"ray", "optuna", "matplotlib"} & set(done.stdout.split())
    assert done.stderr == ""
