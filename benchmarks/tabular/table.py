"""The table: one row per genotype with its answers, size and scores, in one parquet file; no image, label or name.

Columns are `number`, `half` (how it was drawn), `genotype` (hash), `parameters`, `uf1`, `uar`, `accuracy` (pooled over
the folds), `uf1_fold_K` and `seconds_fold_K` (processor time) for every fold, `failure` (empty, or what happened), and
an `answer.NAME` for every question NAME of the space that any of them was asked, null where it was not asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from mernas.evaluation.whole_file import write_whole
from mernas.space.genotype import Genotype
from mernas.space.parameters import Choices, Domain, Integer, Primitive
from mernas.space.suggestion import RecordedTrial
from mernas.space.tree import SearchSpace

ANSWER = "answer."
BUILD_FAILURE = "does not build"
FOLDS = 3
ABOUT = b"mernas table"
KINDS = {"number": "int64", "half": "str", "genotype": "str", "parameters": "Int64", "failure": "str"}
"""Types of the columns that are neither answers nor numbers."""
_NULLABLE = {
    pa.int64(): pd.Int64Dtype(),
    pa.float64(): pd.Float64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(),
}


@dataclass(frozen=True)
class Result:
    """What became of one genotype.

    Attributes:
        uf1, uar, accuracy: Of the predictions of all folds, pooled; NaN if it failed.
        uf1_folds: UF1 of each fold by itself; NaN if it failed.
        seconds: Processor time of each fold; NaN for one that was not run.
        failure: Empty, or what happened.
    """

    uf1: float
    uar: float
    accuracy: float
    uf1_folds: tuple[float, ...]
    seconds: tuple[float, ...]
    failure: str = ""


def failed(failure: str, seconds: Sequence[float] = ()) -> Result:
    """Return the result of a genotype that failed after so many folds."""
    nothing = (float("nan"),) * FOLDS
    took = (*seconds, *nothing)[:FOLDS]
    return Result(float("nan"), float("nan"), float("nan"), nothing, took, failure)


Entry = tuple[int, str, Genotype, int | None, Result]
"""Number, half, genotype, parameters and result."""


def make_frame(space: SearchSpace, entries: Sequence[Entry], about: Mapping[str, Any]) -> pd.DataFrame:
    """Return the table of some genotypes.

    Args:
        space: The space that they lie in.
        entries: The genotypes, in the order of their numbers.
        about: What was done, as plain data; it travels with the table.

    Raises:
        TypeError: If the choices of a question are of several types, which no column can hold.
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("number", "half", "genotype", "parameters")}
    columns |= {name: [] for name in ("uf1", "uar", "accuracy", "failure")}
    columns |= {f"{name}_fold_{fold}": [] for name in ("uf1", "seconds") for fold in range(FOLDS)}
    answers: list[dict[str, Primitive]] = []
    types: dict[str, str] = {}
    for number, half, genotype, parameters, result in entries:
        fixed = (number, half, genotype.hash, parameters, result.uf1, result.uar, result.accuracy, result.failure)
        for name, value in zip(columns, (*fixed, *result.uf1_folds, *result.seconds), strict=True):
            columns[name].append(value)
        located = space.locate(genotype)
        answers.append({name: value for name, (value, _) in located.items()})
        types |= {name: _column_type(name, domain) for name, (_, domain) in located.items()}
    series = {name: pd.Series(values, dtype=KINDS.get(name, "float64")) for name, values in columns.items()}
    for name in sorted(types):
        series[ANSWER + name] = pd.Series([row.get(name) for row in answers], dtype=types[name])
    frame = pd.DataFrame(series)
    frame.attrs.update(about)
    return frame


def write_table(path: Path, frame: pd.DataFrame) -> None:
    """Write a table, whole or not at all.

    Types are told by parquet alone, without the schemas that pandas and Arrow would add: with a column for every
    question, those would be the larger part of the file.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)

    def fill(file: IO[bytes]) -> None:
        options = {"compression": "zstd", "compression_level": 19, "write_statistics": False, "store_schema": False}
        with parquet.ParquetWriter(file, table.schema, **options) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({ABOUT: json.dumps(frame.attrs)})

    write_whole(path, fill)


def read_table(path: Path) -> pd.DataFrame:
    """Return a table with what is told about it in `attrs`."""
    frame: pd.DataFrame = parquet.read_table(path).to_pandas(types_mapper=_NULLABLE.get)
    fixed = {name: KINDS.get(name, "float64") for name in frame.columns if not name.startswith(ANSWER)}
    frame = frame.astype(fixed)
    frame.attrs = json.loads(parquet.read_metadata(path).metadata[ABOUT])
    return frame


def answers_of(frame: pd.DataFrame) -> list[dict[str, Primitive]]:
    """Return the answers of every row by question, without those to questions that it was not asked."""
    names = [name for name in frame.columns if name.startswith(ANSWER)]
    rows: list[dict[str, Primitive]] = [{} for _ in range(len(frame))]
    for name in names:
        column = frame[name]
        for row, (missing, value) in enumerate(zip(column.isna(), column.astype(object), strict=True)):
            if not missing:
                rows[row][name.removeprefix(ANSWER)] = value.item() if isinstance(value, np.generic) else value
    return rows


def genotypes_of(frame: pd.DataFrame, space: SearchSpace) -> list[Genotype]:
    """Return the genotype of every row, built again from its answers.

    Raises:
        SpaceError: If the space asks for what the table does not hold.
        ValueError: If a genotype is another one than the table says: a component has changed since.
    """
    built = [space.suggest(RecordedTrial(answers)) for answers in answers_of(frame)]
    changed = sum(genotype.hash != known for genotype, known in zip(built, frame["genotype"], strict=True))
    if changed:
        raise ValueError(f"{changed} of {len(built)} genotypes are others today: make the table again")
    return built


def targets_of(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Return pooled UF1 and the UF1 of each fold, (n, 1 + folds); NaN where a genotype failed."""
    names = ["uf1", *(f"uf1_fold_{fold}" for fold in range(FOLDS))]
    return frame[names].to_numpy(dtype=np.float64)


def _column_type(name: str, domain: Domain) -> str:
    if isinstance(domain, Choices):
        types = {type(value) for value in domain.values}
        if len(types) > 1:
            raise TypeError(f"{name} has choices of several types: {', '.join(map(str, domain.values))}")
        return {bool: "boolean", int: "Int64", float: "Float64", str: "string"}[types.pop()]
    return "Int64" if isinstance(domain, Integer) else "Float64"
