"""The report of a run, made again and compared: its page, its tables for papers, its audit and its calibration.

Everything is compared as text, with three exceptions, each of which an honest run needs:

- front.png and front.svg must be there and are not compared: their bytes are also a matter of matplotlib's version. The
  pictures inside the page are drawn by mernas alone and are compared like the rest of it.
- Temperatures are found by a search whose last digits depend on the processor and on SciPy. What follows from them,
  calibration.csv and one section of the page, may differ by as much as such digits show.
- The page names the version of mernas that made it, and other versions may word a report otherwise. What another one
  made and this one makes differently is not checked, and the run is then not said to hold.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import cast

import mernas
from mernas.search.finished import FinishedRun
from mernas.search.ledger import Ledger
from mernas.search.record import Record
from mernas.search.report.files import report_texts
from mernas.search.verify_check import Check, first_difference
from mernas.search.verify_figures import read_text
from mernas.space.errors import MernasError

REPORT_PROMISES = {
    "report.html": "every figure, word and drawing of the report follows from the ledger",
    "tables.md": "every table for a paper follows from the ledger",
    "tables.tex": "every table for a paper follows from the ledger",
    "audit.json": "every figure of the audit follows from the ledger",
    "calibration.csv": "every figure of the calibration follows from the ledger",
}
PICTURES = ("front.png", "front.svg")
TOLERANCE = 1e-6
"""How far figures that follow from a temperature may differ; it is found to some 1e-8."""
_MAKER = re.compile(r'<meta name="generator" content="mernas ([^"]*)">')
_NUMBER = re.compile(r"(\d*\.\d+)")


def compare_report(run: FinishedRun, needed: Collection[str]) -> list[Check]:
    """Compare every text of a run's report with the one made again.

    Args:
        run: The run.
        needed: Keys of the jobs without those of a full audit. While that goes on, the report is the one before it.
    """
    audited = run.ledger.about.get("audit") == "full"
    try:
        made = [report_texts(run)]
        if audited:
            made.append(report_texts(_without_audit(run, needed)))
    except (MernasError, LookupError, ValueError, TypeError, ArithmeticError) as error:
        checks = [Check(name, promise, skipped="it cannot be made again") for name, promise in REPORT_PROMISES.items()]
        checks[0].fail("report.html", f"{type(error).__name__}: {error}", "a report that can be made again")
        return checks
    page = read_text(run.folder / "report.html") or ""
    stated = _MAKER.search(page)
    maker = stated[1] if stated else mernas.__version__
    reason = ""
    if maker != mernas.__version__:
        reason = f"report.html is of mernas {maker}, this is {mernas.__version__}; `mernas report` makes all of it anew"
    elif audited and not _has_full_audit(made[0]):
        reason = "the full audit has not come to its end; repeat the search with --audit full, or use `mernas report`"
    return [_compared(run, name, made, maker, reason) for name in REPORT_PROMISES]


def _compared(run: FinishedRun, name: str, made: list[dict[str, bytes]], maker: str, reason: str) -> Check:
    check = Check(name, REPORT_PROMISES[name])
    found = read_text(run.folder / name)
    if found is None:
        check.skipped = "there is no such file"
        return check
    texts = [texts[name].decode() for texts in made]
    if name == "report.html":
        texts = [_made_by(maker, text) for text in texts]
    if any(_alike(name, found, text) for text in texts):
        check.checked += texts[0].count("\n")
    elif reason:
        check.skipped = reason
    else:
        check.checked += 1
        check.findings.append(first_difference(name, found, texts[0]))
    return check


def _without_audit(run: FinishedRun, needed: Collection[str]) -> FinishedRun:
    """The run as it was before its full audit."""
    ledger = replace(run.ledger, jobs=[])
    for job in run.ledger.jobs:
        if job.key.hash in needed:
            ledger.add(job)
    return replace(run, ledger=ledger, record=Record(run.plan, cast(Ledger, ledger)))


def _has_full_audit(texts: Mapping[str, bytes]) -> bool:
    return json.loads(texts["audit.json"])["loso_of_all_candidates_not_a_result"] is not None


def _made_by(version: str, page: str) -> str:
    """A page as if another version had made it; the two places where it says so."""
    own = f"mernas {mernas.__version__}"
    for place in ('content="{}">', "<footer>Made by {} from"):
        page = page.replace(place.format(own), place.format(f"mernas {version}"), 1)
    return page


def _alike(name: str, found: str, expected: str) -> bool:
    if found == expected:
        return True
    if name == "calibration.csv":
        return _alike_figures(found, expected)
    return name == "report.html" and _alike_pages(found, expected)


def _alike_figures(found: str, expected: str) -> bool:
    """Whether two tables differ in no more than the last digits of their figures, which end the lines."""
    tables = [list(csv.reader(io.StringIO(text, newline=""))) for text in (found, expected)]
    if [line[:-1] for line in tables[0]] != [line[:-1] for line in tables[1]]:
        return False
    return all(one[-1:] == other[-1:] or _near(one[-1], other[-1]) for one, other in zip(*tables, strict=True))


def _near(one: str, other: str) -> bool:
    try:
        return abs(float(one) - float(other)) <= TOLERANCE * max(1.0, abs(float(other)))
    except ValueError:
        return False


def _alike_pages(found: str, expected: str) -> bool:
    """Whether two pages differ only in the last place of decimals in the section of what follows from temperatures."""
    parts = [_parts(page) for page in (found, expected)]
    if (parts[0][0], parts[0][2]) != (parts[1][0], parts[1][2]):
        return False
    sections = [_NUMBER.split(part[1]) for part in parts]
    if len(sections[0]) != len(sections[1]):
        return False
    return all(one == other or _last_place(one, other) for one, other in zip(*sections, strict=True))


def _parts(page: str) -> tuple[str, str, str]:
    """What comes before the section on calibration, that, and what comes after."""
    before, begins, rest = page.partition('<section class="part" id="calibration"')
    section, ends, after = rest.partition("</section>")
    return before + begins, section, ends + after


def _last_place(one: str, other: str) -> bool:
    """Whether two decimals of equally many places differ by one in the last."""
    if not (_NUMBER.fullmatch(one) and _NUMBER.fullmatch(other)):
        return False
    places = [len(text.partition(".")[2]) for text in (one, other)]
    return places[0] == places[1] and abs(float(one) - float(other)) < 1.5 * 10.0 ** -places[0]
