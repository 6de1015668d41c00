"""What is known so far, in one SQLite file that survives being killed: genotypes first, then a result for each.

A genotype's result is one transaction, synchronised to disk, so a kill costs at most what was under way and nothing is
trained twice. The file holds no label. One process uses it at a time; another one is refused until the first has ended.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tabular.drawing import Drawn
from tabular.table import Entry, Result

from mernas.space.genotype import Genotype, from_complete

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (protocol TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS genotypes (
    number INTEGER PRIMARY KEY, hash TEXT NOT NULL UNIQUE, half TEXT NOT NULL, parameters INTEGER,
    complete TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS results (number INTEGER PRIMARY KEY, result TEXT NOT NULL) STRICT;
"""


class Store:
    """Genotypes and their results.

    Args:
        path: The file; made if it does not exist.
        protocol: Whatever fixes the results, as text.

    Raises:
        ValueError: If the file belongs to another protocol.
        sqlite3.OperationalError: If another process uses it.
    """

    def __init__(self, path: Path, protocol: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(path, isolation_level=None, timeout=1.0)
        self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        known = self._database.execute("SELECT protocol FROM about").fetchall()
        if not known:
            self._database.execute("INSERT INTO about VALUES (?)", (protocol,))
        elif known[0][0] != protocol:
            self._database.close()
            raise ValueError(f"{path} belongs to another protocol: choose another file\n{known[0][0]}\n{protocol}")

    def close(self) -> None:
        """Close the file; the write-ahead log is folded into it."""
        self._database.close()

    def add_genotypes(self, drawn: Sequence[Drawn]) -> None:
        """Record genotypes, all in one transaction; known ones are left as they are."""
        rows = [
            (one.number, one.genotype.hash, one.half, one.parameters, json.dumps(one.genotype.complete()))
            for one in drawn
        ]
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR IGNORE INTO genotypes VALUES (?, ?, ?, ?, ?)", rows)
        self._database.execute("COMMIT")

    def builds(self) -> int:
        """Return how many genotypes are recorded that build."""
        query = "SELECT count(*) FROM genotypes WHERE parameters IS NOT NULL"
        return int(self._database.execute(query).fetchone()[0])

    def last(self, count: int) -> int:
        """Return the number of the genotype with which `count` of them build."""
        query = "SELECT number FROM genotypes WHERE parameters IS NOT NULL ORDER BY number LIMIT 1 OFFSET ?"
        return int(self._database.execute(query, (count - 1,)).fetchone()[0])

    def pending(self) -> list[tuple[int, Genotype, int | None]]:
        """Return number, genotype and parameters of all that have no result, in order."""
        query = (
            "SELECT number, complete, parameters FROM genotypes"
            " WHERE number NOT IN (SELECT number FROM results) ORDER BY number"
        )
        rows = self._database.execute(query).fetchall()
        return [(number, from_complete(json.loads(complete)), count) for number, complete, count in rows]

    def add_result(self, number: int, result: Result) -> None:
        """Record what became of a genotype, in a transaction of its own.

        Raises:
            sqlite3.IntegrityError: If it has a result already: nothing is ever trained twice.
        """
        self._database.execute("INSERT INTO results VALUES (?, ?)", (number, json.dumps(asdict(result))))

    def entries(self) -> list[Entry]:
        """Return everything that has a result, in the order of its number."""
        query = (
            "SELECT genotypes.number, half, complete, parameters, result FROM genotypes"
            " JOIN results ON genotypes.number = results.number ORDER BY genotypes.number"
        )
        return [
            (number, half, from_complete(json.loads(complete)), parameters, _result(json.loads(result)))
            for number, half, complete, parameters, result in self._database.execute(query).fetchall()
        ]


def _result(plain: dict[str, object]) -> Result:
    lists = {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
    return Result(**{**plain, **lists})  # type: ignore[arg-type]
