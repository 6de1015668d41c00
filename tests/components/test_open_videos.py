"""How often a video is opened and how many frames are decoded: once each where frames are asked for in order."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip, Frames
from mernas.components.datasets.open_videos import OPEN, STRETCH
from mernas.components.datasets.recording import read_recording
from mernas.space.errors import DataError

COUNT = 100


def pictures(count: int = COUNT) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 24, 32, 3), dtype=np.uint8))


def write(path: Path, frames: list[NDArray[np.uint8]]) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 50.0, (32, 24))
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("videos") / "clip.mkv", pictures())


def frames_of(path: Path) -> Frames:
    clip: Clip = read_recording(path)[0]
    assert clip.frames is not None
    return clip.frames


class Counted:
    """OpenCV's reader of videos, which counts what is asked of it."""

    decoded = 0
    opened = 0
    alive = 0
    whole = cv2.VideoCapture
    lock = threading.Lock()

    def __init__(self, *given: Any) -> None:
        self.own = Counted.whole(*given)
        self.released = False
        with Counted.lock:
            Counted.opened += 1
            Counted.alive += 1

    def grab(self) -> bool:
        with Counted.lock:
            Counted.decoded += 1
        return bool(self.own.grab())

    def read(self) -> Any:
        with Counted.lock:
            Counted.decoded += 1
        return self.own.read()

    def get(self, number: int) -> float:
        return float(self.own.get(number))

    def release(self) -> None:
        self.own.release()
        with Counted.lock:
            Counted.alive -= not self.released
        self.released = True

    def __del__(self) -> None:
        self.release()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Counted]]:
    gc.collect()
    Counted.decoded = Counted.opened = Counted.alive = 0
    monkeypatch.setattr(cv2, "VideoCapture", Counted)
    yield Counted
    gc.collect()


ORDERS = {
    "in order": [*range(COUNT)],
    "every third": [*range(0, COUNT, 3)],
    "each with the first": [number for place in range(1, COUNT) for number in (0, place)],
    "each with the first and the next": [number for place in range(2, COUNT) for number in (0, place - 1, place)],
    "each twice": [number for place in range(COUNT) for number in (place, place)],
    "in a window": [number for place in range(3, COUNT) for number in range(place - 3, place + 1)],
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_video_is_decoded_once_however_many_frames_are_asked_for_ahead(
    order: str, video: Path, counted: type[Counted]
) -> None:
    frames, wanted = frames_of(video), pictures()
    counted.decoded = counted.opened = 0
    for number in ORDERS[order]:
        np.testing.assert_array_equal(frames[number], wanted[number])
    assert counted.opened == 1
    assert counted.decoded <= COUNT


def test_frames_in_any_order_are_those_that_were_written(video: Path) -> None:
    frames, wanted = frames_of(video), pictures()
    for number in np.random.default_rng(3).integers(0, COUNT, 150).tolist():
        np.testing.assert_array_equal(frames[number], wanted[number])


def test_going_back_opens_a_video_once_for_a_stretch_of_frames(video: Path, counted: type[Counted]) -> None:
    frames, wanted = frames_of(video), pictures()
    counted.opened = 0
    for number in reversed(range(COUNT)):
        np.testing.assert_array_equal(frames[number], wanted[number])
    assert counted.opened == -(-COUNT // STRETCH)


def test_threads_that_read_one_video_at_once_get_its_frames_and_each_reads_it_once(
    video: Path, counted: type[Counted]
) -> None:
    frames, wanted = frames_of(video), pictures()
    counted.decoded = counted.opened = 0
    together = threading.Barrier(4)

    def read(_: int) -> bool:
        together.wait()
        return all(np.array_equal(frames[number], wanted[number]) for number in range(COUNT))

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert all(pool.map(read, range(4)))
    assert counted.opened == 4
    assert counted.decoded <= 4 * COUNT
    gc.collect()
    assert counted.alive == 0  # threads that are gone leave nothing open


def test_a_video_is_closed_when_its_clip_is_gone(video: Path, counted: type[Counted]) -> None:
    frames = frames_of(video)
    frames[5]
    assert counted.alive == 1
    del frames
    gc.collect()
    assert counted.alive == 0


def test_few_videos_stay_open_of_however_many_clips(tmp_path: Path, counted: type[Counted]) -> None:
    clips = [frames_of(write(tmp_path / f"{number}.mkv", pictures(3))) for number in range(2 * OPEN + 3)]
    for frames in clips:
        np.testing.assert_array_equal(frames[2], pictures(3)[2])
        assert counted.alive <= OPEN
    for frames in clips:  # those that were closed are opened again
        np.testing.assert_array_equal(frames[1], pictures(3)[1])


def test_a_clip_that_is_being_read_can_be_sent_to_another_process(video: Path) -> None:
    frames = frames_of(video)
    frames[40]
    sent = pickle.loads(pickle.dumps(frames))
    for number in (41, 3):
        np.testing.assert_array_equal(sent[number], pictures()[number])
        np.testing.assert_array_equal(frames[number], pictures()[number])


def test_a_video_that_is_replaced_while_it_is_read_is_not_read_on(tmp_path: Path) -> None:
    wanted = pictures(20)
    path = write(tmp_path / "clip.mkv", wanted)
    frames = frames_of(path)
    np.testing.assert_array_equal(frames[2], wanted[2])
    os.replace(write(tmp_path / "other.mkv", [*wanted[:10], *reversed(wanted[10:])]), path)
    np.testing.assert_array_equal(frames[4], wanted[4])  # as it was, in the new file too
    with pytest.raises(DataError, match="has changed since it was opened"):
        frames[12]
    path.unlink()
    with pytest.raises(DataError, match="must be a file or a folder, found neither"):
        frames[5]


def test_a_process_that_is_forked_while_videos_are_open_reads_them_and_ends(video: Path) -> None:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    # In a process of its own, as this one may have threads that a fork would leave behind.
    program = """
        import os, sys, threading
        import numpy as np
        from mernas.components.datasets.recording import read_recording

        pictures = list(np.random.default_rng(0).integers(0, 256, (100, 24, 32, 3), dtype=np.uint8))
        frames = read_recording(sys.argv[1])[0].frames
        read, go = threading.Event(), threading.Event()

        def elsewhere():
            frames[7]
            read.set()
            go.wait()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        read.wait()
        frames[50]
        child = os.fork()
        if child == 0:
            good = all((frames[number] == pictures[number]).all() for number in (51, 52, 20))
            del frames
            os._exit(0 if good else 1)
        good = all((frames[number] == pictures[number]).all() for number in range(51, 100))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        go.set()
        thread.join()
        sys.exit(status if good else 2)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), str(video)], timeout=60, check=False)
    assert done.returncode == 0


def test_the_log_level_is_lowered_once_and_is_afterwards_what_it_was(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    levels = cv2.utils.logging
    before = levels.getLogLevel()
    seen: list[int] = []
    inside = threading.Barrier(3)

    class Waiting(Counted):
        """A video that is opened while two others are."""

        def __init__(self, *given: Any) -> None:
            inside.wait()
            super().__init__(*given)
            seen.append(levels.getLogLevel())
            inside.wait()

    monkeypatch.setattr(cv2, "VideoCapture", Waiting)
    with ThreadPoolExecutor(max_workers=3) as pool:
        list(pool.map(read_recording, [video] * 3))
    assert seen == [levels.LOG_LEVEL_ERROR] * 3
    assert levels.getLogLevel() == before
