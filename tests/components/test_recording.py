"""Videos and folders of frames, made here: exactly the frames that went in, and one message for every mistake."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mernas.components.datasets.open_videos import STRETCH
from mernas.components.datasets.recording import images_of, natural_order, read_recording
from mernas.space.errors import DataError

Colours = list[NDArray[np.uint8]]


def moving(count: int = 21, height: int = 24, width: int = 32) -> Colours:
    """Smooth coloured frames, each different from the others: red to the right, green downwards, blue in time."""
    y, x = np.mgrid[0:height, 0:width]
    return [
        np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 10 * number)], axis=2).astype(np.uint8)
        for number in range(count)
    ]


def write_video(path: Path, frames: Colours, codec: str, fps: float = 50.0) -> Path:
    height, width = frames[0].shape[:2] if frames else (24, 32)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened(), f"this OpenCV cannot write {codec}"
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


def write_folder(folder: Path, frames: Colours, name: Callable[[int], str] = "frame{}.png".format) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for number, frame in enumerate(frames):
        picture = frame if frame.ndim == 2 else frame[:, :, ::-1]
        assert cv2.imwrite(str(folder / name(number)), np.ascontiguousarray(picture))
    return folder


def mistakes(source: str | Path, onset: int | None = None, apex: int | None = None) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_recording(source, onset, apex)
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture(scope="module")
def lossless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mkv", moving(), "FFV1")


def test_a_lossless_video_gives_exactly_the_frames_that_were_written(lossless: Path) -> None:
    clip, _ = read_recording(lossless)
    assert clip.frames is not None
    assert len(clip.frames) == 21
    for number, frame in enumerate(moving()):
        np.testing.assert_array_equal(clip.frames[number], frame)
    assert clip.fps == 50.0


def test_frames_can_be_asked_for_in_any_order(lossless: Path) -> None:
    clip, _ = read_recording(lossless)
    frames = moving()
    assert clip.frames is not None
    assert len(frames) > 2 * STRETCH  # the order below goes to and fro between stretches
    for number in (20, 0, STRETCH, STRETCH - 1, 2 * STRETCH, 3, 20):
        np.testing.assert_array_equal(clip.frames[number], frames[number])


def test_what_is_done_to_a_frame_does_not_change_the_recording(lossless: Path) -> None:
    clip, _ = read_recording(lossless)
    assert clip.frames is not None
    clip.frames[4][:] = 0
    np.testing.assert_array_equal(clip.frames[4], moving()[4])


def test_an_mp4_gives_nearly_the_frames_that_were_written(tmp_path: Path) -> None:
    clip, _ = read_recording(write_video(tmp_path / "clip.mp4", moving(), "mp4v", 200.0))
    assert clip.frames is not None
    assert (len(clip.frames), clip.fps) == (21, 200.0)
    worst = [np.abs(clip.frames[number].astype(int) - frame).mean() for number, frame in enumerate(moving())]
    assert max(worst) < 8  # of 255: red and blue exchanged would give some 60
    again, _ = read_recording(tmp_path / "clip.mp4")
    assert again.fingerprint == clip.fingerprint


def test_a_folder_of_frames_is_the_lossless_video(lossless: Path, tmp_path: Path) -> None:
    # Written in an order that is neither that of the names as text nor that of time.
    video, _ = read_recording(lossless)
    folder, _ = read_recording(write_folder(tmp_path / "frames", moving()))
    assert video.frames is not None
    assert folder.frames is not None
    assert len(folder.frames) == len(video.frames)
    for number in range(len(video.frames)):
        np.testing.assert_array_equal(folder.frames[number], video.frames[number])
    assert (folder.onset, folder.apex) == (video.onset, video.apex)


def test_grey_frames_stay_grey(tmp_path: Path) -> None:
    frames = [frame[:, :, 0] for frame in moving(3)]
    clip, _ = read_recording(write_folder(tmp_path / "grey", frames))
    assert clip.frames is not None
    assert clip.frames[2].shape == (24, 32)
    np.testing.assert_array_equal(clip.frames[2], frames[2])


def test_frames_are_in_natural_order_and_other_files_are_no_frames(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames", moving(12), "Img{}.bmp".format)
    (folder / "notes.txt").write_text("no frame")
    (folder / ".hidden.png").write_bytes(b"no image")
    (folder / "below.png").mkdir()
    assert [file.name for file in images_of(folder)] == [f"Img{number}.bmp" for number in range(12)]
    clip, _ = read_recording(folder)
    assert clip.frames is not None
    assert [int(clip.frames[number][0, 0, 2]) for number in range(12)] == list(range(0, 120, 10))


def test_natural_order_sorts_numbers_wherever_they_stand() -> None:
    names = ["a2b10", "a2b9", "a10b1", "a", "2", "10", "b1"]
    assert sorted(names, key=natural_order) == ["2", "10", "a", "a2b9", "a2b10", "a10b1", "b1"]


@pytest.mark.parametrize(
    ("count", "onset", "apex"), [(1, 0, 0), (2, 0, 1), (3, 0, 1), (4, 0, 2), (21, 0, 10), (21, 5, 13), (21, 20, 20)]
)
def test_the_apex_that_is_not_named_is_the_middle_between_onset_and_end(
    count: int, onset: int, apex: int, tmp_path: Path
) -> None:
    clip, notes = read_recording(write_folder(tmp_path, moving(count)), onset=onset)
    assert (clip.onset, clip.apex) == (onset, apex)
    assert notes == [f"apex: frame {apex}, the middle between the onset and the last frame; give --apex to name it"]


def test_every_default_is_told_and_nothing_else(lossless: Path) -> None:
    _, notes = read_recording(lossless)
    assert notes == [
        "onset: frame 0, the first; give --onset to name it",
        "apex: frame 10, the middle between the onset and the last frame; give --apex to name it",
    ]
    _, notes = read_recording(lossless, apex=7)
    assert notes == ["onset: frame 0, the first; give --onset to name it"]
    clip, notes = read_recording(lossless, onset=2, apex=7)
    assert notes == []
    assert (clip.onset, clip.apex) == (2, 7)


def test_the_fingerprint_tells_contents_and_moments_apart_and_ignores_names(lossless: Path, tmp_path: Path) -> None:
    copy = tmp_path / "another name.mkv"
    copy.write_bytes(lossless.read_bytes())
    same = {read_recording(file, 0, 10)[0].fingerprint for file in (lossless, copy)}
    assert same == {read_recording(lossless)[0].fingerprint}
    others = {
        read_recording(lossless, 1, 10)[0].fingerprint,
        read_recording(lossless, 0, 11)[0].fingerprint,
        read_recording(write_video(tmp_path / "short.mkv", moving(20), "FFV1"), 0, 10)[0].fingerprint,
    }
    assert len(same | others) == 4


def test_a_clip_can_be_sent_to_another_process(lossless: Path, tmp_path: Path) -> None:
    for source in (lossless, write_folder(tmp_path, moving(3))):
        clip, _ = read_recording(source)
        sent = pickle.loads(pickle.dumps(clip))
        np.testing.assert_array_equal(sent.frames[2], moving()[2])
        assert sent.fingerprint == clip.fingerprint


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_a_file_that_changes_after_it_was_opened_is_not_used(kind: str, tmp_path: Path) -> None:
    if kind == "video":
        source = write_video(tmp_path / "clip.mkv", moving(5), "FFV1")
        clip, _ = read_recording(source)
        write_video(source, moving(5)[::-1], "FFV1")
    else:
        source = write_folder(tmp_path / "clip", moving(5))
        clip, _ = read_recording(source)
        write_folder(source, moving(5)[::-1])
    assert clip.frames is not None
    np.testing.assert_array_equal(clip.frames[2], moving()[2])  # the middle one is as it was
    with pytest.raises(DataError, match="has changed since it was opened"):
        clip.frames[1]


@pytest.mark.parametrize("number", [-1, 21])
def test_there_is_no_frame_outside_the_clip(number: int, lossless: Path) -> None:
    clip, _ = read_recording(lossless)
    assert clip.frames is not None
    with pytest.raises(IndexError, match="has frames 0 to 20"):
        clip.frames[number]


# Mistakes


def test_a_source_that_does_not_exist_is_named(tmp_path: Path) -> None:
    assert mistakes(tmp_path / "none.mp4") == [f'"{tmp_path / "none.mp4"}": does not exist. Check the path.']
    assert mistakes("a\0b") == ['"a\0b": cannot be read, found embedded null byte. Check the path.']


@pytest.mark.parametrize("content", ["empty", "text", "no frames", "cut off"])
def test_a_video_without_frames_is_refused_quietly(
    content: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "clip.mp4"
    if content == "empty":
        path.write_bytes(b"")
    elif content == "text":
        path.write_text("this is no video\n")
    else:
        write_video(path, moving() if content == "cut off" else [], "mp4v")
        path.write_bytes(path.read_bytes()[: 600 if content == "cut off" else None])
    (message,) = mistakes(path)
    size = path.stat().st_size
    assert message == (
        f'"{path}": must be a video with frames that OpenCV can decode, found {size} bytes and no frame. Play it to '
        "see whether it is whole, or convert it to MP4 (H.264) or to a folder of PNG frames."
    )
    assert capfd.readouterr() == ("", "")  # neither OpenCV nor FFmpeg says anything of its own


def not_utf8(name: bytes, folder: Path) -> Path:
    """A path whose name some file systems refuse."""
    path = folder / os.fsdecode(name)
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    path.unlink()
    return path


def test_a_name_that_is_not_utf8_is_refused_in_a_message_that_can_be_printed(tmp_path: Path) -> None:
    video = not_utf8(b"lat\xe9in.mkv", tmp_path)
    write_video(tmp_path / "clip.mkv", moving(3), "FFV1").rename(video)
    folder = write_folder(tmp_path / "frames", moving(3)).rename(not_utf8(b"fr\xe9mes", tmp_path))
    for source in (video, str(video), folder):
        (message,) = mistakes(source)
        assert message.encode("utf-8").endswith(b": its name must be UTF-8. Rename it.")
        assert r"\udce9" in message
    (folder / "empty").mkdir()
    (message,) = mistakes(folder / "empty")
    assert "its name must be UTF-8" in message


def test_a_video_whose_place_is_not_utf8_is_refused_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = not_utf8(b"vid\xe9os", tmp_path)
    folder.mkdir()
    write_video(tmp_path / "clip.mkv", moving(3), "FFV1").rename(folder / "clip.mkv")
    (tmp_path / "link.mkv").symlink_to(folder / "clip.mkv")
    monkeypatch.chdir(folder)
    for source in (tmp_path / "link.mkv", "clip.mkv"):
        (message,) = mistakes(source)
        assert f'"{source}": a video\'s name and those of the folders above it must be UTF-8, found' in message
        assert message.isascii()


def test_images_whose_names_are_not_utf8_are_frames_and_messages_about_them_can_be_printed(tmp_path: Path) -> None:
    picture = not_utf8(b"fr\xe9me1.png", tmp_path)
    write_folder(tmp_path, moving(1)).joinpath("frame0.png").rename(picture)
    assert len(read_recording(tmp_path)[0].frames or ()) == 1
    picture.write_bytes(b"no image")
    (message,) = mistakes(tmp_path)
    assert r"fr\udce9me1.png" in message
    assert message.isascii()


PLAYLISTS = {
    "concatenation": b"ffconcat version 1.0\nfile clip.mkv\n",
    "concatenation and more": b"ffconcat version 1.0\nfile clip.mkv\n#\0\xff",
    "HLS": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1,\nclip.mkv\n#EXT-X-ENDLIST\n",
    "SDP amid bytes": b"\x01\nv=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n\0",
    "DASH": b'<?xml version="1.0"?>\n<MPD><BaseURL>clip.mkv</BaseURL></MPD>\n',
    "no zero byte": b"\x01" * 5000,
    "a long text": "Grüße: this is no video.\n".encode(),
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_list_of_other_files_is_no_video_whatever_its_name(kind: str, tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mkv", moving(3), "FFV1")
    path = tmp_path / "other.mp4"
    path.write_bytes(PLAYLISTS[kind])
    assert mistakes(path) == [
        f'"{path}": must be a video itself, found text, such as a playlist of other files. Give the video, or a folder '
        "of frames."
    ]


@pytest.mark.parametrize("ending", ["avi", "flv", "mkv", "mov", "mp4", "mpg", "nut", "ts", "webm", "wmv"])
def test_videos_of_every_usual_kind_are_videos(ending: str, tmp_path: Path) -> None:
    codecs = {"avi": "MJPG", "flv": "FLV1", "mkv": "FFV1", "nut": "FFV1", "webm": "VP80", "wmv": "WMV2"}
    path = write_video(tmp_path / f"clip.{ending}", moving(9), codecs.get(ending, "mpg1"), 25.0)
    assert len(read_recording(path)[0].frames or ()) == 9


def test_raw_frames_that_could_be_text_are_a_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.y4m"
    path.write_bytes(b"YUV4MPEG2 W32 H24 F25:1 Ip A1:1 Cmono\n" + (b"FRAME\n" + b"d" * 24 * 32) * 8)
    assert len(read_recording(path)[0].frames or ()) == 8


def test_a_video_that_becomes_a_list_is_not_opened_again(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mkv", moving(3), "FFV1")
    write_video(tmp_path / "same.mkv", moving(3), "FFV1")
    clip, _ = read_recording(path)
    path.write_bytes(b"ffconcat version 1.0\nfile same.mkv\n")
    assert clip.frames is not None
    with pytest.raises(DataError, match="must be a video itself"):
        clip.frames[1]


def test_what_is_neither_file_nor_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    assert mistakes(tmp_path / "clip.mp4") == [
        f'"{tmp_path / "clip.mp4"}": must be a file or a folder, found neither. Save the video as a file.'
    ]


def test_a_folder_that_may_be_listed_and_not_entered_is_refused_in_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path, moving(3))
    whole = Path.stat

    def refused(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.parent == tmp_path:  # root, who may run this, is never refused
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", refused)
    assert mistakes(tmp_path) == [f'"{tmp_path}": cannot be listed, found Permission denied. Check permissions.']


def test_a_link_to_nothing_is_no_frame(tmp_path: Path) -> None:
    write_folder(tmp_path, moving(3))
    (tmp_path / "frame9.png").symlink_to(tmp_path / "gone.png")
    assert len(images_of(tmp_path)) == 3


def test_a_video_that_ends_before_its_end_is_noted(tmp_path: Path) -> None:
    noise = list(np.random.default_rng(0).integers(0, 256, (21, 48, 64, 3), dtype=np.uint8))
    path = write_video(tmp_path / "clip.mkv", noise, "FFV1")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip, notes = read_recording(path)
    assert clip.frames is not None
    assert 5 < len(clip.frames) < 15
    assert notes[0] == f"the file announces 21 frames, of which {len(clip.frames)} can be decoded"


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (message,) = mistakes(tmp_path / "empty")
    assert "must hold images" in message
    assert "found an empty folder" in message
    write_folder(tmp_path / "subject" / "clip1", moving(2))
    (tmp_path / "subject" / "notes.txt").write_text("x")
    (message,) = mistakes(tmp_path / "subject")
    assert "found clip1, notes.txt. Give the folder that holds the frames themselves" in message


def test_frames_of_different_sizes_are_refused_together_with_what_cannot_be_decoded(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, moving(3))
    write_folder(tmp_path, moving(1, 24, 30), lambda _: "frame3.png")
    (folder / "frame4.png").write_bytes(b"no image")
    (folder / "frame5.png").write_bytes(b"")
    cv2.imwrite(str(folder / "frame6.png"), np.zeros((24, 32), np.uint16))
    assert mistakes(folder) == [
        f'"{folder / "frame4.png"}": cannot be decoded as an image, found 8 bytes. Copy it again.',
        f'"{folder / "frame5.png"}": cannot be decoded as an image, found 0 bytes. Copy it again.',
        f'"{folder / "frame6.png"}": must have 8 bits per channel, found 16. Convert it to 8 bits, all frames of a '
        "clip alike.",
        f'"{folder}": all frames must be of one size, found 24 x 32 pixels (frame0.png) and 24 x 30 (frame3.png). '
        "Crop all frames alike.",
    ]


@pytest.mark.parametrize(("one", "other"), [("1.png", "01.png"), ("frame1.png", "frame1.jpg")])
def test_images_whose_order_cannot_be_told_are_refused(one: str, other: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, moving(1), lambda _: one)
    write_folder(tmp_path, moving(1), lambda _: other)
    (message,) = mistakes(folder)
    assert "the order of its images must be told by their names, found " in message
    assert one in message
    assert other in message


def test_onset_and_apex_outside_the_frames_are_told_at_once(lossless: Path) -> None:
    assert mistakes(lossless, -1, 21) == [
        f'"{lossless}", onset: must be a frame of the clip, 0 to 20, found -1. Frames are counted from 0.',
        f'"{lossless}", apex: must be a frame of the clip, 0 to 20, found 21. Frames are counted from 0.',
    ]
    assert mistakes(lossless, 9, 8) == [
        f'"{lossless}": the onset must not come after the apex, found onset 9 and apex 8. Give the earlier frame as '
        "onset."
    ]
