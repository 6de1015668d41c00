"""Action units as releases write them ("4+L10", "12A+ref(24)"), read as numbers of the Facial Action Coding System."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COLUMN = "action_units"
"""The column of the annotations that holds these texts."""

NUMBER = re.compile(r"(?<![0-9])0*([0-9]{1,2})(?![0-9])")
"""A number of the coding system: its units, descriptors and movements share the numbers up to 99."""

WHOLE_AS_FLOAT = re.compile(r"(?<=[0-9])\.0+(?![0-9])")
"""What spreadsheets append to whole numbers once a column has a gap: "12.0" is 12, not 12 and 0."""


def parse_action_units(text: str) -> frozenset[int]:
    """Return the numbers of the action units that a text says are shown.

    Every number from 1 to 99 counts, whatever stands around it, because the notations of the releases agree in nothing
    else. Left out are therefore

    - the side or part of the face before a number: `L`, `R`, `T`, `B`, `A`, also `AU`, `AD`, `M`;
    - the intensity after it: `A` to `E`, also two of them as in `4A/B`;
    - `ref(…)`, `(k)`, `?` and brackets around a number: the unit is taken as shown;
    - words without a number, as in `14+17+soft focus`.

    Of alternatives (`L12 or L14`) both are taken. Units may be separated by anything: `+`, a comma of any width, a
    blank. Number 0, the neutral face, and numbers of three and more digits are no units. A text without a number, such
    as `?`, `N/A` or nothing, gives the empty set, as does `0`; `unit_table` tells the two apart.

    Args:
        text: The text of one clip.

    Example:
        >>> sorted(parse_action_units("R14A+17+soft focus")), sorted(parse_action_units("(R6 or R12) + R15"))
        ([14, 17], [6, 12, 15])
        >>> parse_action_units("?")
        frozenset()
    """
    return _numbers(text) - {0}


def unit_table(annotations: pd.DataFrame, units: Sequence[int]) -> NDArray[np.float32]:
    """Return which clips show which action units.

    Args:
        annotations: Those of a dataset; their column `action_units` holds texts as `parse_action_units` reads them, and
            may be absent or have gaps.
        units: The units asked for, one for each column of the result.

    Returns:
        An array (n, U): 1 where the unit is shown, 0 where it is not, NaN in the whole row of a clip without an
        annotation. A text without a number is no annotation; `0` says that no unit is shown.

    Example:
        >>> unit_table(pd.DataFrame({"action_units": ["4+L10", "?", "0"]}), [4, 12]).tolist()
        [[1.0, 0.0], [nan, nan], [0.0, 0.0]]
    """
    table = np.full((len(annotations), len(units)), np.nan, dtype=np.float32)
    if COLUMN in annotations.columns:
        for row, cell in enumerate(annotations[COLUMN]):
            shown = _numbers(_text(cell))
            if shown:
                table[row] = [unit in shown for unit in units]
    return table


def _numbers(text: str) -> frozenset[int]:
    """The numbers of a text, 0 among them; full-width signs are read as their usual kin."""
    plain = WHOLE_AS_FLOAT.sub("", unicodedata.normalize("NFKC", text))
    return frozenset(int(number) for number in NUMBER.findall(plain))


def _text(cell: Any) -> str:
    """A cell as text; a gap is empty."""
    return cell if isinstance(cell, str) else "" if pd.isna(cell) else str(cell)
