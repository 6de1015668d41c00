"""The text of a manifest: bytes to rows of cells under known names, with the mistakes of the text itself."""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mernas.components.datasets.manifest_findings import Findings, lines, shortened

REQUIRED = ("path", "subject", "emotion")
"""Columns that every manifest has."""

OPTIONAL = (
    "clip", "dataset", "onset", "apex", "offset", "numbering", "fps", "action_units", "landmarks",
)  # fmt: skip
"""Columns that mean something where they occur."""

KNOWN = (*REQUIRED, *OPTIONAL)

KIN = {
    "path": ("file", "filename", "file_name", "video", "folder", "frames"),
    "subject": ("participant", "person", "subject_id", "sub", "sub_id", "id"),
    "emotion": ("label", "class", "estimated_emotion", "expression"),
    "clip": ("clip_id", "sample"),
    "onset": ("onset_frame", "onsetframe", "onsetf", "start"),
    "apex": ("apex_frame", "apexframe", "apexf", "peak"),
    "offset": ("offset_frame", "offsetframe", "offsetf", "end"),
    "fps": ("frame_rate", "framerate"),
    "action_units": ("au", "aus", "action_unit"),
}
"""What annotation files call these columns: named in messages, never taken by itself."""

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}

GAPS = frozenset({"", "-", "/", "?", "n/a", "na", "nan", "null", "#n/a"})
"""What stands in a cell that says nothing, in small letters."""


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        line: Its first line in the file, counted from 1.
        cells: Text by column; gaps are empty.
    """

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Table:
    """The rows of a manifest.

    Attributes:
        columns: Names of the columns, known ones as in `KNOWN`, others as they are written.
        rows: The rows that are not blank.
    """

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(content: bytes, findings: Findings) -> Table:
    r"""Return the rows of a manifest; what is wrong with the text goes into the findings.

    Everything is text. Cells lose the blanks around them. Rows without any text are left out.

    Args:
        content: The bytes of the file: UTF-8 with or without a mark, separated by commas, semicolons or tabs.
        findings: Where mistakes and notes go.

    Example:
        >>> table = read_table(b"path;Subject;emotion\nc1;01;N/A\n", Findings("clips.csv"))
        >>> table.columns, dict(table.rows[0].cells)
        (('path', 'subject', 'emotion'), {'path': 'c1', 'subject': '01', 'emotion': ''})
    """
    text = _decode(content, findings)
    if text is None:
        return Table((), ())
    separator = max(SEPARATORS, key=lambda sign: _recognised(text, sign))
    if separator != ",":
        findings.notes.append(f"cells are separated by {SEPARATORS[separator]}")
    records = list(_records(text, separator, findings))
    if not records:
        rule = "must have a line with the names of the columns"
        findings.mistake(None, "", "empty", rule, "an empty file", f"begin it with {','.join(REQUIRED)}")
        return Table((), ())
    (top, names), rest = records[0], records[1:]
    columns = _columns(top, names, findings)
    rows = [_row(line, cells, columns, top, findings) for line, cells in rest]
    if not rows:
        findings.mistake(None, "", "no rows", "must have a row for each clip", "none", "add the clips")
    unnamed = [row.line for row in rows if any(name == "" and cell for name, cell in row.cells.items())]
    if unnamed:
        findings.notes.append(f"a column without a name is left out; it holds something in {lines(unnamed)}")
    kept = tuple(name for name in dict.fromkeys(columns) if name)
    return Table(kept, tuple(rows))


def canonical(name: str) -> str:
    """Return a column's known name whatever its case, blanks and hyphens; another name as it is.

    Example:
        >>> canonical("Action Units"), canonical("Age group")
        ('action_units', 'Age group')
    """
    plain = re.sub(r"[\s_-]+", "_", name.strip().lower())
    return plain if plain in KNOWN else name.strip()


def likely(name: str) -> str | None:
    """Return the known column that somebody may have meant by another name, or None.

    Example:
        >>> likely("OnsetFrame"), likely("emotoin"), likely("sex")
        ('onset', 'emotion', None)
    """
    plain = re.sub(r"[\s_-]+", "_", name.strip().lower())
    kin = (known for known, others in KIN.items() if plain in others)
    return next(kin, None) or next(iter(difflib.get_close_matches(plain, KNOWN, n=1, cutoff=0.75)), None)


def _decode(content: bytes, findings: Findings) -> str | None:
    """The text, or None and a mistake."""
    rule, remedy = "must be text in UTF-8", 'save it again, in Excel as "CSV UTF-8"'
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        findings.mistake(None, "", "encoding", rule, "UTF-16", remedy)
        return None
    if content.startswith(b"PK\x03\x04"):
        findings.mistake(None, "", "encoding", rule, "a spreadsheet or an archive", remedy)
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        findings.mistake(line, "", "encoding", rule, f"the byte {content[error.start]:#04x}", remedy)
        return None
    if "\0" in text:
        findings.mistake(text.count("\n", 0, text.index("\0")) + 1, "", "encoding", rule, "a zero byte", remedy)
        return None
    return text


def _recognised(text: str, separator: str) -> int:
    """How many known columns a separator makes of the first line with text; a comma wins where they are equal."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    try:
        names = next(csv.reader([first], delimiter=separator), [])
    except csv.Error:
        return 0
    return sum(canonical(name) in KNOWN for name in names)


def _records(text: str, separator: str, findings: Findings) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of every record that has text; ends with a mistake where quotes are wrong."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    for _ in itertools.count():
        line = reader.line_num + 1
        try:
            cells = [_stripped(cell) for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            remedy = 'close every quotation mark, and write "" for one inside a quoted cell'
            findings.mistake(line, "", "quotes", "cannot be divided into cells", str(error), remedy)
            return
        if any(cells):
            yield line, cells


def _stripped(cell: str) -> str:
    """A cell without the blanks around it, also those of no width."""
    return cell.strip().strip("\ufeff\u200b").strip()


def _columns(line: int, names: list[str], findings: Findings) -> list[str]:
    """The names of the columns in their order, empty for those without one."""
    columns = [canonical(name) for name in names]
    for name in sorted({name for name in columns if name and columns.count(name) > 1}):
        findings.mistake(line, name, "twice", "must be the name of one column", "", "rename or remove the others")
    absent = [name for name in KNOWN if name not in columns]
    others = [name for name in dict.fromkeys(columns) if name and name not in KNOWN]
    for required in (name for name in REQUIRED if name in absent):
        meant = [name for name in others if likely(name) == required]
        remedy = f'rename the column "{shortened(meant[0])}"' if meant else "add it"
        found = ", ".join(filter(None, names))
        findings.mistake(line, required, "absent", "the column is missing", found, remedy)
    for name in others:
        known = likely(name)
        if known in OPTIONAL and known in absent:
            findings.notes.append(f'"{shortened(name)}" is kept as an annotation; if you meant {known}, call it so')
    if others:
        findings.notes.append(f"kept as annotations: {', '.join(map(shortened, others))}")
    return columns


def _row(line: int, cells: list[str], columns: list[str], top: int, findings: Findings) -> Row:
    """A row by column; absent cells at its end are gaps."""
    if any(cells[len(columns) :]):
        rule = f"must have no more cells than line {top}, which has {len(columns)}"
        remedy = "quote cells that hold the separator, or name the column"
        findings.mistake(line, "", "too many cells", rule, str(len(cells)), remedy)
    padded = [*cells, *[""] * len(columns)]
    found: dict[str, str] = {}
    for name, cell in zip(columns, padded, strict=False):
        found[name] = found.get(name) or ("" if cell.lower() in GAPS else cell)
    return Row(line, found)
