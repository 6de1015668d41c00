"""The source of the synthetic dataset: macro-expressions of people who are in no other clip, at little cost."""

from __future__ import annotations

import copy
from dataclasses import replace

import cv2
import numpy as np
import pytest

from mernas.components.datasets import synthetic_frames
from mernas.components.datasets.clip import Clip, Dataset
from mernas.components.datasets.synthetic import Synthetic
from mernas.components.datasets.synthetic_expressions import EXPRESSIONS
from mernas.components.datasets.synthetic_frames import SyntheticFrames
from mernas.components.datasets.synthetic_muscles import displace
from mernas.components.datasets.synthetic_time import draw_macro_timeline
from mernas.space.errors import SpaceError
from mernas.space.taxonomy import ACTION_UNITS, APEX, FRAME_RATE, FRAMES, LANDMARKS, OFFSET, ONSET, SOURCE, TRUE_FLOW

SMALL = Synthetic(subjects=2, clips=2, macro_subjects=3, macro_clips=4)


def source_of(settings: Synthetic) -> Dataset:
    source = settings.load().source
    assert source is not None
    return source


def frames_of(clip: Clip) -> SyntheticFrames:
    assert isinstance(clip.frames, SyntheticFrames)
    return clip.frames


@pytest.fixture(scope="module")
def data() -> Dataset:
    return Synthetic().load()


@pytest.fixture(scope="module")
def source(data: Dataset) -> Dataset:
    assert data.source is not None
    return data.source


def test_it_is_a_dataset_of_other_people_with_the_same_classes(data: Dataset, source: Dataset) -> None:
    assert SOURCE in data.provides
    assert source.provides == {FRAMES, FRAME_RATE, ONSET, APEX, OFFSET, TRUE_FLOW, ACTION_UNITS, LANDMARKS}
    assert source.source is None
    assert source.classes == data.classes
    assert len(source) == 12 * 6
    assert len(source.subjects) == 12
    assert np.bincount(source.labels).min() >= 12
    assert source.clips[0].key == "synthetic-macro/m01/c01"
    for clip in source:
        assert clip.key.startswith(f"{clip.subject}/")
        assert clip.dataset == "synthetic-macro" == source.name
    faces = [{frames_of(clip).face for clip in part} for part in (data, source)]
    assert not faces[0] & faces[1]
    skins = [{frames_of(clip).skin_seed for clip in part} for part in (data, source)]
    assert not skins[0] & skins[1]
    assert len(faces[1]) == 12


def test_action_units_are_those_of_the_class(source: Dataset) -> None:
    for emotion, units in zip(source.annotations["emotion"], source.annotations["action_units"], strict=True):
        assert set(EXPRESSIONS[emotion].always) <= set(units.split("+"))


def test_they_are_several_times_as_large_as_micro_expressions(data: Dataset, source: Dataset) -> None:
    # The displacement of the skin in pixels at the apex, without the motion of the head.
    axis = np.linspace(-1, 1, 41)
    largest = [
        [np.hypot(*displace(frames_of(clip).expression, axis[None], axis[:, None])).max() * 32 for clip in part]
        for part in (data, source)
    ]
    assert np.median(largest[1]) > 3 * np.median(largest[0])
    assert max(largest[1]) < 0.05 * 64


@pytest.mark.parametrize("fps", [25, 30, 60])
def test_they_last_half_a_second_to_four_seconds(fps: int) -> None:
    timelines = [draw_macro_timeline(np.random.default_rng(seed), fps) for seed in range(500)]
    seconds = np.array([timeline.offset - timeline.onset for timeline in timelines]) / fps
    assert seconds.min() >= 0.5
    assert seconds.max() <= 4
    assert np.ptp(seconds) > 3
    assert all(0 < line.onset < line.apex < line.offset < line.length - 1 for line in timelines)


def test_they_last_longer_than_any_micro_expression(data: Dataset, source: Dataset) -> None:
    seconds = []
    for part in (data, source):
        spans = [(clip.onset, clip.offset, clip.fps) for clip in part]
        seconds.append([(last - first) / rate for first, last, rate in spans if None not in (first, last, rate)])  # type: ignore[operator]
    assert max(seconds[0]) < 0.5 <= min(seconds[1])
    assert sum(len(frames_of(clip)) for clip in source) < 5000


def test_no_expression_folds_the_face(source: Dataset) -> None:
    axis = np.linspace(-1, 1, 201)
    step = axis[1] - axis[0]
    for clip in source:
        dx, dy = displace(frames_of(clip).expression, axis[None], axis[:, None])
        dx_y, dx_x = np.gradient(dx, step)
        dy_y, dy_x = np.gradient(dy, step)
        assert ((1 - dx_x) * (1 - dy_y) - dx_y * dy_x).min() > 0.1  # how areas change from the frame back to rest


def test_true_flow_takes_the_apex_back_to_the_onset() -> None:
    for clip in source_of(replace(SMALL, noise=0.0, light_drift=0.0)):
        frames = frames_of(clip)
        assert clip.onset is not None
        assert clip.apex is not None
        onset, apex = (frames[frame].astype(np.float32) for frame in (clip.onset, clip.apex))
        flow = frames.true_flow(clip.onset, clip.apex)
        rows, columns = np.indices(onset.shape, dtype=np.float32)
        back = cv2.remap(apex, columns + flow[0], rows + flow[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        inner = (slice(8, -8),) * 2
        before, after = np.abs(apex - onset)[inner].mean(), np.abs(back - onset)[inner].mean()
        assert after < 0.9
        assert after < before / 2


# Cost and fingerprints


def test_of_all_its_frames_two_are_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = []
    render = SyntheticFrames.__getitem__

    def counted(frames: SyntheticFrames, frame: int, /) -> np.ndarray:
        rendered.append(frames.fps)
        return render(frames, frame)

    monkeypatch.setattr(SyntheticFrames, "__getitem__", counted)
    data = replace(SMALL, fps=100).load()
    assert rendered.count(100.0) == sum(len(frames_of(clip)) for clip in data)
    assert rendered.count(25.0) == 2


def test_the_source_changes_nothing_of_the_clips_themselves() -> None:
    with_source, without = SMALL.load(), replace(SMALL, macro_subjects=0).load()
    assert without.source is None
    assert without.provides == with_source.provides - {SOURCE}
    assert with_source.fingerprint == without.fingerprint
    assert with_source.label_fingerprint == without.label_fingerprint


def test_every_clip_has_its_own_fingerprint_and_another_load_the_same() -> None:
    one, other = source_of(SMALL), source_of(copy.deepcopy(SMALL))
    assert len({clip.fingerprint for clip in one}) == len(one)
    assert one.fingerprint == other.fingerprint
    assert one.label_fingerprint == other.label_fingerprint


def test_a_person_does_not_depend_on_how_many_others_there_are() -> None:
    few = source_of(SMALL)
    many = source_of(replace(SMALL, macro_subjects=5, subjects=4, clips=3, fps=60))
    assert [clip.fingerprint for clip in few] == [clip.fingerprint for clip in many][: len(few)]


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"size": 65}, {"noise": 2.9}, {"light_drift": 0.031}, {"head_motion": 0.0121}]
)
def test_other_pictures_have_other_fingerprints(change: dict[str, float]) -> None:
    before, after = (source_of(replace(SMALL, **changed)) for changed in ({}, change))  # type: ignore[arg-type]
    assert not {clip.fingerprint for clip in before} & {clip.fingerprint for clip in after}


def test_another_way_to_render_gives_other_fingerprints(monkeypatch: pytest.MonkeyPatch) -> None:
    before = source_of(SMALL)
    monkeypatch.setattr(synthetic_frames, "SHARPNESS", 0.7)
    synthetic_frames._clip_canvas.cache_clear()
    try:
        after = source_of(SMALL)
    finally:
        synthetic_frames._clip_canvas.cache_clear()
    assert not {clip.fingerprint for clip in before} & {clip.fingerprint for clip in after}


def test_illegal_counts_are_refused() -> None:
    with pytest.raises(SpaceError) as caught:
        Synthetic(macro_subjects=100, macro_clips=0)
    assert len(caught.value.problems) == 2
