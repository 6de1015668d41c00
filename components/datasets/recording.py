"""Recordings: somebody's own video file, or folder of frames, as a clip. A recording is no dataset and has no label.

Frames are counted from 0. They are decoded when asked for; what was seen when the recording was opened is remembered
as one digest per frame, so that a file which changes on disk is noticed rather than used.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip, content_hash
from mernas.components.datasets.open_videos import decoded, frame_of, open_video
from mernas.space.errors import DataError, Problem, raise_all

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""What the names of frames in a folder end in, in small letters; other files there are not looked at."""

HEAD = 4096
"""So many bytes of a video tell whether it is text; no container of videos does without a zero byte in as many."""

SHORTEST_LIST = 20
"""No list of videos has fewer characters; containers that begin with letters have a zero byte or a mark before."""

LIST_MARKS = (b"#EXTM3U", b"<MPD", b"c=IN IP", b"ffconcat")
"""What FFmpeg knows lists of other files or addresses by (HLS, DASH, SDP, concatenation), even amid other bytes."""

VIDEOS_AS_TEXT = (b"YUV4MPEG2", b"nut/multimedia container")
"""What videos begin with whose heads are text."""

TEXT = bytes(byte for byte in range(256) if (byte >= 32 and byte != 127) or byte in b"\t\n\f\r")
"""The bytes of text, UTF-8 or Latin-1."""


# OpenCV and FFmpeg write to standard error when a file is damaged; mernas says it in its own words. FFmpeg is told once
# per process, before its first use, and only if the user has not told it anything.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


@dataclass(frozen=True)
class VideoFrames:
    """The frames of a video file, decoded when asked for: (H, W, 3) RGB, upright.

    Each thread that asks for frames keeps the file open and reads on; going back begins anew.

    Attributes:
        path: The file.
        digests: One per frame, as they were when the file was opened.

    Example:
        >>> len(VideoFrames(Path("clip.mp4"), (b"of frame 0", b"of frame 1")))
        2
    """

    path: Path
    digests: tuple[bytes, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.digests)

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """Return a frame, (H, W, 3).

        Raises:
            IndexError: If there is no such frame.
            DataError: If the file is no longer what was opened.
        """
        _check_number(frame, len(self))
        return _checked(self.path, frame_of(self, self.path, _address, frame), self.digests[frame])


@dataclass(frozen=True)
class FolderFrames:
    """The frames of a folder of images, decoded when asked for: (H, W) where an image is grey, else (H, W, 3) RGB.

    Attributes:
        files: The images, in order.
        digests: One per frame, as they were when the folder was opened.

    Example:
        >>> len(FolderFrames((Path("frame1.png"), Path("frame2.png")), (b"of frame 0", b"of frame 1")))
        2
    """

    files: tuple[Path, ...] = field(repr=False)
    digests: tuple[bytes, ...] = field(repr=False)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, frame: int, /) -> NDArray[np.uint8]:
        """Return a frame, (H, W) or (H, W, 3).

        Raises:
            IndexError: If there is no such frame.
            DataError: If the file is no longer what was opened.
        """
        _check_number(frame, len(self))
        return _checked(self.files[frame], decode_image(self.files[frame]), self.digests[frame])


def read_recording(
    source: str | Path, onset: int | None = None, apex: int | None = None, fps: float | None = None
) -> tuple[Clip, list[str]]:
    """Return a video file or a folder of frames as a clip, with notes on what was assumed.

    The images of a folder are taken in the natural order of their names: `frame2.png` comes before `frame10.png`.
    Without an onset it is the first frame; without an apex it is the frame in the middle between the onset and the last
    frame, the later of two. The notes say so, and whether a file ends before its end. The offset is the last frame.
    A frame rate that is given overrules what a video says of itself, because a video of a fast camera often says how
    fast it is to be shown; where the two differ, a note says so.

    Args:
        source: A video file that OpenCV can decode, or a folder of images of one size with 8 bits per channel.
        onset: Number of the onset frame, counted from 0; None for the default above.
        apex: Number of the apex frame, counted from 0; None for the default above.
        fps: Frames per second; None for what a video says of itself, which a folder cannot.

    Returns:
        The clip, whose key is the source as it was given, and its notes. The fingerprint covers the decoded frames,
        their rate, onset and apex: the same frames with another apex give other maps.

    Raises:
        DataError: With every mistake: there is no such file or folder, its name is not UTF-8, it holds no frame that
            can be decoded, it is a list of other files (a playlist) instead of a video, frames differ in size, their
            order cannot be told, onset and apex lie outside the frames or in the wrong order, or the frame rate is no
            positive finite number.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for number in range(12):
        ...         _ = cv2.imwrite(f"{folder}/frame{number}.png", np.full((8, 6), number, np.uint8))
        ...     clip, notes = read_recording(folder, onset=2)
        ...     len(clip.frames), clip.apex, int(clip.frames[10][0, 0])
        (12, 7, 10)
        >>> notes
        ['apex: frame 7, the middle between the onset and the last frame; give --apex to name it']
    """
    path = Path(source)
    subject = f'"{printable(source)}"'
    problem = missing(source)
    if problem is not None:
        raise DataError(problem)
    frames, stated, notes = _open_folder(path, subject) if path.is_dir() else _open_video(path, subject)
    last = len(frames.digests) - 1
    raise_all(DataError, [*_moment_problems(subject, onset, apex, last), *rate_problems(f"{subject}, fps", fps)])
    if fps is not None and stated is not None and fps != stated:
        notes.append(f"frame rate: {fps:.10g} per second as given, where the video says {stated:.10g}")
    fps = stated if fps is None else float(fps)
    if onset is None:
        onset = 0
        notes.append("onset: frame 0, the first; give --onset to name it")
    if apex is None:
        apex = (onset + last + 1) // 2
        notes.append(f"apex: frame {apex}, the middle between the onset and the last frame; give --apex to name it")
    moments = f"{fps} {onset} {apex}".encode()
    clip = Clip(
        key=str(source),
        dataset="recording",
        subject="recording/unknown",
        fingerprint=content_hash([*frames.digests, moments]),
        frames=frames,
        fps=fps,
        onset=onset,
        apex=apex,
        offset=last,
    )
    return clip, notes


def rate_problems(subject: str, fps: float | None) -> list[Problem]:
    """Return what is wrong with a frame rate; nothing if none is given.

    Example:
        >>> print(*rate_problems("--fps", -25.0))
        --fps: must be a positive finite number, found -25.0. Give frames per second, such as 100 or 29.97.
    """
    if fps is None or (np.isfinite(fps) and fps > 0):
        return []
    remedy = "give frames per second, such as 100 or 29.97"
    return [Problem(subject, "must be a positive finite number", f"{fps}", remedy)]


def missing(source: str | Path) -> Problem | None:
    """Return what is wrong if there is no such file or folder, or its name is not UTF-8; or None.

    Example:
        >>> print(missing("no-such-clip.mp4"))
        "no-such-clip.mp4": does not exist. Check the path.
    """
    subject = f'"{printable(source)}"'
    if not _is_utf8(source):
        # Such a name could not be written into a table of predictions.
        return Problem(subject, "its name must be UTF-8", "", "rename it")
    try:
        Path(source).stat()
    except FileNotFoundError:
        return Problem(subject, "does not exist", "", "check the path")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Problem(subject, "cannot be read", reason or type(error).__name__, "check the path")
    return None


def printable(path: str | Path) -> str:
    r"""Return a path as text that any stream can take: bytes of a name that are not UTF-8 become escapes.

    Example:
        >>> printable(Path(os.fsdecode(b"lat\xe9in.mp4")))
        'lat\\udce9in.mp4'
    """
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def natural_order(name: str) -> tuple[tuple[int, str], ...]:
    """Return the key by which names are sorted as people number them.

    Example:
        >>> sorted(["f10", "f9", "f1b"], key=natural_order)
        ['f1b', 'f9', 'f10']
    """
    parts = re.split(r"([0-9]+)", name.lower())
    # A number stands before the text that it would else be compared with; texts share the number -1.
    return tuple((int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts))


def images_of(folder: Path) -> list[Path]:
    """Return the images in a folder in the natural order of their names, without hidden files.

    Raises:
        DataError: If the folder cannot be listed, or the order of two images cannot be told (`1.png` and `01.png`).
    """
    subject = f'"{printable(folder)}"'
    places: defaultdict[tuple[tuple[int, str], ...], list[Path]] = defaultdict(list)
    try:
        for child in folder.iterdir():
            if child.name.startswith(".") or child.suffix.lower() not in IMAGE_SUFFIXES:
                continue
            with suppress(FileNotFoundError):  # a link to nothing
                if stat.S_ISREG(child.stat().st_mode):
                    places[natural_order(child.stem.strip())].append(child)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(Problem(subject, "cannot be listed", reason, "check permissions")) from None
    twins = sorted(sorted(file.name for file in files) for files in places.values() if len(files) > 1)
    if twins:
        found = printable(" and ".join(twins[0][:2]))
        rule = "the order of its images must be told by their names"
        raise DataError(Problem(subject, rule, found, "keep one image of each frame, or rename them"))
    return [places[place][0] for place in sorted(places)]


def decode_image(file: Path, flags: int = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH) -> NDArray[np.uint8]:
    """Return an image of 8 bits: (H, W) where it is grey, else with red first, (H, W, 3).

    Args:
        file: The image.
        flags: OpenCV's, on how to read it. The default drops transparency and turns photographs upright.

    Raises:
        DataError: If it cannot be read, or has more than 8 bits.
    """
    subject = f'"{printable(file)}"'
    try:
        content = np.frombuffer(file.read_bytes(), dtype=np.uint8)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(Problem(subject, "cannot be read", reason, "check permissions")) from None
    # cv2.imread would fail on names that its C library cannot spell, hence bytes.
    image: NDArray[Any] | None = cv2.imdecode(content, flags) if content.size else None
    if image is None:
        rule = "cannot be decoded as an image"
        raise DataError(Problem(subject, rule, f"{content.size} bytes", "copy it again"))
    if image.dtype != np.uint8:
        rule, found = "must have 8 bits per channel", f"{8 * image.itemsize}"
        raise DataError(Problem(subject, rule, found, "convert it to 8 bits, all frames of a clip alike"))
    if image.ndim == 3 and image.shape[2] == 3:
        image = image[:, :, ::-1]  # OpenCV gives blue first
    return np.ascontiguousarray(image)


def _open_folder(folder: Path, subject: str) -> tuple[FolderFrames, None, list[str]]:
    """The frames of a folder, each decoded once."""
    files = images_of(folder)
    if not files:
        inside = sorted((child for child in folder.iterdir() if not child.name.startswith(".")), key=lambda c: c.name)
        found = ", ".join(printable(child.name) for child in inside[:5]) or "an empty folder"
        remedy = "give the folder that holds the frames themselves"
        raise DataError(Problem(subject, f"must hold images ({', '.join(IMAGE_SUFFIXES)})", found, remedy))
    problems: list[Problem | str] = []
    digests: list[bytes] = []
    sizes: dict[str, tuple[int, int]] = {}
    for file in files:
        try:
            image = decode_image(file)
        except DataError as error:
            problems += error.problems
        else:
            digests.append(_digest(image))
            sizes[printable(file.name)] = (image.shape[0], image.shape[1])
    problems += _size_problems(subject, sizes)
    raise_all(DataError, problems)
    return FolderFrames(tuple(files), tuple(digests)), None, []


def _open_video(path: Path, subject: str) -> tuple[VideoFrames, float | None, list[str]]:
    """The frames of a video, decoded once from its beginning to its end."""
    digests: list[bytes] = []
    sizes: dict[str, tuple[int, int]] = {}
    with _capture(path) as capture:
        fps = float(capture.get(cv2.CAP_PROP_FPS))
        announced = float(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        while (frame := decoded(capture)) is not None:
            sizes[f"frame {len(digests)}"] = (frame.shape[0], frame.shape[1])
            digests.append(_digest(frame))
    if not digests:
        rule = "must be a video with frames that OpenCV can decode"
        remedy = "play it to see whether it is whole, or convert it to MP4 (H.264) or to a folder of PNG frames"
        raise DataError(Problem(subject, rule, f"{path.stat().st_size} bytes and no frame", remedy))
    raise_all(DataError, _size_problems(subject, sizes))
    # Containers that only estimate the number are wrong by one at most.
    short = np.isfinite(announced) and announced > len(digests) + 1
    notes = [f"the file announces {announced:.0f} frames, of which {len(digests)} can be decoded"] if short else []
    return VideoFrames(path, tuple(digests)), fps if np.isfinite(fps) and fps > 0 else None, notes


def _size_problems(subject: str, sizes: dict[str, tuple[int, int]]) -> list[Problem]:
    """One problem if frames differ in size; `sizes` holds (height, width) by name of the frame."""
    first = next(iter(sizes), None)
    for name, (height, width) in sizes.items():
        if first is not None and sizes[name] != sizes[first]:
            top, left = sizes[first]
            found = f"{top} x {left} pixels ({first}) and {height} x {width} ({name})"
            return [Problem(subject, "all frames must be of one size", found, "crop all frames alike")]
    return []


def _moment_problems(subject: str, onset: int | None, apex: int | None, last: int) -> list[Problem | str]:
    problems: list[Problem | str] = []
    for name, number in (("onset", onset), ("apex", apex)):
        if number is not None and not 0 <= number <= last:
            rule = f"must be a frame of the clip, 0 to {last}"
            problems.append(Problem(f"{subject}, {name}", rule, str(number), "frames are counted from 0"))
    if onset is not None and apex is not None and onset > apex:
        rule, found = "the onset must not come after the apex", f"onset {onset} and apex {apex}"
        problems.append(Problem(subject, rule, found, "give the earlier frame as onset"))
    return problems


@contextmanager
def _capture(path: Path) -> Iterator[cv2.VideoCapture]:
    """An open video, which is closed at the end."""
    capture = open_video(_address(path))
    try:
        yield capture
    finally:
        capture.release()


def _address(path: Path) -> str:
    """How FFmpeg is told of a video: by its absolute path, as it would take a name such as `a:b.mp4` for an address.

    Raises:
        DataError: If it is no file that FFmpeg can be given.
    """
    subject = f'"{printable(path)}"'
    try:
        resolved = path.resolve()
        head = b""
        if is_file := resolved.is_file():
            with resolved.open("rb") as file:
                head = file.read(HEAD)
    except (OSError, RuntimeError) as error:  # of links in a circle Python says RuntimeError
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(Problem(subject, "cannot be read", reason or str(error), "check permissions")) from None
    if not is_file:
        # A pipe cannot be read twice, and nobody may ever write into it.
        raise DataError(Problem(subject, "must be a file or a folder", "neither", "save the video as a file"))
    if not _is_utf8(resolved):
        # OpenCV would kill the process.
        rule = "a video's name and those of the folders above it must be UTF-8"
        raise DataError(Problem(subject, rule, f'"{printable(resolved)}"', "rename what is not, or move the video"))
    if _is_list(head):
        # FFmpeg would read whatever it names, wherever that lies.
        rule, found = "must be a video itself", "text, such as a playlist of other files"
        raise DataError(Problem(subject, rule, found, "give the video, or a folder of frames"))
    return str(resolved)


def _is_utf8(path: str | Path) -> bool:
    """Whether a path can be written as UTF-8, which the bytes of a name on Linux need not be."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_list(head: bytes) -> bool:
    """Whether a file that begins so is text or a list of other files: what FFmpeg understands ends at a zero byte."""
    text = head.partition(b"\0")[0]
    if len(text) < SHORTEST_LIST or text.startswith(VIDEOS_AS_TEXT):
        return False
    return not text.translate(None, TEXT) or len(text) == HEAD or any(mark in text for mark in LIST_MARKS)


def _digest(frame: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(str(frame.shape).encode() + frame.tobytes()).digest()


def _checked(path: Path, frame: NDArray[np.uint8] | None, digest: bytes) -> NDArray[np.uint8]:
    if frame is None or _digest(frame) != digest:
        raise DataError(Problem(f'"{printable(path)}"', "has changed since it was opened", "", "repeat the command"))
    return frame.copy()


def _check_number(frame: int, count: int) -> None:
    if not 0 <= frame < count:
        raise IndexError(f"frame {frame}: a clip of {count} frames has frames 0 to {count - 1}")
