"""What a report leaves in a run directory, and what `mernas report` does."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mernas.search.audit import make_audit
from mernas.search.calibrating import Calibration
from mernas.search.finished import FinishedRun, open_run
from mernas.search.out_file import check_out_file
from mernas.search.paper_tables import latex_tables, markdown_tables
from mernas.search.picture import draw_front
from mernas.search.report.page import calibrations, make_report, report_of
from mernas.search.results import write_bytes
from mernas.space.errors import MernasError, PlanError, Problem, raise_all

COMPARISON = Path("comparison.html")
PAGE = "report.html"
CALIBRATION = (
    "row", "measure", "target", "study", "value",
)  # fmt: skip
"""Columns of calibration.csv: one figure per line."""


def report_files(run: FinishedRun) -> dict[str, bytes]:
    """Return every file of the report of a run by its name; the same run gives the same bytes.

    They are report.html, tables.md, tables.tex, audit.json and calibration.csv, and front.png and front.svg, whose
    bytes are also a matter of matplotlib's version.

    Args:
        run: A finished run.
    """
    pictures = {"front.png": draw_front(run.plan, run.tables), "front.svg": draw_front(run.plan, run.tables, "svg")}
    return {**report_texts(run), **pictures}


def report_texts(run: FinishedRun) -> dict[str, bytes]:
    """Return the files of a report that are text by their names, without the pictures.

    Args:
        run: A finished run.
    """
    audit, calibrated = make_audit(run), calibrations(run)
    return {
        PAGE: report_of(run, audit, calibrated).encode(),
        "tables.md": markdown_tables(run.plan, run.tables).encode(),
        "tables.tex": latex_tables(run.plan, run.tables).encode(),
        "audit.json": (json.dumps(audit.plain(), indent=2, ensure_ascii=False) + "\n").encode(),
        "calibration.csv": calibration_table(calibrated).encode(),
    }


def report_command(runs: Sequence[str | Path], out: str | Path | None = None) -> tuple[Path, ...]:
    """Write the report of one run into its directory, or a comparison of several into one file.

    Args:
        runs: Run directories.
        out: For one run, where its HTML page goes instead of into its directory, which is then left alone; for several,
            the file of the comparison, by default `comparison.html` where the command is given.

    Returns:
        What was written.

    Raises:
        PlanError: If a directory holds no finished run, or one is given twice; with all that are wrong. Also if `out`
            is a file of a run or of a model, unless it is the report of the one run.
        DataError: If something cannot be written.

    Example:
        >>> report_command([])
        Traceback (most recent call last):
        mernas.space.errors.PlanError: report: needs at least one run directory.
    """
    opened = _opened([Path(run) for run in runs])
    if len(opened) == 1 and out is None:
        (run,) = opened
        files = report_files(run)
        for name, content in files.items():
            write_bytes(
                run.folder / name, content, "make it writable, or write the page elsewhere with --out FILE.html"
            )
        return tuple(run.folder / name for name in files)
    own = opened[0].folder / PAGE if len(opened) == 1 else None
    path = check_out_file(COMPARISON if out is None else out, allowed=own)
    write_bytes(path, make_report(opened).encode(), "choose another file with --out")
    return (path,)


def calibration_table(calibrated: Sequence[Calibration]) -> str:
    """Return calibration.csv: one figure per line, with what it is a figure of."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CALIBRATION)
    for one in calibrated:
        lines: list[tuple[str, float | str, str, float]] = [
            ("calibration error before", "", "", one.error_before),
            ("calibration error after", "", "", one.error_after),
            ("loss before", "", "", one.loss_before),
            ("loss after", "", "", one.loss_after),
            *(("temperature", "", study, value) for study, value in one.temperatures.items()),
        ]
        for part in one.abstention:
            lines += [("threshold", part.target, study, value) for study, value in part.thresholds.items()]
            lines += [
                ("coverage", part.target, "", part.coverage),
                ("accuracy", part.target, "", part.accuracy),
                ("uf1", part.target, "", part.uf1),
            ]
        writer.writerows(
            (one.row, measure, target, study, "" if math.isnan(value) else repr(float(value)))
            for measure, target, study, value in lines
        )
    return buffer.getvalue()


def _opened(folders: Sequence[Path]) -> list[FinishedRun]:
    if not folders:
        raise PlanError(Problem("report", "needs at least one run directory"))
    problems: list[Problem | str] = []
    opened: list[FinishedRun] = []
    seen: set[Any] = set()
    for folder in folders:
        if folder.resolve() in seen:
            problems.append(Problem(f"run directory {folder}", "is given twice", "", "name it once"))
            continue
        seen.add(folder.resolve())
        try:
            opened.append(open_run(folder))
        except MernasError as error:
            problems.extend(error.problems)
    raise_all(PlanError, problems)
    return opened
