"""Models that reckon in seconds: which recordings say how many frames per second they have, and what if they do not."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.datasets.recording import read_recording
from mernas.evaluation.bundle import Bundle, RuleEstimate, TrainingData
from mernas.evaluation.preparation import prepare_now, recipe_of
from mernas.evaluation.serving import clips_of
from mernas.space.errors import DataError
from mernas.space.genotype import parse_genotype
from mernas.space.taxonomy import APEX, FRAME_RATE, FRAMES, GIVEN_FLOW, GIVEN_STRAIN, OFFSET, ONSET, TRUE_FLOW

FACES = frozenset({FRAMES, FRAME_RATE, ONSET, APEX, OFFSET, TRUE_FLOW})


def bundle_of(stream: str, facts: frozenset[str] = FACES) -> Bundle:
    text = f"""
    streams: [{{{stream}, backbone: [{{convolution: {{width: 2}}}}]}}]
    tasks: [{{emotion: {{head: linear}}}}]
    loss: cross_entropy
    """
    return Bundle(
        genotype=parse_genotype(text),
        classes=("negative", "positive"),
        facts=facts,
        parameters=100,
        data=TrainingData("made up", "0" * 16, "0" * 16, 10, 5, "free"),
        rule="best",
        estimate=RuleEstimate("nested-loso", 0.5, 0.4, 0.6, 0.5),
        plan="0" * 16,
        seed=0,
    )


FLOW = "input: {optical_flow: {estimator: farneback}}"
MAGNIFY = f"preprocessing: [magnify], {FLOW}"
RESAMPLE = f"preprocessing: [{{frame_rate: {{fps: 25}}}}], {FLOW}"
GIVEN = "input: {optical_flow: {estimator: given}}"


def frames(count: int = 24) -> NDArray[np.uint8]:
    """A bright spot that moves and comes back."""
    y, x = np.mgrid[0:64, 0:64]
    middles = 24 + 8 * np.sin(np.linspace(0, np.pi, count))
    return np.stack([255 * np.exp(-((x - middle) ** 2 + (y - 30) ** 2) / 150) for middle in middles]).astype(np.uint8)


def write_video(path: Path, fps: float = 50.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), fps, (64, 64))
    for frame in frames():
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path


def write_folder(folder: Path) -> Path:
    folder.mkdir()
    for number, frame in enumerate(frames()):
        assert cv2.imwrite(str(folder / f"{number}.png"), cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    return folder


def mistakes(bundle: Bundle, *sources: str | Path, fps: float | None = None) -> list[str]:
    with pytest.raises(DataError) as caught:
        clips_of(bundle, sources, fps=fps)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("stream", [MAGNIFY, RESAMPLE])
def test_a_video_that_says_its_frame_rate_serves_a_model_that_needs_it(stream: str, tmp_path: Path) -> None:
    bundle = bundle_of(stream)
    (clip,), (notes,) = clips_of(bundle, [write_video(tmp_path / "clip.mkv")])
    assert clip.fps == 50.0
    assert notes[-1] == "frame rate: 50 per second, as the video says; give --fps if it was filmed at another"
    wanted = Clip("a/b/c", "a", "a/b", "no hash", frames=frames(), fps=50.0, onset=0, apex=12, offset=23)
    recipe = recipe_of(bundle.genotype.streams[0])
    np.testing.assert_allclose(prepare_now([clip], recipe), prepare_now([wanted], recipe), atol=1e-4)


@pytest.mark.parametrize("stream", [MAGNIFY, RESAMPLE])
def test_recordings_that_do_not_say_their_frame_rate_need_it_stated(
    stream: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = write_folder(tmp_path / "frames"), write_folder(tmp_path / "more")
    video = write_video(tmp_path / "clip.mkv")
    whole = cv2.VideoCapture

    class Silent:
        """A video that says nothing of its frame rate."""

        def __init__(self, *given: object) -> None:
            self.own = whole(*given)
            self.read, self.grab, self.release = self.own.read, self.own.grab, self.own.release

        def get(self, number: int) -> float:
            return 0.0 if number == cv2.CAP_PROP_FPS else float(self.own.get(number))

    monkeypatch.setattr(cv2, "VideoCapture", Silent)
    rule, remedy = "this model needs to know how many frames per second a recording has", "Give --fps, in Python fps=."
    assert mistakes(bundle_of(stream), folder, video, other, tmp_path / "none.mp4") == [
        f'"{folder}": {rule}, found a folder, which cannot say so. {remedy}',
        f'"{video}": {rule}, found a video that does not say so. {remedy}',
        f'"{other}": {rule}, found a folder, which cannot say so. {remedy}',
        f'"{tmp_path / "none.mp4"}": does not exist. Check the path.',
    ]
    clips, notes = clips_of(bundle_of(stream), [folder, video, other], fps=100)
    assert [clip.fps for clip in clips] == [100.0] * 3
    assert not any("frame rate" in note for said in notes for note in said)  # there is nothing to tell


def test_a_stated_frame_rate_decides_the_maps_and_the_fingerprint(tmp_path: Path) -> None:
    folder, bundle = write_folder(tmp_path / "frames"), bundle_of(MAGNIFY)
    recipe = recipe_of(bundle.genotype.streams[0])
    slow, fast = (clips_of(bundle, [folder], fps=fps)[0][0] for fps in (25.0, 200.0))
    assert slow.fingerprint != fast.fingerprint
    assert not np.array_equal(prepare_now([slow], recipe), prepare_now([fast], recipe))
    stated, _ = read_recording(write_video(tmp_path / "clip.mkv", 200.0))
    assert fast.fingerprint == stated.fingerprint  # the same frames at the same rate


def test_a_frame_rate_that_is_given_overrules_that_of_a_video_and_the_notes_tell_so(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mkv", 25.0)
    for stream in (MAGNIFY, FLOW):
        (clip,), (notes,) = clips_of(bundle_of(stream), [video], onset=0, apex=9, fps=200)
        assert clip.fps == 200.0
        assert notes == ["frame rate: 200 per second as given, where the video says 25"]
    _, (notes,) = clips_of(bundle_of(MAGNIFY), [video], onset=0, apex=9, fps=25)
    assert notes == []  # they agree


def test_a_model_that_does_not_reckon_in_seconds_asks_for_no_frame_rate(tmp_path: Path) -> None:
    (clip,), (notes,) = clips_of(bundle_of(FLOW), [write_folder(tmp_path / "frames")], onset=0, apex=9)
    assert (clip.fps, notes) == (None, [])


@pytest.mark.parametrize("fps", [0.0, -25.0, float("nan"), float("inf")])
def test_a_frame_rate_must_be_positive_and_finite_and_all_other_mistakes_are_told_with_it(
    fps: float, tmp_path: Path
) -> None:
    folder = write_folder(tmp_path / "frames")
    remedy = "Give frames per second, such as 100 or 29.97."
    assert mistakes(bundle_of(MAGNIFY), folder, tmp_path / "none.mp4", fps=fps) == [
        f"--fps: must be a positive finite number, found {fps}. {remedy}",
        f'"{tmp_path / "none.mp4"}": does not exist. Check the path.',
    ]
    with pytest.raises(DataError) as caught:
        read_recording(folder, 5, 3, fps)
    assert [str(problem) for problem in caught.value.problems] == [
        f'"{folder}": the onset must not come after the apex, found onset 5 and apex 3. Give the earlier frame as '
        "onset.",
        f'"{folder}", fps: must be a positive finite number, found {fps}. {remedy}',
    ]


def test_a_flow_image_has_no_frame_rate(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    assert cv2.imwrite(str(tmp_path / "a.png"), image)
    assert mistakes(bundle_of(GIVEN, frozenset({GIVEN_FLOW, GIVEN_STRAIN})), tmp_path / "a.png", fps=100) == [
        "--fps 100: a flow image has no frame rate: it is one map. Leave it out."
    ]
