"""`mernas data`, and datasets by manifest wherever `--data` is taken."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import statistics
from collections import Counter
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mernas.cli import cli
from mernas.components.datasets.manifest_writing import write_clips
from mernas.components.datasets.synthetic import Synthetic
from mernas.evaluation.preparation import default_cache
from mernas.search.data_group import data_group
from mernas.search.named_data import named_data
from mernas.search.run import data_of, load_data, run_search
from mernas.space.errors import DataError

DOCS = Path(__file__).resolve().parents[2] / "docs"
SPACE = """
extends: full
keep: {input: [optical_flow], flow_estimator: [farneback, given], block: [convolution, residual], attention: none,
       readout: [average], cascade: none, head: [linear, mlp], fusion: [concatenation], preprocessing: none,
       augmentation: [flip, shift], training: [scratch], schedule: [constant, cosine], sampler: none, mixing: none,
       averaging: none, loss: [cross_entropy], auxiliary_loss: none, side_task: none}
set:
  input.optical_flow: {size: 14}
  training.scratch: {epochs: 1, batch: 64}
  pipeline.network: {streams: 1}
  stream.stream: {backbone: 1}
  block.convolution: {width: {low: 2, high: 4}, kernel: 3}
"""
SHOWN = {
    "list": "mernas data list",
    "synthesize": "mernas data synthesize --out videos --subjects 3 --clips 3 --videos",
    "check": "mernas data check clips/manifest.csv --json",
    "show": "mernas data show clips/manifest.csv s01/c02",
    "forget": "mernas data forget --yes",
}
"""Which of a command's examples is run."""


def mernas(*arguments: object, **how: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], **how)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `clips`, as `mernas data synthesize` writes them."""
    folder = tmp_path_factory.mktemp("home")
    done = mernas("data", "synthesize", "--out", folder / "clips", "--subjects", 3, "--clips", 3, "--seed", 1)
    assert done.exit_code == 0, done.output
    return folder


def written() -> Synthetic:
    return Synthetic(subjects=3, clips=3, seed=1, macro_subjects=0)


def test_every_data_command_has_an_example_that_is_run() -> None:
    assert set(SHOWN) == set(data_group.commands)


@pytest.mark.parametrize("command", SHOWN)
def test_the_example_of_a_data_command_runs(command: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helped = mernas("data", command, "--help")
    shown = [line.strip() for line in helped.output.partition("Examples:")[2].splitlines()]
    assert SHOWN[command] in shown
    monkeypatch.chdir(home)
    done = CliRunner().invoke(cli, shlex.split(SHOWN[command])[1:])
    assert done.exit_code == 0, done.output


def test_the_help_of_the_group_shows_commands_that_exist_with_options_that_exist() -> None:
    shown = [shlex.split(line) for line in mernas("data", "--help").output.splitlines() if "  mernas data" in line]
    assert shown
    for words in shown:
        command = data_group.commands[words[2]]
        known = {name for option in command.params if isinstance(option, click.Option) for name in option.opts}
        assert {word for word in words if word.startswith("--")} <= known


def test_what_was_written_loads_back_as_it_was(home: Path) -> None:
    data, back = written().load(), load_data(str(home / "clips" / "manifest.csv"))
    assert [clip.key for clip in back] == [clip.key for clip in data]
    assert back.subjects == data.subjects
    assert back.classes == data.classes
    assert back.labels.tolist() == data.labels.tolist()
    assert list(back.annotations["action_units"]) == list(data.annotations["action_units"])
    assert back.provides == data.provides - {"true flow", "source domain"}
    for clip, own in zip(data, back, strict=True):
        assert (own.onset, own.apex, own.offset, own.fps) == (clip.onset, clip.apex, clip.offset, clip.fps)
        assert len(own.frames) == len(clip.frames)
        for number in range(len(clip.frames)):
            np.testing.assert_array_equal(own.frames[number], clip.frames[number])
        np.testing.assert_array_equal(own.landmarks[clip.apex], clip.landmarks[clip.apex])


def test_videos_load_back_with_nearly_the_same_frames(tmp_path: Path) -> None:
    done = mernas("data", "synthesize", "--out", tmp_path / "v", "--subjects", 1, "--clips", 3, "--videos")
    assert done.exit_code == 0, done.output
    data = Synthetic(subjects=1, clips=3, macro_subjects=0).load()
    back = load_data(str(tmp_path / "v" / "manifest.csv"))
    assert [clip.key for clip in back] == [clip.key for clip in data]
    for clip, own in zip(data, back, strict=True):
        assert len(own.frames) == len(clip.frames)
        assert own.fps == clip.fps
        error = np.abs(own.frames[clip.apex].astype(float).mean(axis=2) - clip.frames[clip.apex])
        assert error.mean() < 8  # grey levels: MP4 loses some


def test_without_a_manifest_only_clips_are_written(tmp_path: Path) -> None:
    done = mernas("data", "synthesize", "--out", tmp_path / "c", "--subjects", 1, "--clips", 1, "--no-manifest")
    assert done.exit_code == 0, done.output
    assert [child.name for child in (tmp_path / "c").iterdir()] == ["synthetic"]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--subjects", 0], "must be a whole number in [1, 99]"),
        (["--seed", -1], "must be a whole number in [0, 2147483647]"),
    ],
)
def test_numbers_out_of_range_are_told(tmp_path: Path, arguments: list[object], part: str) -> None:
    refused = mernas("data", "synthesize", "--out", tmp_path / "c", *arguments)
    assert refused.exit_code == 2
    assert part in refused.stderr


def test_a_folder_with_something_in_it_is_left_alone(home: Path) -> None:
    before = sorted(home.rglob("*"))
    refused = mernas("data", "synthesize", "--out", home / "clips", "--subjects", 1, "--clips", 1)
    assert refused.exit_code == 2
    assert "must be a new or an empty folder" in refused.stderr
    assert sorted(home.rglob("*")) == before


def test_clips_without_frames_cannot_be_written(toy, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no frames"):
        write_clips(toy(subjects=1, clips=3), tmp_path / "c")


def test_check_counts_what_is_there(home: Path) -> None:
    done = mernas("data", "check", home / "clips" / "manifest.csv", "--json")
    facts = json.loads(done.stdout)
    data = written().load()
    emotions = Counter(data.annotations["emotion"])
    lengths = sorted(len(clip.frames) for clip in data)
    assert (facts["clips"], facts["subjects"]) == (9, 3)
    assert {name: own["clips"] for name, own in facts["classes"].items()} == emotions
    assert facts["frames"] == {"min": lengths[0], "median": statistics.median(lengths), "max": lengths[-1]}
    assert facts["clips_per_subject"] == {"min": 3, "median": 3, "max": 3}
    assert facts["fps"] == {"100": 9}
    assert facts["sizes"] == {"64 x 64": 9}
    assert facts["lacks"] == {}
    shown = mernas("data", "check", home / "clips" / "manifest.csv").stdout
    assert "9 of 3 subjects" in shown


def test_check_says_what_is_missing_and_in_how_many_clips(home: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((home / "clips" / "manifest.csv").read_text())))
    for row in rows:
        del row["offset"], row["landmarks"]
    rows[2]["apex"] = "N/A"
    write_rows(home / "clips" / "gaps.csv", rows)
    facts = json.loads(mernas("data", "check", home / "clips" / "gaps.csv", "--json").stdout)
    assert facts["lacks"] == {"offset": 9, "landmarks": 9, "apex": 1}
    assert facts["has"] == ["action units", "frame rate", "frames", "onset"]
    shown = mernas("data", "check", home / "clips" / "gaps.csv").stdout
    assert "apex, in 1 of 9 clips" in shown
    assert "offset, in every clip" in shown
    assert "apex: missing in 1 of 9 rows (line 4)" in shown


def test_check_tells_every_mistake_with_exit_code_2_and_no_traceback(home: Path) -> None:
    (home / "clips" / "wrong.csv").write_text("path,subject,emotion,apex\ngone,01,x,1\nsynthetic/s01/c01,,y,900\n")
    refused = mernas("data", "check", home / "clips" / "wrong.csv")
    told = [line for line in refused.stderr.splitlines() if line.startswith("mernas: wrong.csv, line ")]
    assert refused.exit_code == 2
    assert len(told) == 3
    assert "Traceback" not in refused.output


def test_check_tells_the_mistakes_in_several_data_at_once(home: Path) -> None:
    for name in ("one.csv", "two.csv"):
        (home / "clips" / name).write_text("path,subject,emotion\ngone,01,x\n")
    refused = mernas("data", "check", home / "clips" / "one.csv", "synthetc", home / "clips" / "two.csv")
    assert refused.exit_code == 2
    for part in ("mernas: one.csv, line 2", 'mernas: dataset "synthetc"', "mernas: two.csv, line 2"):
        assert part in refused.stderr, part


def test_a_path_alone_is_answered_with_how_to_write_it(tmp_path: Path) -> None:
    for name in ("clips.txt", "clips.tsv"):
        (tmp_path / name).write_text("path,subject,emotion\n")
        refused = mernas("data", "check", tmp_path / name)
        assert refused.exit_code == 2
        assert "must end in .csv" in refused.stderr
        assert f"manifest={tmp_path / name}." in refused.stderr
    refused = mernas("data", "check", tmp_path)
    assert refused.exit_code == 2
    assert f"flow-images={tmp_path}," in refused.stderr


def test_check_warns_of_what_a_search_will_refuse(tmp_path: Path) -> None:
    write_clips(Synthetic(subjects=2, clips=3, macro_subjects=0).load(), tmp_path / "c")
    facts = json.loads(mernas("data", "check", tmp_path / "c" / "manifest.csv", "--json").stdout)
    assert any("3 subjects or more; there are 2" in warning for warning in facts["warnings"])


def test_check_takes_maps_without_frames(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    from mernas.search.data_facts import facts_of

    facts = facts_of(toy(subjects=3, clips=3))
    assert facts["frames"] is None
    assert facts["sizes"] == {"14 x 14": 9}
    assert facts["lacks"] == {"frames": 9, "landmarks": 9, "action units": 9}


def test_list_names_every_dataset_as_data_takes_it() -> None:
    found = json.loads(mernas("data", "list", "--json").stdout)["datasets"]
    spelt = {entry["name"]: entry["data"] for entry in found}
    assert spelt["synthetic"] == "synthetic"
    assert spelt["flow-images"] == "flow-images=PATH"
    assert spelt["manifest"] == "FILE.csv"
    assert all(entry["summary"] for entry in found)
    assert "flow-images=PATH" in mernas("data", "list").stdout


def test_show_tells_the_facts_of_a_clip(home: Path) -> None:
    clip = next(clip for clip in written().load() if clip.key == "synthetic/s01/c02")
    done = mernas("data", "show", home / "clips" / "manifest.csv", "synthetic/s01/c02", "--json")
    facts = json.loads(done.stdout)
    assert (facts["onset"], facts["apex"], facts["offset"]) == (clip.onset, clip.apex, clip.offset)
    assert (facts["frames"], facts["size"], facts["fps"]) == (len(clip.frames), "64 x 64", 100.0)
    assert facts["seconds"] == pytest.approx(len(clip.frames) / 100)
    assert mernas("data", "show", home / "clips" / "manifest.csv").stdout.count("synthetic/s0") == 9


def test_show_asks_which_clip_where_a_name_is_not_enough_and_offers_the_nearest(home: Path) -> None:
    several = mernas("data", "show", home / "clips" / "manifest.csv", "c02")
    assert several.exit_code == 2
    assert "3 of that name: synthetic/s01/c02, synthetic/s02/c02, synthetic/s03/c02" in several.stderr
    unknown = mernas("data", "show", home / "clips" / "manifest.csv", "synthetic/s01/c20")
    assert unknown.exit_code == 2
    assert "synthetic/s01/c02" in unknown.stderr


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two prepared collections, and things of somebody else."""
    monkeypatch.setenv("MERNAS_CACHE", str(tmp_path / "cache"))
    recipe = default_cache() / ("ab" * 8)
    recipe.mkdir(parents=True)
    for name in ("01" * 8 + ".npy", "01" * 8 + ".json", "." + "02" * 8 + ".npy.x.part"):
        (recipe / name).write_bytes(b"x" * 1024)
    (default_cache() / "notes.txt").write_text("mine")
    (default_cache() / ("cd" * 8)).mkdir()
    (default_cache() / ("cd" * 8) / "thesis.npy").write_text("mine")
    return default_cache()


def test_forget_asks_and_leaves_everything_when_declined(cache: Path) -> None:
    before = sorted(cache.rglob("*"))
    declined = mernas("data", "forget", input="n\n")
    assert declined.exit_code == 1
    assert "3.0 KiB" in declined.stdout
    assert sorted(cache.rglob("*")) == before


@pytest.mark.parametrize("how", [{"input": "y\n"}, {}])
def test_forget_deletes_prepared_maps_and_nothing_else(cache: Path, how: dict[str, str]) -> None:
    done = mernas("data", "forget", *([] if how else ["--yes"]), **how)
    assert done.exit_code == 0, done.output
    assert "Deleted 3.0 KiB" in done.stdout
    left = [path.relative_to(cache).as_posix() for path in sorted(cache.rglob("*"))]
    assert left == ["cd" * 8, f"{'cd' * 8}/thesis.npy", "notes.txt"]
    assert "Nothing to delete" in mernas("data", "forget").stdout


def test_forget_follows_no_link(cache: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ("03" * 8 + ".npy")).write_text("mine")
    (cache / ("ef" * 8)).symlink_to(elsewhere, target_is_directory=True)
    assert mernas("data", "forget", "--yes").exit_code == 0
    assert (elsewhere / ("03" * 8 + ".npy")).exists()


def test_forget_deletes_what_the_preparation_made(home: Path) -> None:
    from mernas.evaluation.preparation import Recipe, prepare
    from mernas.space.genotype import parse_genotype

    text = "streams: [{input: {apex_frame: {size: 14}}}]\ntasks: [{emotion: {head: linear}}]\nloss: cross_entropy\n"
    (stream,) = parse_genotype(text).streams
    prepare(load_data(str(home / "clips" / "manifest.csv")).clips, Recipe(stream["input"]))
    assert list(default_cache().rglob("*.npy"))
    assert mernas("data", "forget", "--yes").exit_code == 0
    assert not [path for path in default_cache().rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("synthetic", ("synthetic", None)),
        ("flow-images=a/b", ("flow-images", "a/b")),
        ("flow-images=a.csv", ("flow-images", "a.csv")),
        ("manifest=a=b.csv", ("manifest", "a=b.csv")),
        ("clips.csv", ("manifest", "clips.csv")),
        ("x/Clips.CSV", ("manifest", "x/Clips.CSV")),
        ("x=1/clips.csv", ("manifest", "x=1/clips.csv")),
        ("synthetic=", ("synthetic", "")),
    ],
)
def test_a_path_that_ends_in_csv_is_a_manifest(text: str, named: tuple[str, str | None]) -> None:
    assert named_data(text) == named


def test_notes_of_a_loader_are_said(home: Path) -> None:
    (home / "clips" / "bare.csv").write_text("path;subject;emotion\nsynthetic/s01/c01;01;x\nsynthetic/s02/c01;02;y\n")
    said: list[str] = []
    load_data(str(home / "clips" / "bare.csv"), say=said.append)
    assert "bare, cells are separated by semicolons" in said
    assert "bare, onset: not given, so pipelines that need it are left out" in said


def test_a_search_of_a_manifest_runs_and_its_run_finds_the_data_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clips(Synthetic(subjects=4, clips=3, macro_subjects=0).load(), tmp_path / "c")
    (tmp_path / "space.yaml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    run_search(
        "c/manifest.csv", space=tmp_path / "space.yaml", trials=1, batch=1, groups=3, budgets="5k", max_params="5k",
        workers=1, out=tmp_path / "run", cache=tmp_path / "cache",
    )  # fmt: skip
    monkeypatch.chdir("/")
    found = data_of(tmp_path / "run")
    assert found is not None
    assert found.fingerprint == load_data(str(tmp_path / "c" / "manifest.csv")).fingerprint


def test_the_example_of_the_guide_is_as_the_guide_says(tmp_path: Path) -> None:
    text = (DOCS / "manifest.md").read_text(encoding="utf-8")
    (manifest,) = re.findall(r"^```csv\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    numbers = {"raw/01/EP02": range(46, 87), "raw/01/EP07": range(16, 52), "raw/02/long": range(50)}
    for folder, own in numbers.items():
        (tmp_path / folder).mkdir(parents=True)
        for number in own:
            cv2.imwrite(str(tmp_path / folder / f"img{number}.png"), np.full((8, 6), number, np.uint8))
    (tmp_path / "mine.csv").write_text(manifest)
    data = load_data(str(tmp_path / "mine.csv"))
    keys = [clip.key for clip in data]
    assert keys == ["mine/01/EP02", "mine/01/EP07", "mine/02/first", "mine/02/second"]
    assert all(f"`{name}`" in text for name in (*keys, *data.subjects))
    assert [clip.onset for clip in data] == [0, 0, 0, 31]
    assert [int(clip.frames[clip.apex][0, 0]) for clip in data] == [59, 24, 12, 40]
    assert data.provides == {"frames", "frame rate", "onset", "apex", "offset", "action units"}


def test_the_guide_names_every_column() -> None:
    from mernas.components.datasets.manifest_table import KNOWN
    from mernas.search.card_scores import GROUPINGS

    text = (DOCS / "manifest.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == set(KNOWN)
    told = set(re.findall(r"`([\w ]+)`", next(line for line in text.splitlines() if line.startswith("| any other"))))
    assert told <= set(GROUPINGS)


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
