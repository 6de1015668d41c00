"""The rows of a manifest: what every cell says, checked without opening any recording."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mernas.components.datasets.clip import NOT_POOLED, POOLED
from mernas.components.datasets.manifest_findings import Findings, lines, shortened
from mernas.components.datasets.manifest_table import KNOWN, REQUIRED, Row, Table
from mernas.space.errors import nearest

MOMENTS = ("onset", "apex", "offset")
"""The moments of a micro-expression in their order in time."""

NUMBERINGS = ("position", "name")
"""How frames are numbered: by their place, from 0, or by the last number in the names of their files."""

FASTEST = 1_000_000.0
"""Frames per second beyond which a number is a mistake."""


@dataclass(frozen=True)
class Entry:
    """What one row says; None or empty where it says nothing.

    Attributes:
        line: Its line in the manifest.
        path: The recording as the row names it.
        subject, emotion, clip, dataset: Texts.
        moments: Onset, apex and offset in the row's own numbering.
        by_name: Whether frames are numbered by the names of their files.
        fps: Frames per second.
        landmarks: The file of landmarks as the row names it.
        kept: The other columns.
    """

    line: int
    path: str
    subject: str
    emotion: str
    clip: str
    dataset: str
    moments: tuple[int | None, int | None, int | None]
    by_name: bool
    fps: float | None
    landmarks: str
    kept: dict[str, str]

    @property
    def key(self) -> str:
        """The key of the clip."""
        return f"{self.dataset}/{self.subject}/{self.clip}"


def read_rows(table: Table, dataset: str, findings: Findings) -> list[Entry]:
    """Return what the rows say, with an identifier for every clip; mistakes go into the findings.

    Args:
        table: The rows.
        dataset: The name of the dataset where a row gives none.
        findings: Where mistakes and notes go.
    """
    entries = _named([_entry(row, table.columns, dataset, findings) for row in table.rows])
    if dataset == POOLED and not all(row.cells.get("dataset") for row in table.rows):
        remedy = "rename the file, or name the dataset of every row in a column dataset"
        findings.mistake(None, "dataset", "pooled", NOT_POOLED, "the name of the file", remedy)
    _check_identifiers(entries, findings)
    _check_classes(entries, findings)
    _note_gaps(entries, table.columns, findings)
    _note_similar_subjects(entries, findings)
    return entries


def _entry(row: Row, columns: Sequence[str], dataset: str, findings: Findings) -> Entry:
    for name in REQUIRED:
        if name in columns and not row.cells[name]:
            findings.mistake(row.line, name, "gap", "must not be empty", "", "fill it in, or remove the row")
    for name in ("subject", "emotion", "clip", "dataset"):
        text = row.cells.get(name, "")
        if "/" in text and name != "emotion":
            findings.mistake(row.line, name, "slash", 'must not contain "/"', text, 'write "-" instead')
        if not text.isprintable():
            findings.mistake(row.line, name, "signs", "must be printable text on one line", text, "retype it")
    if row.cells.get("dataset") == POOLED:
        findings.mistake(row.line, "dataset", "pooled", NOT_POOLED, POOLED, "give the dataset another name")
    onset, apex, offset = (_whole(row, name, findings) for name in MOMENTS)
    _check_order(row.line, (onset, apex, offset), findings)
    numbering = row.cells.get("numbering", "").lower() or NUMBERINGS[0]
    if numbering not in NUMBERINGS:
        rule = f"must be {' or '.join(NUMBERINGS)}"
        findings.mistake(row.line, "numbering", "word", rule, numbering, nearest(numbering, NUMBERINGS))
    kept = {name: row.cells[name] for name in columns if name == "action_units" or name not in KNOWN}
    return Entry(
        line=row.line,
        path=row.cells.get("path", ""),
        subject=row.cells.get("subject", ""),
        emotion=row.cells.get("emotion", ""),
        clip=row.cells.get("clip", ""),
        dataset=row.cells.get("dataset", "") or dataset,
        moments=(onset, apex, offset),
        by_name=numbering == "name",
        fps=_rate(row, findings),
        landmarks=row.cells.get("landmarks", ""),
        kept=kept,
    )


def _whole(row: Row, name: str, findings: Findings) -> int | None:
    """A frame number; spreadsheets write whole numbers as 46.0 once a column has a gap."""
    text = row.cells.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,15}(\.0{1,9})?", text):
        remedy = "write digits, or nothing where it is not known"
        findings.mistake(row.line, name, "number", "must be a whole number, 0 or above", text, remedy)
        return None
    return int(text.partition(".")[0])


def _rate(row: Row, findings: Findings) -> float | None:
    text = row.cells.get("fps", "")
    if not text:
        return None
    rate = float(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) else 0.0
    if not 0 < rate <= FASTEST:
        remedy = "write frames per second with a point, such as 29.97, or nothing"
        findings.mistake(row.line, "fps", "number", "must be a number above 0", text, remedy)
        return None
    return rate


def _check_order(line: int, moments: tuple[int | None, ...], findings: Findings) -> None:
    known = [(name, number) for name, number in zip(MOMENTS, moments, strict=True) if number is not None]
    for (early, first), (late, second) in itertools.pairwise(known):
        if first > second:
            found = f"{early} {first} and {late} {second}"
            rule, remedy = f"the {early} must not come after the {late}", "check both numbers"
            findings.mistake(line, late, "order", rule, found, remedy)


def _named(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with an identifier each: the name of the recording, or more of its path where two would be equal."""
    named = list(entries)
    for derive in (_last_part, _whole_path, _path_and_onset):
        counts = Counter(entry.key for entry in named)
        for place, entry in enumerate(entries):
            if not entry.clip and (derive is _last_part or counts[named[place].key] > 1):
                named[place] = replace(entry, clip=derive(entry))
    return named


def _parts(entry: Entry) -> list[str]:
    """The folders and the name of a path, without the suffix of a file."""
    parts = [part for part in entry.path.replace("\\", "/").split("/") if part not in ("", ".", "..")] or ["clip"]
    # A folder may well be called `take.2`, so only what looks like the suffix of a file goes.
    stem = re.sub(r"\.[A-Za-z][A-Za-z0-9]{1,4}$", "", parts[-1])
    return [*parts[:-1], stem or parts[-1]]


def _last_part(entry: Entry) -> str:
    return _parts(entry)[-1]


def _whole_path(entry: Entry) -> str:
    return "-".join(_parts(entry))


def _path_and_onset(entry: Entry) -> str:
    onset = entry.moments[0]
    return _whole_path(entry) if onset is None else f"{_whole_path(entry)}-{onset}"


def _check_identifiers(entries: Sequence[Entry], findings: Findings) -> None:
    first: dict[str, int] = {}
    for entry in entries:
        if first.setdefault(entry.key, entry.line) != entry.line:
            rule = f"must be another clip than that of line {first[entry.key]}"
            remedy = "remove the row, or give the clips of one recording different names in the column clip"
            findings.mistake(entry.line, "clip", "twice", rule, entry.clip, remedy)


def _check_classes(entries: Sequence[Entry], findings: Findings) -> None:
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        if entry.emotion:
            spellings[entry.emotion.casefold()][entry.emotion] += 1
    for entry in entries:
        usual = spellings[entry.emotion.casefold()].most_common(1)[0][0] if entry.emotion else ""
        if entry.emotion != usual:
            rule = "must be written as in the other rows"
            findings.mistake(entry.line, "emotion", "case", rule, entry.emotion, f'write "{shortened(usual)}"')
    if len(spellings) == 1:
        (only,) = spellings.values()
        rule = "there must be at least two classes"
        findings.mistake(None, "emotion", "classes", rule, f"only {next(iter(only))}", "add clips of another class")


def _note_gaps(entries: Sequence[Entry], columns: Sequence[str], findings: Findings) -> None:
    """Notes on what some clips have and others lack, as a dataset offers only what all of them have."""
    for place, name in enumerate(MOMENTS):
        gaps = [entry.line for entry in entries if entry.moments[place] is None]
        if gaps and len(gaps) == len(entries):
            findings.notes.append(f"{name}: not given, so pipelines that need it are left out")
        elif gaps:
            where = f"missing in {len(gaps)} of {len(entries)} rows ({lines(gaps)})"
            findings.notes.append(f"{name}: {where}, so pipelines that need it are left out")
    if "landmarks" in columns:
        gaps = [entry.line for entry in entries if not entry.landmarks]
        if gaps:
            where = f"missing in {len(gaps)} of {len(entries)} rows ({lines(gaps)})"
            findings.notes.append(f"landmarks: {where}, so pipelines that need them are left out")
    still = [e.line for e in entries if e.moments[0] is not None and e.moments[0] == e.moments[1]]
    if still:
        findings.notes.append(f"apex: the same frame as the onset in {lines(still)}: nothing moves between them")


def _note_similar_subjects(entries: Sequence[Entry], findings: Findings) -> None:
    """Notes on subjects that may be one person, who must never be in training and test at once."""
    alike: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in entries:
        plain = re.sub(r"(?<![0-9])0+(?=[0-9])", "", entry.subject.casefold())
        alike[entry.dataset, re.sub(r"[\s_-]+", "", plain)].add(entry.subject)
    for names in alike.values():
        if len(names) > 1:
            listed = ", ".join(f'"{shortened(name)}"' for name in sorted(names))
            findings.notes.append(f"subject: {listed} count as different people; spell one person one way")
