"""The whole way of a model: search, export, load in a fresh virtual environment, predict on a video.

    python benchmarks/round_trip.py [--environment FOLDER]

Searches the synthetic dataset (small), exports the rule `knee`, writes a synthetic .mp4 and predicts it in this
process.
Then builds the wheel, makes a virtual environment with nothing but the runtime dependencies (or takes the one that was
made earlier), and runs `mernas predict` there, from a folder that knows nothing of the source tree. Prints the largest
difference of a probability; exit code 1 if it exceeds 1e-5.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

import mernas

ROOT = Path(__file__).resolve().parents[1]
SEARCH = {"space": "quick", "trials": 4, "batch": 4, "groups": 3, "budgets": "10k", "max_params": "10k", "workers": 1}


def write_video(path: Path, frames: np.ndarray, fps: float) -> None:
    """Write frames (T, H, W) or (T, H, W, 3) as an .mp4."""
    height, width = frames.shape[1:3]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    for frame in frames:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR if frame.ndim == 2 else cv2.COLOR_RGB2BGR))
    writer.release()


def fresh_environment(folder: Path) -> Path:
    """Return the Python of a virtual environment with mernas, built as a wheel, and its runtime dependencies."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    with tempfile.TemporaryDirectory() as dist:
        subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", dist, str(ROOT)], check=True)
        (wheel,) = Path(dist).glob("*.whl")
        pins = ["-c", str(ROOT / "constraints.txt")]
        command = [str(python), "-m", "pip", "install", "-q", *pins]
        subprocess.run([*command, str(wheel)], check=True)
        subprocess.run([*command, "--no-deps", "--force-reinstall", str(wheel)], check=True)
    return python


def main() -> None:
    """Go the whole way and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", type=Path, help="keep the virtual environment here and take it again")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        data = mernas.load_data("synthetic")
        result = mernas.run_search(data, out=work / "run", cache=work / "cache", **SEARCH)
        folder = result.export(work / "model", pick="knee")
        clip = data.clips[7]
        if clip.frames is None or clip.onset is None or clip.apex is None:
            raise SystemExit("the synthetic clip must have frames, onset and apex")
        video = work / "clip.mp4"
        write_video(video, np.stack([clip.frames[number] for number in range(len(clip.frames))]), clip.fps or 100.0)
        here = mernas.load(folder).predict(video, onset=clip.onset, apex=clip.apex)
        python = fresh_environment(asked.environment or work / "venv")
        command = [str(python), "-m", "mernas", "predict", str(folder), str(video), "--json"]
        frames = ["--onset", str(clip.onset), "--apex", str(clip.apex)]
        bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run([*command, *frames], check=True, capture_output=True, text=True, cwd=work, env=bare)
        there = json.loads(done.stdout)["predictions"][0]["probabilities"]
        told = {name: float(here[f"p_{name}"].iloc[0]) for name in data.classes}
        worst = max(abs(told[name] - there[name]) for name in data.classes)
        installed = [str(python), "-m", "pip", "list", "--format=freeze"]
        listed = subprocess.run(installed, check=True, capture_output=True, text=True).stdout.lower()
        print(f"in this process:   {told}")
        print(f"in the fresh one:  {there}")
        print(f"onnx there: {'onnx' in listed}; pytest there: {'pytest' in listed}")
        print(f"largest difference of a probability: {worst:.2g} (goal 1e-5)")
        sys.exit(0 if worst <= 1e-5 else 1)


if __name__ == "__main__":
    main()
