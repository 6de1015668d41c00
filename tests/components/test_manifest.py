"""Manifests: one's own clips by a CSV file, written here; every mistake of every row in one message."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.manifest import Manifest
from mernas.space.errors import DataError, MernasError

HEAD = "path,subject,emotion"


def picture(number: int, shade: int = 0) -> NDArray[np.uint8]:
    """A grey frame, 8 x 6, different for every number and shade."""
    return (np.arange(48).reshape(8, 6) + 7 * number + 31 * shade).astype(np.uint8)


def put_frames(
    folder: Path, count: int = 5, shade: int = 0, first: int = 0, name: Callable[[int], str] = "img{}.png".format
) -> None:
    folder.mkdir(parents=True)
    for number in range(first, first + count):
        assert cv2.imwrite(str(folder / name(number)), picture(number, shade))


def put_video(path: Path, count: int = 5, fps: float = 50.0) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), fps, (6, 8))
    assert writer.isOpened()
    for number in range(count):
        writer.write(cv2.cvtColor(picture(number), cv2.COLOR_GRAY2BGR))
    writer.release()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the clips a, b and c, of five frames each, d with the numbers 46 to 50, and a video."""
    for shade, clip in enumerate("abc"):
        put_frames(tmp_path / clip, shade=shade)
    put_frames(tmp_path / "d", shade=3, first=46, name="006_{:05d}.png".format)
    put_video(tmp_path / "v.mkv")
    return tmp_path


def read(home: Path, *rows: str, name: str = "clips.csv", encoding: str = "utf-8") -> tuple[Dataset, list[str]]:
    (home / name).write_bytes("\n".join(rows).encode(encoding))
    return Manifest().read(home / name)


def mistakes(home: Path, *rows: str, **how: str) -> list[str]:
    with pytest.raises(DataError) as caught:
        read(home, *rows, **how)
    return [str(problem) for problem in caught.value.problems]


def test_a_row_becomes_a_clip_with_its_label_moments_and_frames(home: Path) -> None:
    data, _ = read(
        home, f"{HEAD},onset,apex,offset,fps,action_units,sex", "a,01,positive,0,2,4,200,6+12,female",
        "b,02,negative,1,3,3,,4+L10,male",
    )  # fmt: skip
    assert [clip.key for clip in data] == ["clips/01/a", "clips/02/b"]
    assert data.subjects == ("clips/01", "clips/02")
    assert list(data.annotations["emotion"]) == ["positive", "negative"]
    assert list(data.annotations["sex"]) == ["female", "male"]
    assert data.classes == ("negative", "positive")
    assert data.name == "clips"
    first = data.clips[0]
    assert (first.onset, first.apex, first.offset, first.fps) == (0, 2, 4, 200.0)
    assert data.clips[1].fps is None
    assert data.provides == {"frames", "onset", "apex", "offset", "action units"}
    for number in range(5):
        np.testing.assert_array_equal(data.clips[1].frames[number], picture(number, shade=1))


def test_order_of_rows_changes_nothing(home: Path) -> None:
    rows = ["a,01,positive", "b,02,negative", "c,02,positive"]
    first, second = (read(home, HEAD, *order)[0] for order in (rows, rows[::-1]))
    assert first.fingerprint == second.fingerprint
    assert first.label_fingerprint == second.label_fingerprint


def test_no_dataset_may_be_called_as_scores_call_all_of_them_together(home: Path) -> None:
    rule = 'must not be "all", which tables of scores say of all datasets together'
    rows = (f"{HEAD},dataset", "a,01,x,all", "b,02,y,mine", "c,03,x,all")
    assert mistakes(home, *rows) == [
        f"clips.csv, line {line}, dataset: {rule}, found all. Give the dataset another name." for line in (2, 4)
    ]
    remedy = "Rename the file, or name the dataset of every row in a column dataset."
    for unnamed in ((HEAD, "a,01,x", "b,02,y"), (f"{HEAD},dataset", "a,01,x,", "b,02,y,mine")):
        (message,) = mistakes(home, *unnamed, name="all.csv")
        assert message == f"all.csv, dataset: {rule}, found the name of the file. {remedy}"
    data, _ = read(home, f"{HEAD},dataset", "a,01,x,mine", "b,02,y,All", name="all.csv")
    assert {clip.dataset for clip in data} == {"mine", "All"}


def test_identifiers_stay_text(home: Path) -> None:
    data, _ = read(home, f"{HEAD},clip,age", "a,006,positive,0010,07", "b,1e5,negative,2.0,8")
    assert [clip.key for clip in data] == ["clips/006/0010", "clips/1e5/2.0"]
    assert list(data.annotations["age"]) == ["07", "8"]


def test_a_video_gives_its_frames_and_rate_and_a_row_may_overrule_the_rate(home: Path) -> None:
    data, _ = read(home, f"{HEAD},clip,fps,apex", "v.mkv,01,positive,x,,1", "v.mkv,01,negative,y,200,3")
    assert [clip.fps for clip in data] == [50.0, 200.0]
    assert data.clips[0].frames is data.clips[1].frames  # opened once
    np.testing.assert_array_equal(data.clips[0].frames[3][:, :, 0], picture(3))


@pytest.mark.parametrize(
    ("rows", "provides"),
    [
        ([f"{HEAD},onset,apex", "a,01,x,0,1", "b,02,y,0,1"], {"frames", "onset", "apex"}),
        ([f"{HEAD},onset,apex", "a,01,x,0,", "b,02,y,0,1"], {"frames", "onset"}),
        ([f"{HEAD},onset,apex", "a,01,x,N/A,-", "b,02,y,/,nan"], {"frames"}),
        ([f"{HEAD},fps", "a,01,x,50", "v.mkv,02,y,"], {"frames", "frame rate"}),
        ([f"{HEAD},fps", "a,01,x,", "v.mkv,02,y,50"], {"frames"}),
        ([f"{HEAD},action_units", "a,01,x,0", "b,02,y,12"], {"frames", "action units"}),
        ([f"{HEAD},action_units", "a,01,x,?", "b,02,y,12"], {"frames"}),
    ],
)
def test_a_dataset_offers_what_every_clip_has(home: Path, rows: list[str], provides: set[str]) -> None:
    assert read(home, *rows)[0].provides == provides


def test_what_is_missing_is_said_and_not_made_up(home: Path) -> None:
    data, notes = read(home, f"{HEAD},apex,offset", "a,01,x,1,4", "b,02,y,2,")
    assert [(clip.onset, clip.apex, clip.offset) for clip in data] == [(None, 1, 4), (None, 2, None)]
    assert [note for note in notes if note.startswith("onset: not given")]
    assert [note for note in notes if note.startswith("offset: missing in 1 of 2 rows (line 3)")]
    assert not [note for note in notes if note.startswith("apex")]
    assert [note for note in notes if note.startswith("fps: not known in 2 of 2 rows (lines 2, 3)")]


def test_frames_can_be_numbered_by_the_last_number_in_the_names_of_their_files(home: Path) -> None:
    data, _ = read(home, f"{HEAD},onset,apex,offset,numbering", "d,006,x,46,48,50,name", "a,01,y,0,1,2,position")
    assert [clip.key for clip in data] == ["clips/006/d", "clips/01/a"]
    assert [(clip.onset, clip.apex, clip.offset) for clip in data] == [(0, 2, 4), (0, 1, 2)]
    np.testing.assert_array_equal(data.clips[0].frames[2], picture(48, shade=3))


def test_numbers_by_name_that_name_no_image_are_told_with_those_there_are(home: Path) -> None:
    told = mistakes(home, f"{HEAD},apex,numbering", "d,006,x,45,name", "v.mkv,01,y,1,name", "a,02,x,0,names")
    assert "line 2, apex: must be the number of an image of the folder, 46 to 50, found 45" in told[0]
    assert "line 3, numbering: name is for folders of images, found a video" in told[1]
    assert 'line 4, numbering: must be position or name, found names. Did you mean "name"?' in told[2]


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["1_a.png", "2_a.png", "x.png"], "a number in the name of every image, found x.png"),
        (["a1.png", "b1.png"], "another last number in the name of every image, found a1.png and b1.png"),
        (["a2.png", "b1.png"], "in the order of their names"),
    ],
)
def test_names_without_one_number_each_in_order_are_refused(home: Path, names: list[str], part: str) -> None:
    (home / "e").mkdir()
    for number, name in enumerate(names):
        cv2.imwrite(str(home / "e" / name), picture(number))
    (told,) = mistakes(home, f"{HEAD},apex,numbering", "e,01,x,1,name", "a,02,y,0,")
    assert part in told


def test_every_mistake_of_every_row_is_told_at_once(home: Path) -> None:
    (home / "broken.mp4").write_bytes(b"\x00\x01 no video \xff" * 50)
    (home / "empty").mkdir()
    told = mistakes(
        home,
        f"{HEAD},clip,onset,apex,offset,fps,dataset",
        "a,01,x,one,3,1,4,,",  # 2: out of order
        "gone,01,x,two,0,1,2,,",  # 3: not there
        "b,,y,three,0,1,2,,",  # 4: no subject
        "b,02,N/A,four,0,1,2,,",  # 5: no emotion
        "b,02,y,five,0,1,5,,",  # 6: outside
        "c,01,x,one,0,1,2,,",  # 7: the clip of line 2
        "broken.mp4,01,x,seven,,,,,",  # 8
        "empty,01,x,eight,,,,,",  # 9
        "c,01,x,nine,first,1,2,29,",  # 10: no number
        'c,01,x,ten,0,1,2,"29,97",',  # 11: no number
        "c,01,x,a/b,0,1,2,,me/CAS",  # 12: slashes
        ",01,x,twelve,0,1,2,,",  # 13: no path
        "c,01,X,thirteen,0,1,2,,",  # 14: another spelling
        "c,01,x,fourteen,-3,1,2,0,",  # 15: below 0, rate 0
    )
    expected = [
        ("line 2, apex", "the onset must not come after the apex, found onset 3 and apex 1"),
        ("line 3, path", "does not exist"),
        ("line 4, subject", "must not be empty"),
        ("line 5, emotion", "must not be empty"),
        ("line 6, offset", "must be a frame of the clip, 0 to 4, found 5. Frames are counted from 0"),
        ("line 7, clip", "must be another clip than that of line 2"),
        ("line 8, path", "must be a video with frames that OpenCV can decode"),
        ("line 9, path", "must hold images"),
        ("line 10, onset", "must be a whole number, 0 or above, found first"),
        ("line 11, fps", "must be a number above 0, found 29,97"),
        ("line 12, clip", 'must not contain "/", found a/b'),
        ("line 12, dataset", 'must not contain "/", found me/CAS'),
        ("line 13, path", "must not be empty"),
        ("line 14, emotion", 'must be written as in the other rows, found X. Write "x"'),
        ("line 15, fps", "must be a number above 0, found 0"),
        ("line 15, onset", "must be a whole number, 0 or above, found -3"),
    ]
    assert len(told) == len(expected)
    for (place, rule), message in zip(expected, sorted(told, key=_line), strict=True):
        assert message.startswith(f"clips.csv, {place}"), message
        assert rule in message


def _line(message: str) -> tuple[int, str]:
    place = message.split(", ")
    return int(place[1].removeprefix("line ")), place[2]


def test_a_flood_is_cut_by_kind_and_says_how_many_more(home: Path) -> None:
    told = mistakes(home, f"{HEAD},apex", *[f"gone{number},01,x,1" for number in range(40)], "a,01,y,9", "b,,y,1")
    assert sum("does not exist" in message for message in told) == 5
    assert any("clips.csv, path: 35 more like that of line 2. Look at lines 7, 8" in message for message in told)
    assert any("line 42, apex" in message for message in told)
    assert any("line 43, subject" in message for message in told)


def test_absent_columns_are_told_with_the_likely_ones(home: Path) -> None:
    told = mistakes(home, "Filename,Participant,Estimated Emotion,fps", "a,01,x,fast")
    assert "line 1, path: the column is missing, found Filename, Participant, Estimated Emotion, fps. Rename" in told[0]
    assert '"Filename"' in told[0]
    assert '"Participant"' in told[1]
    assert '"Estimated Emotion"' in told[2]
    assert "line 2, fps" in told[3]


def test_names_of_columns_may_differ_in_case_and_blanks(home: Path) -> None:
    data, _ = read(home, "Path, SUBJECT ,Emotion,Action Units,Age-Group", "a,01,x,4,old", "b,02,y,12,young")
    assert list(data.annotations.columns) == ["emotion", "dataset", "action_units", "Age-Group"]


def test_other_columns_are_kept_and_what_looks_like_a_known_one_is_said(home: Path) -> None:
    data, notes = read(home, f"{HEAD},OnsetFrame,ethnicity", "a,01,x,1,n/a", "b,02,y,2,E")
    assert list(data.annotations["OnsetFrame"]) == ["1", "2"]
    assert list(data.annotations["ethnicity"]) == ["", "E"]
    assert data.clips[0].onset is None
    assert '"OnsetFrame" is kept as an annotation; if you meant onset, call it so' in notes
    assert "kept as annotations: OnsetFrame, ethnicity" in notes


def test_one_class_is_refused(home: Path) -> None:
    (told,) = mistakes(home, HEAD, "a,01,x", "b,02,x")
    assert told == "clips.csv, emotion: there must be at least two classes, found only x. Add clips of another class."


def test_two_columns_of_one_name_are_refused(home: Path) -> None:
    assert any("must be the name of one column" in told for told in mistakes(home, f"{HEAD},Subject", "a,1,x,2"))


def test_more_cells_than_columns_are_refused_and_fewer_are_gaps(home: Path) -> None:
    (told,) = mistakes(home, f"{HEAD},onset", "a,01,x,1", "b,02,y,0,3")
    assert "line 3: must have no more cells than line 1, which has 4, found 5" in told
    data, _ = read(home, f"{HEAD},onset", "a,01,x,1", "b,02,y", "", ",,,", "c,02,y,0,,,")
    assert [clip.onset for clip in data] == [1, None, 0]


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_are_seen_and_said(home: Path, separator: str, name: str) -> None:
    rows = [f"{HEAD},apex", "a,01,x,1", "b,02,y,2"]
    data, notes = read(home, *[row.replace(",", separator) for row in rows])
    assert [clip.apex for clip in data] == [1, 2]
    assert f"cells are separated by {name}" in notes


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_marks_and_line_ends_of_any_system_are_taken(home: Path, ending: str) -> None:
    text = ending.join([HEAD, "a,J\u00fcrgen,x", "b,02,y", ""])
    (home / "clips.csv").write_bytes(text.encode("utf-8-sig"))
    assert Manifest().load(home / "clips.csv").subjects == ("clips/02", "clips/J\u00fcrgen")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (f"{HEAD}\na,J\u00fcrgen,x\n".encode("latin-1"), "line 2: must be text in UTF-8, found the byte 0xfc"),
        (f"{HEAD}\na,01,x\n".encode("utf-16"), "must be text in UTF-8, found UTF-16"),
        (b"PK\x03\x04rest of a spreadsheet", "must be text in UTF-8, found a spreadsheet"),
        (f"{HEAD}\na\0,01,x\n".encode(), "line 2: must be text in UTF-8, found a zero byte"),
        (b"", "must have a line with the names of the columns, found an empty file"),
        (b"\xef\xbb\xbf\n\n", "must have a line with the names of the columns"),
        (f"{HEAD}\n".encode(), "must have a row for each clip, found none"),
        (f'{HEAD}\na,"01,x\nb,02,y\n'.encode(), "line 2: cannot be divided into cells"),
    ],
)
def test_a_text_that_cannot_be_read_is_told(home: Path, content: bytes, part: str) -> None:
    (home / "clips.csv").write_bytes(content)
    with pytest.raises(DataError) as caught:
        Manifest().load(home / "clips.csv")
    assert part in str(caught.value)


def test_lines_are_those_of_the_file_even_after_a_quoted_line_end(home: Path) -> None:
    told = mistakes(home, f"{HEAD},notes", 'a,01,x,"two', 'lines"', "", "gone,02,y,")
    assert told[0].startswith("clips.csv, line 5, path")


def test_a_manifest_that_is_no_file_is_told(tmp_path: Path) -> None:
    for place, part in ((tmp_path / "gone.csv", "does not exist"), (tmp_path, "must be a CSV file, found a folder")):
        with pytest.raises(DataError, match=part):
            Manifest().load(place)


def test_default_names_of_clips_are_short_where_they_can_be_and_never_equal(home: Path) -> None:
    for shade, place in enumerate(("s1/happy/1", "s1/sad/1", "s2/happy/1", "take.2"), start=4):
        put_frames(home / place, shade=shade)
    data, _ = read(
        home, f"{HEAD},onset", "s1/happy/1,01,x,", "s1/sad/1,01,y,", "s2/happy/1,02,x,", "v.mkv,03,x,0", "v.mkv,03,y,2",
        "take.2,04,x,",
    )  # fmt: skip
    keys = {clip.key.removeprefix("clips/") for clip in data}
    assert keys == {"01/s1-happy-1", "01/s1-sad-1", "02/1", "03/v-0", "03/v-2", "04/take.2"}


def test_the_same_recording_twice_without_a_name_is_told(home: Path) -> None:
    (told,) = mistakes(home, HEAD, "a,01,x", "a,01,x", "b,01,y")
    assert "line 3, clip: must be another clip than that of line 2, found a" in told


def test_subjects_of_several_datasets_are_told_apart(home: Path) -> None:
    data, _ = read(home, f"{HEAD},dataset", "a,01,x,one", "b,01,y,two", "c,01,y,")
    assert data.subjects == ("clips/01", "one/01", "two/01")


def test_one_clip_must_have_one_emotion_and_is_noted_when_it_counts_twice(home: Path) -> None:
    with pytest.raises(DataError) as error:
        read(home, f"{HEAD},clip,apex", "a,01,positive,x,2", "a,01,negative,y,2", "b,01,negative,,")
    (problem,) = error.value.problems
    assert str(problem).startswith("clips.csv, line 3, emotion: must be positive as in line 2, which is the same clip")
    data, notes = read(home, f"{HEAD},clip,apex", "a,01,positive,x,2", "a,01,positive,y,2", "a,01,negative,z,3")
    assert len(data) == 3
    assert "line 3: the clip of line 2 once more, so it counts twice" in notes
    assert not any("line 4" in note for note in notes)  # another apex is another clip


def test_one_recording_must_have_one_subject_whatever_its_file_and_moments(home: Path) -> None:
    put_frames(home / "copy of a", shade=0)
    with pytest.raises(DataError) as error:
        read(
            home,
            f"{HEAD},clip,apex",
            "a,01,positive,,2",
            "b,02,negative,,2",
            "copy of a,03,negative,,3",
            "a,01,positive,x,1",
        )
    (problem,) = error.value.problems
    assert str(problem).startswith(
        "clips.csv, line 4, subject: must be clips/01 as in line 2, whose frames are the same"
    )
    assert "found clips/03" in str(problem)


@pytest.mark.parametrize("pair", [("1", "01"), ("S1", "s01"), ("sub 3", "Sub-3")])
def test_subjects_that_may_be_one_person_are_noted(home: Path, pair: tuple[str, str]) -> None:
    _, notes = read(home, HEAD, f"a,{pair[0]},x", f"b,{pair[1]},y", "c,10,y")
    assert any(note.startswith("subject: ") and "count as different people" in note for note in notes)
    assert not any("10" in note for note in notes)


def test_an_apex_that_is_the_onset_is_noted(home: Path) -> None:
    _, notes = read(home, f"{HEAD},onset,apex", "a,01,x,2,2", "b,02,y,0,1")
    assert any("the same frame as the onset in line 2" in note for note in notes)


def test_numbers_as_spreadsheets_write_them_beside_a_gap_are_taken(home: Path) -> None:
    data, _ = read(home, f"{HEAD},onset,offset", "a,01,x,1.0,", "b,02,y,,3.00")
    assert (data.clips[0].onset, data.clips[1].offset) == (1, 3)


def test_paths_are_relative_to_the_manifest_or_absolute(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    data, _ = read(home, HEAD, "./a,01,x", f"{home / 'b'},02,y")
    assert [clip.key for clip in data] == ["clips/01/a", "clips/02/b"]


def test_backslashes_between_folders_are_told(home: Path) -> None:
    put_frames(home / "s1" / "x")
    if (home / r"s1\x").exists():
        pytest.skip("here they are right")
    (told,) = mistakes(home, HEAD, r"s1\x,01,x", "a,01,y")
    assert 'Write "/" between folders' in told


def landmarks(frames: int = 5) -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(0, 8, size=(frames, 68, 2)).astype(np.float32)


def put_table(path: Path, points: NDArray[np.float32]) -> None:
    """As OpenFace writes it: a blank after every comma, and columns that nobody asked for."""
    names = ["frame", *(f"x_{number}" for number in range(68)), *(f"y_{number}" for number in range(68)), "AU12_r"]
    rows = [[number, *frame[:, 0].tolist(), *frame[:, 1].tolist(), 0.5] for number, frame in enumerate(points)]
    path.write_text("\n".join(", ".join(map(str, row)) for row in [names, *rows]))


def test_landmarks_come_from_arrays_and_from_tables(home: Path) -> None:
    np.save(home / "a.npy", landmarks().astype(np.float64))
    put_table(home / "b-points.csv", landmarks() + 1)
    data, _ = read(home, f"{HEAD},landmarks", "a,01,x,a.npy", "b,02,y,b-points.csv")
    assert data.provides == {"frames", "landmarks"}
    first, second = (clip.landmarks for clip in data)
    np.testing.assert_array_equal(first[3], landmarks()[3])
    np.testing.assert_allclose(second[3], landmarks()[3] + 1, rtol=1e-6)
    assert first[0].dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        first[0][:] = 0


def test_wrong_landmarks_are_told(home: Path) -> None:
    np.save(home / "short.npy", landmarks(4))
    np.save(home / "shape.npy", landmarks()[:, :5])
    np.save(home / "relative.npy", landmarks() / 8)
    gap = landmarks()
    gap[2] = np.nan
    np.save(home / "gap.npy", gap)
    np.save(home / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (home / "no.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (home / "no.csv").write_text("x_0,y_0\n1,2\n")
    rows = ["short.npy", "shape.npy", "relative.npy", "gap.npy", "objects.npy", "no.npy", "no.csv", "gone.npy"]
    told = mistakes(
        home, f"{HEAD},landmarks,clip", *[f"{'ab'[n % 2]},01,{'xy'[n % 2]},{r},{n}" for n, r in enumerate(rows)]
    )
    parts = [
        "for each of the 5 frames, found the shape (4, 68, 2)",
        "found the shape (5, 5, 2)",
        "must be in pixels",
        "found others in frame 2",
        "must be a NumPy array (frames, 68, 2) in .npy, or a CSV file",
        "must be a NumPy array (frames, 68, 2) in .npy, or a CSV file",
        "no column x_1",
        "does not exist",
    ]
    assert len(told) == len(parts)
    for line, (part, message) in enumerate(zip(parts, told, strict=True), start=2):
        assert message.startswith(f"clips.csv, line {line}, landmarks")
        assert part in message


def test_the_fingerprint_is_of_contents_moments_and_landmarks_and_not_of_names(home: Path) -> None:
    head = f"{HEAD},apex,fps,landmarks,clip"
    np.save(home / "one.npy", landmarks())
    np.save(home / "two.npy", landmarks() + 1)
    put_frames(home / "again", shade=0, name="{:03d}.png".format)  # the pictures of a, by other names

    def fingerprint(row: str) -> str:
        data, _ = read(home, head, row, "c,99,y,1,,,")
        return data.clips[0].fingerprint

    usual = fingerprint("a,01,x,1,100,,k")
    assert fingerprint("again,02,z,1,100,,other") == usual
    others = [
        "a,01,x,2,100,,k",
        "a,01,x,1,200,,k",
        "b,01,x,1,100,,k",
        "a,01,x,1,100,one.npy,k",
        "a,01,x,1,100,two.npy,k",
    ]
    assert len({usual, *map(fingerprint, others)}) == 6


def test_frames_are_decoded_when_asked_for_and_a_change_on_disk_is_noticed(home: Path) -> None:
    data, _ = read(home, HEAD, "a,01,x", "b,02,y")
    assert len(pickle.dumps(data.clips[0])) < 20_000
    cv2.imwrite(str(home / "a" / "img1.png"), picture(99))
    np.testing.assert_array_equal(data.clips[0].frames[0], picture(0))
    with pytest.raises(DataError, match="has changed since it was opened"):
        data.clips[0].frames[1]


def test_a_clip_travels_to_another_process(home: Path) -> None:
    np.save(home / "a.npy", landmarks())
    data, _ = read(home, f"{HEAD},landmarks,apex", "a,01,x,a.npy,1", "v.mkv,02,y,a.npy,2")
    for clip, back in zip(data, pickle.loads(pickle.dumps(data.clips)), strict=True):
        np.testing.assert_array_equal(back.frames[2], clip.frames[2])
        np.testing.assert_array_equal(back.landmarks[4], landmarks()[4])


def test_an_image_that_says_it_is_enormous_is_told(home: Path) -> None:
    file = home / "a" / "img2.png"
    content = bytearray(file.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2  # width and height in the header of a PNG file
    file.write_bytes(bytes(content))
    (told,) = mistakes(home, HEAD, "a,01,x", "b,02,y")
    assert "line 2, path" in told
    assert "cannot be decoded" in told


CELLS = st.one_of(
    st.sampled_from(["a", "v.mkv", "gone", "", "01", "x", "X", "y", "0", "1", "4", "9", "-1", "1.0", "N/A", "name",
                     "a.npy", "4+L10", "\u00a0", '"', "..", ".", "a\x00b", "/", "~", "~nobody", "x" * 300]),
    st.text(max_size=6),
)  # fmt: skip
HEADS = st.lists(
    st.one_of(
        st.sampled_from(["path", "subject", "emotion", "onset", "apex", "offset", "numbering", "fps", "clip", "dataset",
                         "landmarks", "action_units", "sex", "Path", "emotoin", ""]),
        st.text(max_size=4),
    ),
    max_size=9,
)  # fmt: skip
MOMENTS = st.sampled_from(["", "0", "2", "4", "5", "x"])


@pytest.fixture(scope="module")
def small() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        put_frames(Path(folder, "a"))
        np.save(Path(folder, "a.npy"), landmarks())
        yield Path(folder)


@settings(max_examples=100, deadline=None)
@given(HEADS, st.lists(st.lists(CELLS, max_size=10), max_size=5), st.sampled_from(",;\t"), st.booleans())
def test_any_table_gives_a_dataset_or_an_error_of_mernas(
    small: Path, head: list[str], rows: list[list[str]], separator: str, quoted: bool
) -> None:
    check(small, written([head, *rows], separator, quoted))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS, MOMENTS, MOMENTS, MOMENTS), max_size=4), st.booleans())
def test_any_rows_below_a_right_head_give_a_dataset_or_an_error_of_mernas(
    small: Path, rows: list[tuple[str, ...]], by_name: bool
) -> None:
    head = ["path", "subject", "emotion", "numbering" if by_name else "clip", "onset", "apex", "offset"]
    sure = [["a", "s", emotion, "name" if by_name else emotion, "0", "", ""] for emotion in "pq"]
    check(small, written([head, *sure, *(["a", *row] for row in rows)], ",", quoted=True))


def written(rows: list[list[str]], separator: str, quoted: bool) -> bytes:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"' if quoted else text

    return "\n".join(separator.join(map(cell, row)) for row in rows).encode("utf-8", "surrogatepass")


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_give_a_dataset_or_an_error_of_mernas(small: Path, content: bytes) -> None:
    check(small, content)


def check(folder: Path, content: bytes) -> None:
    (folder / "any.csv").write_bytes(content)
    with suppress(MernasError):
        data = Manifest().load(folder / "any.csv")
        assert len(data) > 0
        assert len(data.classes) > 1
        return
    with pytest.raises(MernasError) as caught:
        Manifest().load(folder / "any.csv")
    assert caught.value.problems
    assert all(str(problem).isprintable() for problem in caught.value.problems)
