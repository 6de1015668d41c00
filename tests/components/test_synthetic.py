"""The synthetic dataset: the truth that it claims, what it gives away, and how hard it is."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mernas.components.datasets.clip import Clip, Dataset
from mernas.components.datasets.synthetic import Synthetic
from mernas.components.datasets.synthetic_expressions import EXPRESSIONS
from mernas.components.datasets.synthetic_frames import SyntheticFrames
from mernas.components.datasets.synthetic_time import draw_timeline
from mernas.space.errors import SpaceError
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import (
    ACTION_UNITS,
    APEX,
    CAPABILITIES,
    FRAME_RATE,
    FRAMES,
    LANDMARKS,
    OFFSET,
    ONSET,
    SOURCE,
    TRUE_FLOW,
)

SMALL = Synthetic(subjects=3, clips=3, macro_subjects=0)
STILL = replace(SMALL, head_motion=0.0)  # the face moves, the head does not
CLEAN = replace(SMALL, noise=0.0, light_drift=0.0)
FRAME_RATES = (25, 30, 49, 60, 100, 200, 500)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Synthetic().load()


def frames_of(clip: Clip) -> SyntheticFrames:
    assert isinstance(clip.frames, SyntheticFrames)
    return clip.frames


def flow_of(clip: Clip) -> NDArray[np.float32]:
    assert clip.onset is not None
    assert clip.apex is not None
    return frames_of(clip).true_flow(clip.onset, clip.apex)


def onset_and_apex(clip: Clip) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    assert clip.onset is not None
    assert clip.apex is not None
    return frames_of(clip)[clip.onset], frames_of(clip)[clip.apex]


def farneback(clip: Clip) -> NDArray[np.float32]:
    flow = cv2.calcOpticalFlowFarneback(*onset_and_apex(clip), None, 0.5, 3, 15, 3, 5, 1.2, 0)
    return flow.transpose(2, 0, 1)


def sample(image: NDArray[np.generic], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image at x + flow(x), by cubic interpolation: it never looks at how frames are rendered."""
    rows, columns = np.indices(image.shape, dtype=np.float32)
    at = image.astype(np.float32)
    return cv2.remap(at, columns + flow[0], rows + flow[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


# Same bits


def test_another_process_makes_the_same_bits() -> None:
    code = (
        "import cv2; cv2.setNumThreads(1)\n"
        "from mernas.components.datasets.synthetic import Synthetic\n"
        "data = Synthetic(subjects=2, clips=3).load()\n"
        "print(data.fingerprint, data.label_fingerprint)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "123", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    np.random.seed(5)  # the global state must not matter
    here = Synthetic(subjects=2, clips=3).load()
    assert run.stdout.split() == [here.fingerprint, here.label_fingerprint]


def test_a_person_does_not_depend_on_how_many_others_there_are() -> None:
    few, many = SMALL.load(), replace(SMALL, subjects=5).load()
    assert [clip.key for clip in few] == [clip.key for clip in many][: len(few)]
    assert [clip.fingerprint for clip in few] == [clip.fingerprint for clip in many][: len(few)]
    assert few.annotations.equals(many.annotations[: len(few)])


def test_order_of_access_and_pickling_do_not_change_frames() -> None:
    clips = SMALL.load().clips
    forwards = [onset_and_apex(clip)[1] for clip in clips]
    copies = pickle.loads(pickle.dumps(clips))
    backwards = [onset_and_apex(clip)[1] for clip in reversed(copies)][::-1]
    assert all(np.array_equal(*pair) for pair in zip(forwards, backwards, strict=True))
    assert max(len(pickle.dumps(clip)) for clip in clips) < 10_000  # parameters, no pixels


def test_another_seed_makes_other_people() -> None:
    one, other = Synthetic(subjects=1, clips=1).load(), Synthetic(subjects=1, clips=1, seed=1).load()
    difference = onset_and_apex(one.clips[0])[0].astype(float) - onset_and_apex(other.clips[0])[0]
    assert np.abs(difference).mean() > 10
    assert one.fingerprint != other.fingerprint


# What a clip says of itself


def test_it_is_a_dataset_with_all_that_it_provides(data: Dataset) -> None:
    assert REGISTRY.get("dataset", "synthetic").factory is Synthetic
    assert len(data) == 18 * 9
    assert len(data.subjects) == 18
    assert data.classes == ("negative", "positive", "surprise")
    assert data.provides == {FRAMES, FRAME_RATE, ONSET, APEX, OFFSET, TRUE_FLOW, ACTION_UNITS, LANDMARKS, SOURCE}
    assert data.provides <= set(CAPABILITIES)
    assert len({clip.fingerprint for clip in data}) == len(data)
    for clip in data:
        frames = frames_of(clip)
        assert clip.key.startswith(f"{clip.subject}/")
        assert clip.onset is not None
        assert clip.apex is not None
        assert clip.offset is not None
        assert 0 < clip.onset < clip.apex < clip.offset < len(frames) - 1
        first = frames[0]
        assert first.shape == (64, 64)
        assert first.dtype == np.uint8


def test_action_units_are_those_of_the_class(data: Dataset) -> None:
    for emotion, units in zip(data.annotations["emotion"], data.annotations["action_units"], strict=True):
        assert set(EXPRESSIONS[emotion].always) <= set(units.split("+"))
        assert units.split("+") == sorted(set(units.split("+")), key=int)


def test_most_people_show_every_class(data: Dataset) -> None:
    shown = Counter(zip([clip.subject for clip in data], data.labels.tolist(), strict=True))
    complete = [all(shown[subject, label] for label in range(3)) for subject in data.subjects]
    assert np.mean(complete) > 0.75
    assert len({tuple(shown[subject, label] for label in range(3)) for subject in data.subjects}) > 3


@pytest.mark.parametrize("fps", FRAME_RATES)
def test_expressions_last_a_25th_to_a_third_of_a_second(fps: int) -> None:
    timelines = [draw_timeline(np.random.default_rng(seed), fps) for seed in range(500)]
    seconds = np.array([timeline.offset - timeline.onset for timeline in timelines]) / fps
    assert seconds.min() >= 1 / 25
    assert seconds.max() <= 1 / 3
    assert np.ptp(seconds) > 0.2
    assert all(timeline.onset < timeline.apex < timeline.offset for timeline in timelines)


@pytest.mark.parametrize("fps", [25, 100])
def test_the_apex_is_the_frame_of_largest_displacement(fps: int) -> None:
    for clip in replace(STILL, fps=fps).load():
        frames = frames_of(clip)
        assert clip.onset is not None
        largest = [np.hypot(*frames.true_flow(clip.onset, frame)).max() for frame in range(len(frames))]
        assert np.argmax(largest) == clip.apex
        assert largest[clip.apex] > 0
        assert max(largest[0], largest[clip.onset], largest[-1]) < 1e-3


def test_options_are_respected() -> None:
    clips = replace(SMALL, size=48, fps=25).load().clips
    assert {frames_of(clip)[0].shape for clip in clips} == {(48, 48)}
    assert {clip.fps for clip in clips} == {25.0}
    for clip in clips:
        onset, apex = onset_and_apex(clip)
        assert not np.array_equal(onset, apex)
    durations = [sum(len(frames_of(clip)) for clip in replace(SMALL, fps=fps).load()) for fps in (50, 200)]
    assert 2 < durations[1] / durations[0] < 4


def test_no_displacement_exceeds_the_intensity() -> None:
    settings = replace(STILL, subjects=6, intensity=0.03)
    largest = np.array([np.hypot(*flow_of(clip)).max() / settings.size for clip in settings.load()])
    assert largest.max() <= 0.03 * 1.001
    assert largest.max() > 0.02
    assert largest.min() < 0.5 * largest.max()


def test_all_illegal_options_are_named_at_once() -> None:
    with pytest.raises(SpaceError) as caught:
        Synthetic(size=20, fps=1000, noise=-1.0)
    assert len(caught.value.problems) == 3
    for text in ("size", "fps", "noise", "20", "1000", "-1.0"):
        assert text in str(caught.value)


def test_a_frame_beyond_the_last_is_refused() -> None:
    frames = frames_of(SMALL.load().clips[0])
    assert sum(1 for _ in frames) == len(frames)
    for frame in (-1, len(frames)):
        with pytest.raises(IndexError, match=str(frame)):
            frames[frame]


# True flow


@pytest.mark.parametrize(("intensity", "size"), [(0.012, 64), (0.03, 64), (0.03, 128), (0.04, 48)])
def test_true_flow_takes_the_apex_back_to_the_onset(intensity: float, size: int) -> None:
    for clip in replace(CLEAN, intensity=intensity, size=size).load():
        onset, apex = onset_and_apex(clip)
        inner = (slice(size // 10, -size // 10),) * 2  # what moves into the frame cannot be looked up
        before = np.abs(apex.astype(np.float32) - onset)[inner].mean()
        after = np.abs(sample(apex, flow_of(clip)) - onset)[inner].mean()
        assert after < 0.8  # rounding to whole grey levels alone leaves about 0.3
        if before > 2:
            assert after < before / 3


def test_a_flow_of_the_wrong_sign_is_told_apart() -> None:
    for clip in replace(CLEAN, intensity=0.03).load():
        onset, apex = onset_and_apex(clip)
        right, wrong = (np.abs(sample(apex, sign * flow_of(clip)) - onset).mean() for sign in (1, -1))
        assert right < wrong / 2


@pytest.mark.parametrize("size", [48, 128])
def test_there_and_back_is_where_it_began_even_at_the_strongest(size: int) -> None:
    for clip in Synthetic(subjects=4, clips=4, size=size, intensity=0.04, head_motion=0.03).load():
        assert clip.onset is not None
        assert clip.apex is not None
        there = flow_of(clip)
        back = frames_of(clip).true_flow(clip.apex, clip.onset)
        error = np.hypot(*(there + np.stack([sample(part, there) for part in back])))
        inner = (slice(size // 8, -size // 8),) * 2
        assert error[inner].max() < 0.02
        assert not frames_of(clip).true_flow(clip.apex, clip.apex).round(3).any()


def test_flow_in_pixels_grows_with_the_size() -> None:
    small, large = (replace(SMALL, size=size).load() for size in (48, 96))
    for one, other in zip(small, large, strict=True):
        halved = cv2.resize(flow_of(other).transpose(1, 2, 0), (48, 48), interpolation=cv2.INTER_AREA) / 2
        assert np.abs(flow_of(one).transpose(1, 2, 0) - halved).max() < 0.02


def test_farneback_finds_the_true_flow_roughly() -> None:
    inner = (slice(None), slice(8, -8), slice(8, -8))
    error, magnitude = [], []
    for clip in replace(SMALL, subjects=4, intensity=0.03, noise=1.0).load():
        truth = flow_of(clip)[inner]
        error.append(np.hypot(*(farneback(clip)[inner] - truth)).mean())
        magnitude.append(np.hypot(*truth).mean())
    assert np.mean(error) < 0.5 * np.mean(magnitude)


# Labels


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (1, 2)])
def test_classes_move_differently_in_the_upper_and_in_the_lower_face(data: Dataset, one: int, other: int) -> None:
    # The shift of the head is taken out, as the median of each channel.
    flows = np.array([flow - np.median(flow, axis=(1, 2), keepdims=True) for flow in map(flow_of, data)])
    labels = data.labels
    chance = stats.ttest_ind(flows[labels == one], flows[labels == other], equal_var=False).pvalue
    significant = (chance < 0.01 / chance.size).any(axis=0)  # Bonferroni over all pixels and both channels
    assert significant[:32].sum() > 20
    assert significant[32:].sum() > 20


def test_neither_names_nor_order_nor_timing_tell_the_class(data: Dataset) -> None:
    labels = data.labels
    numbers = np.array([int(clip.key[-2:]) for clip in data])
    table = np.array(
        [[np.sum((numbers == number) & (labels == label)) for label in range(3)] for number in range(1, 10)]
    )
    assert (table > 0).sum(axis=1).min() >= 2  # no number means one class
    assert stats.chi2_contingency(table).pvalue > 0.05
    follows = np.array([[np.sum((labels[:-1] == a) & (labels[1:] == b)) for b in range(3)] for a in range(3)])
    assert stats.chi2_contingency(follows).pvalue > 0.05
    lengths = [len(frames_of(clip)) for clip in data]
    assert stats.kruskal(*(np.array(lengths)[labels == label] for label in range(3))).pvalue > 0.05


def test_motion_tells_the_class_of_new_people_and_a_single_frame_does_not(data: Dataset) -> None:
    pictures, flows = [], []
    for clip in data:
        apex = onset_and_apex(clip)[1]
        pictures.append(cv2.resize(apex, (28, 28), interpolation=cv2.INTER_AREA).ravel().astype(float))
        flows.append(cv2.resize(farneback(clip).transpose(1, 2, 0), (14, 14), interpolation=cv2.INTER_AREA).ravel())
    people = [clip.subject for clip in data]

    def uf1(features: list[NDArray[np.floating]]) -> float:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=500))
        predicted = cross_val_predict(model, np.array(features), data.labels, groups=people, cv=GroupKFold(6))
        return float(f1_score(data.labels, predicted, average="macro"))

    assert uf1(pictures) < 0.45
    assert 0.65 < uf1(flows) < 0.95
