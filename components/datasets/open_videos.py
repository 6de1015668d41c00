"""Videos that stay open between two frames: each thread reads on where it stands instead of beginning again.

Jumping to a frame is not exact in most containers, so a video is read from its beginning. A thread keeps the last few
videos that it read open, with their last frames. They are closed when another video takes their place, when the clip
is gone, and when the thread ends. What is kept here is a matter of speed: the frames are the same without it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

STRETCH = 8
"""So many frames of an open video are kept, and as many are decoded at once for who reads a video backwards."""

OPEN = 2
"""So many videos stay open in a thread: the one that it prepares, and one to compare it with."""

Address = Callable[[Path], str]
"""How FFmpeg is told of a file; it refuses what is no video."""


def frame_of(clip: object, path: Path, address: Address, number: int) -> NDArray[np.uint8] | None:
    """Return a frame of a video, (H, W, 3) RGB, or None if the file ends before it. Do not change it in place.

    Args:
        clip: For whom the video stays open, as long as it lives.
        path: The file.
        address: Called whenever the file is opened, and may raise.
        number: Which frame, counted from 0.

    Example:
        >>> import tempfile
        >>> from mernas.components.datasets.clip import Clip
        >>> clip = Clip("a/b/c", "a", "a/b", "hash")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "clip.avi"
        ...     writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, (32, 24))
        ...     _ = writer.write(np.zeros((24, 32, 3), np.uint8))
        ...     writer.release()
        ...     frame_of(clip, file, str, 0).shape, frame_of(clip, file, str, 1)
        ((24, 32, 3), None)
    """
    mine = getattr(_OF_THIS_THREAD, "videos", None)
    if not isinstance(mine, _OpenVideos):
        mine = _OF_THIS_THREAD.videos = _OpenVideos()
    return mine.frame(clip, path, address, number)


def open_video(address: str) -> cv2.VideoCapture:
    """Return an open video. It is decoded by the processor alone, because accelerators round colours differently."""
    with _quiet():
        plain = [cv2.CAP_PROP_HW_ACCELERATION, cv2.VIDEO_ACCELERATION_NONE]
        return cv2.VideoCapture(address, cv2.CAP_FFMPEG, plain)


def decoded(capture: cv2.VideoCapture) -> NDArray[np.uint8] | None:
    """Return the next frame, (H, W, 3) RGB, or None at the end."""
    read, frame = capture.read()
    return np.ascontiguousarray(frame[:, :, ::-1]) if read else None


class _OpenVideos:
    """The videos that one thread has open, the last one that it read at the end."""

    def __init__(self) -> None:
        self._readings: dict[int, _Reading] = {}  # by the identity of the clip; whole methods of dict are atomic

    def frame(self, clip: object, path: Path, address: Address, number: int) -> NDArray[np.uint8] | None:
        reading = self._readings.pop(id(clip), None)
        if reading is None or reading.process != os.getpid():
            self._make_room(OPEN - 1)
            reading = _Reading(path, address, weakref.ref(clip, self._closing(id(clip))))
        found = reading.frame(number)
        if found is not None:
            self._readings[id(clip)] = reading
        return found

    def _make_room(self, kept: int) -> None:
        for key in list(self._readings)[: max(len(self._readings) - kept, 0)]:
            self._readings.pop(key, None)

    def _closing(self, key: int) -> Callable[[object], None]:
        """What closes a video when its clip is gone, which may be in another thread; it does not keep this alive."""
        own = weakref.ref(self)

        def close(_: object) -> None:
            videos = own()
            if videos is not None:
                videos._readings.pop(key, None)

        return close


class _Reading:
    """A video that is being read by one thread: where it stands, and its last frames."""

    def __init__(self, path: Path, address: Address, clip: weakref.ref[object]) -> None:
        self.process = os.getpid()
        self._clip = clip  # kept, so that it calls back
        self._path = path
        self._address = address
        self._capture: cv2.VideoCapture | None = None
        self._state: tuple[int, ...] | None = None
        self._next = 0
        self._kept: dict[int, NDArray[np.uint8]] = {}
        with _LOCK:
            _READINGS.add(self)

    def frame(self, number: int) -> NDArray[np.uint8] | None:
        """Return a frame, or None if there are not as many; this is of no use any more then."""
        if number in self._kept:
            self._kept[number] = found = self._kept.pop(number)  # as the last one that was asked for
            return found
        changed = _state_of(self._path) != self._state
        start = number
        if self._capture is None or changed or number < self._next:
            if changed:
                self._kept.clear()
            self._open()
            start = number - number % STRETCH
        while self._next <= number:
            if not self._pass(keep=self._next >= start):
                return None
        return self._kept[number]

    def _open(self) -> None:
        if self._capture is not None:
            self._capture.release()
        self._state = _state_of(self._path)  # before it is opened, so that what changes in between is seen next time
        self._capture, self._next = open_video(self._address(self._path)), 0

    def _pass(self, *, keep: bool) -> bool:
        """Go on by one frame; False at the end."""
        assert self._capture is not None  # noqa: S101  # for the type checker: `frame` opens it
        if not keep:
            there = self._capture.grab()
        else:
            found = decoded(self._capture)
            there = found is not None
            if found is not None:
                self._kept[self._next] = found
                while len(self._kept) > STRETCH:
                    del self._kept[next(iter(self._kept))]
        self._next += 1
        return there


def _state_of(path: Path) -> tuple[int, ...] | None:
    """What tells that a file is another one or was written to; None if it cannot be asked."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


_OF_THIS_THREAD = threading.local()

_LOCK = threading.Lock()
_READINGS: weakref.WeakSet[_Reading] = weakref.WeakSet()
_LEFT_OPEN: list[list[_Reading]] = []


def _before_fork() -> None:
    _LOCK.acquire()
    _LEFT_OPEN.append(list(_READINGS))


def _after_fork_in_parent() -> None:
    _LEFT_OPEN.pop()
    _LOCK.release()


# A forked process shares the place in a file with its parent, and lacks the threads that decode: to close a video
# there would wait for them for ever. So it never closes those of its parent, and opens its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_LOCK.release)


class _Openings:
    """How many videos are being opened now, and the log level of OpenCV before the first of them."""

    count = 0
    level = 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Let OpenCV say nothing of what it cannot open.

    Its log level is one for the whole process. Of those who open videos at the same time the first one lowers it, and
    the last one puts it back.
    """
    levels = cv2.utils.logging
    with _LOCK:
        if _Openings.count == 0:
            _Openings.level = levels.setLogLevel(levels.LOG_LEVEL_ERROR)
        _Openings.count += 1
    try:
        yield
    finally:
        with _LOCK:
            _Openings.count -= 1
            if _Openings.count == 0:
                levels.setLogLevel(_Openings.level)
