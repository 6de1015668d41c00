"""Which recordings a model can be asked about: clips for what it can serve, and why and what would for the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.datasets.flow_images import FlowImages
from mernas.evaluation.bundle import Bundle, FrameSizes, RuleEstimate, TrainingData
from mernas.evaluation.preparation import prepare_now, recipe_of
from mernas.evaluation.serving import clips_of, needs_of
from mernas.space.errors import DataError, MernasError, UnavailableError
from mernas.space.genotype import parse_genotype
from mernas.space.registry import REGISTRY, register
from mernas.space.taxonomy import (
    APEX,
    CLIP,
    FRAMES,
    GIVEN_FLOW,
    GIVEN_STRAIN,
    IMAGE,
    LANDMARKS,
    OFFSET,
    ONSET,
    TRUE_FLOW,
)

FARNEBACK = "optical_flow: {estimator: farneback}"
GIVEN = "optical_flow: {estimator: given}"
FACES = frozenset({FRAMES, ONSET, APEX, OFFSET, TRUE_FLOW})
IMAGES = frozenset({GIVEN_FLOW, GIVEN_STRAIN})


def bundle_of(*inputs: str, facts: frozenset[str] = FACES, frames: FrameSizes | None = None) -> Bundle:
    streams = ", ".join(f"{{input: {{{text}}}, backbone: [{{convolution: {{width: 2}}}}]}}" for text in inputs)
    text = f"{{streams: [{streams}], tasks: [{{emotion: {{head: linear}}}}], loss: cross_entropy}}"
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
        frames=frames,
    )


def noise(count: int, height: int = 64, width: int = 48, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def stretched(seed: int) -> NDArray[np.uint8]:
    """A flow image as released: every channel goes from 0 to 255."""
    image = noise(1, 28, 28, seed)[0]
    image[0, 0], image[0, 1] = 0, 255
    return image


def write_video(path: Path, frames: NDArray[np.uint8]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 50.0, frames.shape[2:0:-1])
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


def write_image(path: Path, image: NDArray[np.uint8]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[:, :, ::-1]))
    return path


def two_frames(folder: Path, height: int, width: int) -> Path:
    """A folder, because OpenCV writes no video of an odd width."""
    for number, frame in enumerate(noise(2, height, width)):
        write_image(folder / f"{number}.png", frame)
    return folder


def mistakes(
    bundle: Bundle,
    *sources: str | Path,
    onset: int | None = None,
    apex: int | None = None,
    error: type[MernasError] = DataError,
) -> list[str]:
    with pytest.raises(error) as caught:
        clips_of(bundle, sources, onset, apex)
    return [str(problem) for problem in caught.value.problems]


# Models of frames


def test_each_video_and_each_folder_of_frames_is_a_clip_in_the_order_given(tmp_path: Path) -> None:
    video = write_video(tmp_path / "b.mkv", noise(7))
    for number in range(5):
        write_image(tmp_path / "a" / f"{number}.png", noise(5, seed=1)[number])
    clips, notes = clips_of(bundle_of(FARNEBACK), [video, str(tmp_path / "a"), video])
    assert [clip.key for clip in clips] == [str(video), str(tmp_path / "a"), str(video)]
    assert [len(clip.frames or ()) for clip in clips] == [7, 5, 7]
    assert [(clip.onset, clip.apex) for clip in clips] == [(0, 3), (0, 2), (0, 3)]
    assert [len(said) for said in notes] == [2, 2, 2]
    assert notes[1][1].startswith("apex: frame 2, the middle")


def test_onset_and_apex_are_taken_for_a_single_recording(tmp_path: Path) -> None:
    video = write_video(tmp_path / "b.mkv", noise(7))
    (clip,), notes = clips_of(bundle_of(FARNEBACK), [video], onset=1, apex=6)
    assert (clip.onset, clip.apex, notes) == (1, 6, [[]])


def test_onset_and_apex_of_several_recordings_are_refused_with_all_other_mistakes(tmp_path: Path) -> None:
    video = write_video(tmp_path / "b.mkv", noise(7))
    (tmp_path / "empty").mkdir()
    found = mistakes(bundle_of(FARNEBACK), video, tmp_path / "none.mp4", tmp_path / "empty", onset=1, apex=99)
    assert found[0] == (
        "--onset 1 and --apex 99: frame numbers belong to a single recording, found 3 sources. Repeat the command for "
        "each recording."
    )
    assert found[1] == f'"{tmp_path / "none.mp4"}": does not exist. Check the path.'
    assert found[2].startswith(f'"{tmp_path / "empty"}": must hold images')
    assert len(found) == 3


def test_no_source_at_all_is_a_mistake() -> None:
    assert mistakes(bundle_of(FARNEBACK)) == ["sources: must be at least one, found none. Give a video or a folder."]


def test_an_image_is_no_clip_for_a_model_of_frames(tmp_path: Path) -> None:
    image = write_image(tmp_path / "flow.png", stretched(0))
    assert mistakes(bundle_of(FARNEBACK), image) == [
        f'"{image}": this model takes videos and folders of frames, and an image is a single frame. Give the video or '
        "the folder; a flow image needs a model that was trained on flow images."
    ]


def test_a_single_frame_serves_a_model_of_the_apex_and_no_model_of_flow(tmp_path: Path) -> None:
    video = write_video(tmp_path / "one.mkv", noise(1))
    (clip,), _ = clips_of(bundle_of("apex_frame"), [video])
    assert clip.apex == 0
    assert mistakes(bundle_of("apex_frame", FARNEBACK), video) == [
        f'"{video}": this model compares the onset with the apex, and needs two different frames, found a single '
        "frame. Give the whole clip."
    ]


def test_an_apex_at_the_onset_serves_no_model_of_flow(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mkv", noise(4))
    assert mistakes(bundle_of(FARNEBACK), video, onset=3) == [
        f'"{video}": this model compares the onset with the apex, and needs two different frames, found frame 3 for '
        "both. Name an earlier onset or a later apex."
    ]


SIZES = FrameSizes(height=(100, 120, 200), width=(90, 100, 150))


@pytest.mark.parametrize(("height", "width"), [(90, 81), (220, 165), (120, 100)])
def test_frames_within_a_tenth_of_the_training_data_are_served(height: int, width: int, tmp_path: Path) -> None:
    clips, _ = clips_of(bundle_of(FARNEBACK, frames=SIZES), [two_frames(tmp_path, height, width)])
    assert len(clips) == 1


@pytest.mark.parametrize(("height", "width"), [(89, 100), (221, 100), (120, 80), (120, 166)])
def test_frames_of_other_sizes_are_refused_where_flow_is_measured(height: int, width: int, tmp_path: Path) -> None:
    folder = two_frames(tmp_path, height, width)
    assert mistakes(bundle_of(FARNEBACK, frames=SIZES), folder) == [
        f'"{folder}": frames must be 90 to 220 pixels high and 81 to 165 wide, as in training (usually 120 x 100), '
        f"because flow is measured in pixels, found {height} x {width}. Crop the face as in the training data, then "
        "scale it to that size."
    ]
    assert clips_of(bundle_of("apex_frame", frames=SIZES), [folder])[0]  # a picture is resized, and means the same


# Models of flow images


def test_flow_images_are_read_as_the_release_is(tmp_path: Path) -> None:
    names = ["sub01_EP02_10f .png", "sub01_EP02_9f .png"]
    for number, name in enumerate(names):
        write_image(tmp_path / "sub01" / "u_test" / "0" / name, stretched(number))
    released = {clip.key.rpartition("/")[2]: clip for clip in FlowImages().load(tmp_path)}
    bundle = bundle_of(GIVEN, facts=IMAGES)
    folder = tmp_path / "sub01" / "u_test" / "0"
    clips, notes = clips_of(bundle, [folder, folder / names[0]])
    assert [Path(clip.key).name for clip in clips] == [names[1], names[0], names[0]]  # 9 comes before 10
    assert notes == [[], [], []]
    recipe = recipe_of(bundle.genotype.streams[0])
    expected = [released[name.removesuffix(" .png")] for name in (names[1], names[0], names[0])]
    np.testing.assert_array_equal(prepare_now(clips, recipe), prepare_now(expected, recipe))
    assert [clip.fingerprint for clip in clips] == [clip.fingerprint for clip in expected]


def test_an_image_that_is_not_stretched_like_the_release_is_noted(tmp_path: Path) -> None:
    image = stretched(0)
    image[:, :, 1] = image[:, :, 1] // 2 + 3
    path = write_image(tmp_path / "a.png", image)
    _, ((note,),) = clips_of(bundle_of(GIVEN, facts=IMAGES), [path])
    assert note == "not stretched like a released flow image, whose channels all go from 0 to 255: v from 3 to 130"


def test_a_video_or_frames_cannot_serve_a_model_of_flow_images(tmp_path: Path) -> None:
    bundle = bundle_of(GIVEN, facts=IMAGES)
    video = write_video(tmp_path / "clip.mp4.mkv", noise(3))
    write_image(tmp_path / "frames" / "0.jpg", stretched(0))
    (tmp_path / "empty").mkdir()
    cv2.imwrite(str(tmp_path / "grey.png"), np.zeros((28, 28), np.uint8))
    found = mistakes(bundle, video, tmp_path / "frames", tmp_path / "empty", tmp_path / "grey.png", tmp_path / "no.png")
    takes = "this model takes flow images: PNG files of u, v and strain, each stretched to 0..255 by itself"
    folder = "Give the folder that holds the images themselves; for videos use a model that was trained on frames."
    assert found == [
        f'"{video}": {takes}, found .mkv. That stretching cannot be repeated from a video: use a model that was '
        "trained on frames.",
        f'"{tmp_path / "frames"}": {takes}, found 0.jpg. {folder}',
        f'"{tmp_path / "empty"}": {takes}, found a folder without images. {folder}',
        f'"{tmp_path / "grey.png"}": must have 3 channels: u, v and strain, found 1. Give a flow image as the release '
        "has it; for frames use a model that was trained on frames.",
        f'"{tmp_path / "no.png"}": does not exist. Check the path.',
    ]


def test_every_broken_image_of_a_folder_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "good.png", stretched(0))
    (tmp_path / "bad1.png").write_bytes(b"no image")
    cv2.imwrite(str(tmp_path / "bad2.png"), np.zeros((28, 28, 4), np.uint8))
    found = mistakes(bundle_of(GIVEN, facts=IMAGES), tmp_path)
    assert [line.partition(":")[0] for line in found] == [f'"{tmp_path / name}"' for name in ("bad1.png", "bad2.png")]


def test_flow_images_whose_names_are_not_utf8_are_named_in_what_can_be_printed(tmp_path: Path) -> None:
    image = write_image(tmp_path / "good.png", stretched(0))
    try:
        image.rename(tmp_path / os.fsdecode(b"fl\xe9w.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    wanted = f'"{tmp_path}/fl\\udce9w.png": its name must be UTF-8. Rename it.'
    for source in (tmp_path, tmp_path / os.fsdecode(b"fl\xe9w.png")):
        assert mistakes(bundle_of(GIVEN, facts=IMAGES), source) == [wanted]
    (found,) = mistakes(bundle_of(FARNEBACK), tmp_path / os.fsdecode(b"fl\xe9w.png"))
    assert found == wanted


def test_a_flow_image_has_neither_onset_nor_apex(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", stretched(0))
    assert mistakes(bundle_of(GIVEN, facts=IMAGES), path, apex=3) == [
        "--apex 3: a flow image has neither onset nor apex: it is what lies between them. Leave it out."
    ]


# Models that nothing can serve


@dataclass(frozen=True)
class NeedsLandmarks:
    """An input of the clip's end."""

    channels = ("gray",)
    shape = (1, 28, 28)

    def provides(self, facts: frozenset[str]) -> set[str]:
        return set()

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        return np.zeros(self.shape, np.float32)


@pytest.fixture
def landmarks_of_frames() -> Iterator[None]:
    register("input", "landmarks_of_frames", needs={FRAMES, LANDMARKS}, maps={CLIP: IMAGE})(NeedsLandmarks)
    yield
    REGISTRY.remove("input", "landmarks_of_frames")


@pytest.mark.usefixtures("landmarks_of_frames")
def test_a_model_that_needs_what_no_recording_has_says_so(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mkv", noise(3))
    assert mistakes(bundle_of("landmarks_of_frames"), video, error=UnavailableError) == [
        "this model: needs what a video or a folder of frames lacks, found the 68 landmarks of every frame. Give such "
        "clips in Python, as `Clip`s to `Model.probabilities`, or use a model that needs less."
    ]


def test_a_model_of_flow_images_and_frames_cannot_be_served_by_either(tmp_path: Path) -> None:
    (found,) = mistakes(bundle_of(GIVEN, "apex_frame"), tmp_path, error=UnavailableError)
    assert "needs what a flow image lacks, found the apex frame of every clip; the frames of the clips." in found


def test_a_model_of_shipped_flow_in_pixels_is_not_asked_about_stretched_images(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.png", stretched(0))
    (found,) = mistakes(bundle_of(GIVEN, facts=IMAGES | {TRUE_FLOW}), path, error=UnavailableError)
    assert "was trained on a release's flow in pixels, and images do not hold such flow" in found


def test_needs_are_those_of_preparation_and_not_of_training() -> None:
    both = bundle_of(FARNEBACK, "apex_frame").genotype
    assert needs_of(both) == {FRAMES, ONSET, APEX}
    flipped = parse_genotype(both.to_yaml() + "augmentation: [flip]\n")
    assert needs_of(flipped) == needs_of(both)


def test_every_image_of_the_release_is_served_without_a_note(real_data: Path) -> None:
    folders = sorted(folder for folder in real_data.glob("*/u_test/*") if folder.is_dir())
    clips, notes = clips_of(bundle_of(GIVEN, facts=IMAGES), folders)
    assert len(clips) == 442
    assert not any(notes)
