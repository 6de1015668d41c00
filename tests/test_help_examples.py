"""Every command's help shows examples, and one of each is run here, word for word."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from mernas.cli import cli
from mernas.components.datasets.synthetic import Synthetic
from mernas.search.run import run_search

RUN = "mernas-runs/synthetic-0123456789"
SPACE = """
extends: full
keep: {input: [optical_flow], flow_estimator: [farneback, given], block: [convolution, residual], attention: none,
       readout: [average], cascade: none, head: [linear, mlp], fusion: [concatenation], preprocessing: none,
       augmentation: [flip, shift], training: [scratch], schedule: [constant, cosine], sampler: none, mixing: none,
       averaging: none, loss: [cross_entropy], auxiliary_loss: none, side_task: none}
set:
  input.optical_flow: {size: 14}
  training.scratch: {epochs: 1, batch: 64}
  pipeline.network: {streams: 1}
  stream.stream: {backbone: 1}
  block.convolution: {width: {low: 2, high: 6}, kernel: 3}
  block.residual: {width: {low: 2, high: 4}}
"""
SHOWN = {
    "search": "mernas search --data synthetic --space quick --trials 4 --batch 2 --dry-run",
    "evaluate": "mernas evaluate majority",
    "verify": f"mernas verify {RUN}",
    "report": f"mernas report {RUN}",
    "export": f"mernas export {RUN} --pick knee --out model",
    "predict": "mernas predict model clip.mp4",
    "doctor": "mernas doctor",
    "data": "mernas data list",
    "presets": "mernas presets",
    "space": "mernas space",
}
"""Which of a command's examples is run, in this order."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the examples make sense: with a run and a video."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "space.yaml").write_text(SPACE)
    run_search(
        "synthetic", space=folder / "space.yaml", trials=2, batch=2, groups=3, budgets="5k", max_params="5k", workers=1,
        out=folder / RUN, cache=folder / "cache",
    )  # fmt: skip
    frames = Synthetic(subjects=1, clips=1).load().clips[0].frames
    assert frames is not None
    height, width = frames[0].shape[:2]
    video = cv2.VideoWriter(str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 100.0, (width, height))
    for number in range(len(frames)):
        frame = np.ascontiguousarray(frames[number])
        video.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR if frame.ndim == 2 else cv2.COLOR_RGB2BGR))
    video.release()
    return folder


def test_every_command_has_an_example_that_is_run() -> None:
    assert set(SHOWN) == set(cli.commands)


@pytest.mark.parametrize("command", SHOWN)
def test_the_example_of_a_command_runs(command: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helped = CliRunner().invoke(cli, [command, "--help"])
    shown = [line.strip() for line in helped.output.partition("Examples:")[2].splitlines()]
    assert SHOWN[command] in shown
    monkeypatch.chdir(home)
    monkeypatch.setenv("MERNAS_CACHE", str(home / "cache"))
    done = CliRunner().invoke(cli, shlex.split(SHOWN[command])[1:])
    assert done.exit_code == 0 or (command == "doctor" and done.exit_code == 1), done.output
    if command == "predict":
        assert "apex: frame" in done.output
    if command == "export":
        manifest = json.loads((home / "model" / "bundle.json").read_text())
        assert re.fullmatch(r"[0-9a-f]{16}", str(manifest["plan"]))
