"""Verifying the report of a run: its texts are made again, and no honest report is called a forged one."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import mernas
from mernas.cli import cli
from mernas.search import verify_report
from mernas.search.finished import FinishedRun
from mernas.search.run import SearchResult
from mernas.search.verify import Verification, verify_run

TEXTS = ("report.html", "tables.md", "tables.tex", "audit.json", "calibration.csv")


@pytest.fixture
def run(finished: SearchResult, tmp_path: Path) -> Path:
    """A copy of a finished run, to tamper with."""
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def failed(found: Verification) -> dict[str, list[str]]:
    """What was found by the checks that failed, by name."""
    return {check.name: [str(one) for one in check.findings] for check in found.checks if check.findings}


def not_checked(found: Verification) -> dict[str, str]:
    """Why which checks were skipped."""
    return {check.name: check.skipped for check in found.checks if check.verdict == "not checked"}


def verify(folder: Path) -> Result:
    return CliRunner().invoke(cli, ["verify", str(folder)])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_figures_forged_in_every_text_of_the_report_are_caught_by_name(run: Path) -> None:
    assert verify_run(run).holds
    for name in TEXTS:
        text = (run / name).read_text(encoding="utf-8")
        figure = r"\d\.\d+" if name in ("audit.json", "calibration.csv") else r"\.\d{3}\b"
        forged = re.sub(figure, "0.999" if "+" in figure else ".999", text)
        assert forged != text
        (run / name).write_text(forged, encoding="utf-8")
    caught = failed(verify_run(run))
    assert caught.keys() == set(TEXTS)
    assert all(findings[0].startswith(f"{name} line ") for name, findings in caught.items())
    assert verify(run).exit_code == 1


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("report.html", "95% interval", "99% interval"),
        ("tables.md", "Nested", "nested"),
        ("tables.tex", "\\midrule", "\\hline"),
        ("audit.json", '"not_a_result"', '"result"'),
        ("calibration.csv", "loss after", "loss before"),
    ],
)
def test_one_word_changed_in_a_text_of_the_report_is_caught_there_alone(
    run: Path, name: str, old: str, new: str
) -> None:
    edit(run / name, old, new)
    assert list(failed(verify_run(run))) == [name]


def test_a_figure_of_a_drawing_in_the_page_is_caught(run: Path) -> None:
    """The page's drawings are made by mernas alone, whatever the version of a library."""
    text = (run / "report.html").read_text(encoding="utf-8")
    place = text.index("cx=", text.index('<section class="part" id="front"'))
    (run / "report.html").write_text(f"{text[:place]}cx='1'{text[place:]}", encoding="utf-8")
    assert list(failed(verify_run(run))) == ["report.html"]


@pytest.mark.parametrize("name", [*TEXTS, "front.png", "front.svg", "environment.txt"])
def test_every_missing_file_of_a_finished_run_is_told(run: Path, name: str) -> None:
    (run / name).unlink()
    found = verify_run(run)
    assert any(text.startswith(f"{name}: found no such file") for text in failed(found)["files"])
    assert not found.holds


def test_a_run_of_which_only_the_report_is_left_is_no_unfinished_one(run: Path) -> None:
    for path in run.glob("*.csv"):
        path.unlink()
    found = verify_run(run)
    assert found.finished
    assert not found.holds


def test_pictures_made_by_another_matplotlib_hold(run: Path) -> None:
    for name in ("front.png", "front.svg"):
        (run / name).write_bytes(b"drawn otherwise")
    assert verify_run(run).holds


def test_last_digits_of_a_temperature_are_a_matter_of_the_machine(run: Path) -> None:
    path = run / "calibration.csv"
    lines = path.read_text(encoding="utf-8").split("\n")
    place = next(number for number, line in enumerate(lines) if ",temperature," in line)
    start, _, value = lines[place].rpartition(",")
    path.write_text("\n".join([*lines[:place], f"{start},{float(value) + 3e-8!r}", *lines[place + 1 :]]))
    assert verify_run(run).holds
    path.write_text("\n".join([*lines[:place], f"{start},{float(value) + 1e-3!r}", *lines[place + 1 :]]))
    caught = failed(verify_run(run))
    assert list(caught) == ["calibration.csv"]
    assert caught["calibration.csv"][0].startswith(f"calibration.csv line {place + 1}: found")


@pytest.mark.parametrize(("step", "holds"), [(1, True), (-1, True), (2, False)])
def test_the_last_place_of_a_decimal_is_let_go_in_the_section_on_calibration_only(
    run: Path, step: int, holds: bool
) -> None:
    path = run / "report.html"
    text = path.read_text(encoding="utf-8")

    def moved(section: str) -> str:
        start = text.index(f'<section class="part" id="{section}"')
        cell = re.compile(r"<td[^>]*>1?\.(\d{3})</td>").search(text, start)
        assert cell is not None
        number = int(cell[1])
        new = f"{number + step if 2 < number < 997 else number - step:03}"
        return text[: cell.start(1)] + new + text[cell.end(1) :]

    path.write_text(moved("calibration"), encoding="utf-8")
    assert verify_run(run).holds == holds
    path.write_text(moved("audit"), encoding="utf-8")
    assert list(failed(verify_run(run))) == ["report.html"]


def test_a_report_of_another_version_that_words_it_alike_holds(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mernas, "__version__", "7.5.0")
    assert "mernas 7.5.0" not in (run / "report.html").read_text(encoding="utf-8")
    found = verify_run(run)
    assert found.holds, failed(found)


def test_a_report_of_another_version_that_words_it_otherwise_is_neither_forged_nor_holds(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = verify_report.report_texts

    def otherwise(of: FinishedRun) -> dict[str, bytes]:
        texts = made(of)
        return {**texts, "report.html": texts["report.html"].replace(b"95% interval", b"interval (95%)")}

    version = mernas.__version__
    monkeypatch.setattr(verify_report, "report_texts", otherwise)
    assert list(failed(verify_run(run))) == ["report.html"]
    monkeypatch.setattr(mernas, "__version__", "7.5.0")
    found = verify_run(run)
    assert failed(found) == {}
    assert not_checked(found) == {
        "report.html": f"report.html is of mernas {version}, this is 7.5.0; `mernas report` makes all of it anew"
    }
    assert not found.holds
    shown = verify(run)
    assert shown.exit_code == 1
    assert shown.output.endswith("Nothing is wrong so far, but 1 of 24 checks could not be made.\n")


def test_a_forged_report_does_not_hold_because_it_names_another_version(run: Path) -> None:
    edit(run / "report.html", f'content="mernas {mernas.__version__}"', 'content="mernas 0.0.9"')
    edit(run / "audit.json", '"nested_uf1": 0', '"nested_uf1": 0.9')
    found = verify_run(run)
    assert not found.holds
    assert not_checked(found).keys() == {"report.html", "audit.json"}


def audit_begun(folder: Path, finished: SearchResult) -> None:
    """As after a kill in a full audit: it is on record, and so is one job of a candidate that nobody chose."""
    tested = set(finished.tables.predictions["genotype"])
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as database, database:
        database.execute("INSERT INTO about VALUES ('audit', 'full')")
        query = "SELECT genotype FROM draws WHERE state = 'accepted' AND study = 'final'"
        accepted = database.execute(query).fetchall()
        other = next(genotype for (genotype,) in accepted if genotype not in tested)
        query = "SELECT key, left_out, numeric_path FROM jobs WHERE json_array_length(left_out) = 1 LIMIT 1"
        key, left_out, path = database.execute(query).fetchone()
        text = json.dumps([other, json.loads(left_out), 0, path])
        forged = hashlib.sha256(text.encode()).hexdigest()[:16]
        names = "left_out, 0, numeric_path, read, rows, NULL, NULL, 'crash: made up', 1.0, started, host, attempts"
        database.execute(f"INSERT INTO jobs SELECT ?, ?, {names} FROM jobs WHERE key = ?", (forged, other, key))


def test_the_report_of_a_run_whose_audit_was_killed_is_the_one_before_it(run: Path, finished: SearchResult) -> None:
    audit_begun(run, finished)
    found = verify_run(run)
    assert found.holds, failed(found)
    edit(run / "report.html", "95% interval", "99% interval")
    found = verify_run(run)
    assert not found.holds
    assert "the full audit has not come to its end" in not_checked(found)["report.html"]


def test_a_report_that_cannot_be_made_again_is_told_without_a_traceback(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(of: FinishedRun) -> dict[str, bytes]:
        raise ValueError("made up")

    monkeypatch.setattr(verify_report, "report_texts", broken)
    expected = "expected a report that can be made again"
    assert failed(verify_run(run)) == {"report.html": [f"report.html: found ValueError: made up, {expected}"]}
