"""Action units: every notation that releases are known to use, with the units that a person reads in it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mernas.components.datasets.action_units import parse_action_units, unit_table
from mernas.components.datasets.synthetic import Synthetic

READ_BY_A_PERSON = {
    "12": {12},
    "4+L10": {4, 10},
    "1+R2+25": {1, 2, 25},
    "4+7+6": {4, 6, 7},
    "43E": {43},
    "T23": {23},
    "B18+25": {18, 25},
    "A1B+A2C": {1, 2},
    "A/L12": {12},
    "4A/B": {4},
    "12A+ref(24)": {12, 24},
    "4D+ref(6)+7C+43E": {4, 6, 7, 43},
    "L12 + 61": {12, 61},
    "12+15 ": {12, 15},
    "R14+17+soft focus": {14, 17},
    "(R6 or R12)+R15": {6, 12, 15},
    "L12 or L14": {12, 14},
    "R14A or 17A or 24A": {14, 17, 24},
    "AU4(k)+L7": {4, 7},
    "AD38+M58": {38, 58},
    "4\N{FULLWIDTH COMMA}7": {4, 7},
    "\N{FULLWIDTH DIGIT FOUR}\N{FULLWIDTH PLUS SIGN}12": {4, 12},
    "1B2C5": {1, 2, 5},
    "04": {4},
    "12.0": {12},
    "4.0+7.0": {4, 7},
    "L12?": {12},
    "?": set(),
    "": set(),
    "N/A": set(),
    "0": set(),
    "1225": set(),
}


@pytest.mark.parametrize(("text", "units"), READ_BY_A_PERSON.items())
def test_a_text_gives_the_units_that_a_person_reads_in_it(text: str, units: set[int]) -> None:
    assert parse_action_units(text) == units


@given(
    st.dictionaries(
        st.integers(1, 99),
        st.tuples(st.sampled_from(["", "L", "R", "T", "AU"]), st.sampled_from(["", *"ABCDE", "A/B", "?"])),
        max_size=6,
    ),
    st.sampled_from(["+", " + ", ", ", "\N{FULLWIDTH COMMA}", " or ", ";"]),
)
def test_units_come_back_from_any_mixture_of_sides_intensities_and_separators(
    written: dict[int, tuple[str, str]], separator: str
) -> None:
    text = separator.join(f"{side}{unit}{intensity}" for unit, (side, intensity) in written.items())
    assert parse_action_units(text) == set(written)


@given(st.text())
def test_any_text_gives_numbers_from_1_to_99(text: str) -> None:
    assert parse_action_units(text) <= set(range(1, 100))


def test_digits_without_end_are_no_unit() -> None:
    assert parse_action_units("7" * 10_000) == set()


def test_a_table_tells_shown_not_shown_and_not_annotated_apart() -> None:
    cells = pd.DataFrame({"action_units": ["4+L10", "?", None, float("nan"), 12, 12.0, "0", "soft focus"]})
    nan = float("nan")
    expected = [[1, 0], [nan, nan], [nan, nan], [nan, nan], [0, 1], [0, 1], [0, 0], [nan, nan]]
    found = unit_table(cells, [4, 12])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected))


def test_a_table_of_annotations_without_the_column_is_of_gaps() -> None:
    found = unit_table(pd.DataFrame({"emotion": ["positive", "negative"]}), [1, 2, 4])
    assert found.shape == (2, 3)
    assert np.isnan(found).all()


def test_a_table_of_no_units_has_no_columns() -> None:
    assert unit_table(pd.DataFrame({"action_units": ["4"]}), []).shape == (1, 0)


def test_the_synthetic_annotations_are_read() -> None:
    annotations = Synthetic(subjects=2, clips=3).load().annotations
    units = sorted({int(unit) for text in annotations["action_units"] for unit in text.split("+")})
    expected = [[float(str(unit) in text.split("+")) for unit in units] for text in annotations["action_units"]]
    np.testing.assert_array_equal(unit_table(annotations, units), expected)
