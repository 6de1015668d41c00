"""Choices against brute force over all candidates, and sizes, rules and budgets as people write them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mernas.evaluation.metrics import Counts
from mernas.evaluation.picking import (
    Candidate,
    Rule,
    best,
    default_budgets,
    default_rules,
    format_size,
    knee,
    merge_rows,
    parse_budgets,
    parse_rule,
    parse_size,
    within,
)
from mernas.space.errors import DataError, PlanError

# Few distinct values, so that ties are common.
records = st.lists(
    st.builds(
        Candidate,
        genotype=st.text("0123456789abcdef", min_size=4, max_size=4),
        parameters=st.integers(0, 5).map(lambda thousands: thousands * 1000),
        uf1=st.integers(0, 6).map(lambda sixths: sixths / 6),
        completed=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda candidate: candidate.genotype,
)


def beats(one, other):
    """Whether one is to be preferred: higher UF1, then fewer parameters, then smaller hash."""
    if one.uf1 != other.uf1:
        return one.uf1 > other.uf1
    if one.parameters != other.parameters:
        return one.parameters < other.parameters
    return one.genotype < other.genotype


@given(records)
def test_best_beats_every_other_completed_candidate(record):
    completed = [candidate for candidate in record if candidate.completed]
    unbeaten = [one for one in completed if all(one is other or beats(one, other) for other in completed)]
    assert best(record) == (unbeaten[0] if completed else None)
    assert len(unbeaten) == bool(completed)


@given(records, st.integers(0, 6000))
def test_the_choice_for_a_budget_is_the_best_of_those_that_fit(record, budget):
    fitting = [candidate for candidate in record if candidate.completed and candidate.parameters <= budget]
    unbeaten = [one for one in fitting if all(one is other or beats(one, other) for other in fitting)]
    assert within(record, budget) == (unbeaten[0] if fitting else None)


@given(records, st.integers(0, 6).map(lambda sixths: sixths / 6))
@example([Candidate("a", 1000, 2 / 3), Candidate("b", 0, 1 / 3)], 2 / 6)  # b lies just at the limit
def test_the_knee_is_the_smallest_candidate_near_the_best(record, deviation):
    chosen = knee(record, deviation)
    completed = [candidate for candidate in record if candidate.completed]
    if not completed:
        assert chosen is None
        return
    # Whole sixths, since 5/6 - 1/6 is more than 4/6 in floating point.
    limit = max(round(6 * candidate.uf1) for candidate in completed) - round(6 * deviation)
    near = [candidate for candidate in completed if round(6 * candidate.uf1) >= limit]
    assert chosen in near
    for other in near:
        assert chosen.parameters <= other.parameters
        if other is not chosen and other.parameters == chosen.parameters:
            assert beats(chosen, other)


@given(records, st.randoms(use_true_random=False))
def test_the_order_of_the_record_does_not_matter(record, random):
    turned = list(record)
    random.shuffle(turned)
    assert best(turned) == best(record)
    assert within(turned, 2000) == within(record, 2000)
    assert knee(turned, 1 / 6) == knee(record, 1 / 6)


# Hits, times predicted and times there of every class. Candidates have the same ones for other classes.
counted = st.tuples(st.integers(0, 9), st.integers(9, 20), st.integers(9, 20))


@st.composite
def classes_of_candidates(draw):
    classes = draw(st.integers(2, 5))
    table = draw(st.lists(counted, min_size=classes, max_size=classes))
    orders = draw(st.lists(st.permutations(range(classes)), min_size=2, max_size=6))
    missed = draw(st.lists(st.integers(0, 2), min_size=len(orders), max_size=len(orders)))
    return np.array(table), orders, missed, draw(st.permutations(range(classes))), draw(st.sampled_from(missed))


@given(classes_of_candidates())
def test_the_order_of_the_classes_never_changes_a_choice(drawn):
    table, orders, missed, turned, far = drawn

    def scored(renamed):
        """The same candidates, where the classes of the data have other numbers."""
        made = []
        for number, order in enumerate(orders):
            hits, predicted, actual = table[list(order)][list(renamed)].T
            hits = np.maximum(hits - missed[number], 0)
            uf1 = float(Counts(hits, predicted, actual).statistic("uf1"))
            made.append(Candidate(f"{number:04x}", 10 ** (len(orders) - number), uf1))
        return made

    one, other = scored(range(len(table))), scored(turned)
    for choose in (
        best,
        lambda record: within(record, 1000),
        lambda record: knee(record, 0.0),
        lambda record: knee(record, abs(record[0].uf1 - record[missed.index(far)].uf1)),
    ):
        chosen, again = choose(one), choose(other)
        assert (chosen and chosen.genotype) == (again and again.genotype)


def test_of_equal_figures_that_were_added_up_in_another_order_the_smaller_candidate_is_chosen():
    figures = (0.1, 0.2, 0.3)
    large, small = (Candidate(name, size, (a + b + c) / 3) for name, size, (a, b, c) in (
        ("large", 90_000, figures), ("small", 900, figures[::-1])
    ))  # fmt: skip
    assert large.uf1 > small.uf1
    assert best([large, small]) == within([large, small], 100_000) == knee([large, small], 0.0) == small


@given(records)
def test_a_larger_budget_never_has_a_lower_inner_uf1(record):
    chosen = [within(record, budget) for budget in range(0, 6000, 1000)]
    scores = [candidate.uf1 for candidate in chosen if candidate is not None]
    assert scores == sorted(scores)
    assert chosen[-1] == best(record)


def test_a_knee_without_deviation_is_the_smallest_of_the_equally_good():
    record = [Candidate("a", 9, 0.7), Candidate("b", 5, 0.7), Candidate("c", 1, 0.69)]
    assert knee(record, 0.0) == record[1] == best(record)
    assert knee(record, 0.02) == record[2]


def test_a_candidate_that_failed_is_never_chosen_whatever_its_score():
    record = [Candidate("a", 1, 1.0, completed=False), Candidate("b", 2, 0.1), Candidate("c", 1, math.nan, False)]
    assert best(record) == within(record, 2) == knee(record, 1.0) == record[1]
    assert within(record, 1) is None


@pytest.mark.parametrize("uf1", [math.nan, -0.1, 1.1, math.inf])
def test_a_completed_candidate_needs_a_score(uf1):
    with pytest.raises(DataError, match=r"has an inner UF1 in \[0, 1\]"):
        Candidate("a", 1, uf1)


def test_negative_parameters_and_deviations_are_refused():
    with pytest.raises(DataError, match="at least 0 parameters, found -1"):
        Candidate("a", -1, 0.5)
    for deviation in (-0.1, math.nan, math.inf):
        with pytest.raises(DataError, match="deviation of at least 0"):
            knee([Candidate("a", 1, 0.5)], deviation)


def test_rules_choose_what_their_functions_choose_and_only_the_knee_asks_for_the_deviation():
    record = [Candidate("a", 1000, 0.5), Candidate("b", 3000, 0.6), Candidate("c", 9000, 0.7)]
    asked = []

    def deviation(candidate):
        asked.append(candidate)
        return 0.1

    assert Rule("best").pick(record, deviation) == record[2]
    assert Rule("<=", 3000).pick(record, deviation) == record[1]
    assert Rule("<=", 10).pick(record, deviation) is None
    assert Rule("knee").pick([], deviation) is None
    assert not asked
    assert Rule("knee").pick(iter(record), deviation) == record[1]
    assert asked == [record[2]]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("best", "best"), (" knee ", "knee"), ("<=50k", "<=50k"), ("<=2000", "<=2k"), ("<= 1.5M", "<=1.5M")],
)
def test_a_rule_is_read_and_written(text, canonical):
    rule = parse_rule(text)
    assert str(rule) == canonical
    assert parse_rule(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kneee", 'Did you mean "knee"'),
        ("50k", r'rule "50k": is not known\. Did you mean "<=50k"\? Known: best, knee and budgets such as <=50k\.'),
        ("50000", 'Did you mean "<=50k"'),
        ("", 'rule "": is not known. Known: best, knee and'),
        ("<=", 'size "": must be a whole number'),
        ("<=many", 'size "many"'),
        ("<=0", 'size "0"'),
    ],
)
def test_what_is_no_rule_is_refused(text, message):
    with pytest.raises(PlanError, match=message):
        parse_rule(text)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("10k", 'Did you mean "<=10k"? This run has best, knee, <=2k, <=10k.'),
        ("2000", 'Did you mean "<=2k"? This run has best, knee, <=2k, <=10k.'),
        ("50k", "This run has best, knee, <=2k, <=10k."),
        ("nee", 'Did you mean "knee"? This run has best, knee, <=2k, <=10k.'),
    ],
)
def test_what_is_no_rule_is_answered_with_those_of_the_run(text, remedy):
    with pytest.raises(PlanError) as error:
        parse_rule(text, default_rules([2000, 10_000]))
    assert str(error.value) == f'rule "{text}": is not known. {remedy}'


@pytest.mark.parametrize(("name", "budget"), [("best", 5), ("<=", None), ("<=", 0)])
def test_a_rule_has_a_budget_where_it_needs_one_and_only_there(name, budget):
    with pytest.raises(PlanError, match="budget"):
        Rule(name, budget)


@pytest.mark.parametrize(
    ("text", "size"),
    [("2k", 2000), ("2K", 2000), ("1M", 1_000_000), ("50000", 50_000), ("2.5k", 2500), ("1.1M", 1_100_000), (7, 7)],
)
def test_a_size_is_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "k", "2 k", "-2k", "2.5", "1.0005k", "1e6", "2m", "0", "0.0k", "nan", "1_000", -3]
)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(PlanError, match="must be a whole number of parameters"):
        parse_size(text)


@given(st.one_of(st.integers(1, 10**8), st.integers(1, 10**5).map(lambda hundreds: hundreds * 100)))
def test_a_size_written_is_the_size_read(size):
    text = format_size(size)
    assert parse_size(text) == size
    assert len(text) <= len(str(size))


def test_budgets_are_read_ascending():
    assert parse_budgets("10k, 2k,1M", 1_000_000) == (2000, 10_000, 1_000_000)
    assert parse_budgets([500, "1k"], 2000) == (500, 1000)


def test_all_mistakes_in_budgets_are_told_at_once():
    with pytest.raises(PlanError) as caught:
        parse_budgets("2k,many,2000,,3M", 1_000_000)
    text = str(caught.value)
    assert '--budgets, size "many": must be a whole number' in text
    assert '--budgets, size "": must be a whole number' in text
    assert "--budgets: must differ, found 2k 2 times" in text
    assert "--budgets: must not exceed --max-params, which is 1M, found 3M" in text
    assert len(caught.value.problems) == 4


def test_no_budget_at_all_is_refused():
    with pytest.raises(PlanError, match="needs at least one"):
        parse_budgets([], 1000)


@pytest.mark.parametrize(
    ("limit", "budgets"),
    [
        (1_000_000, (2000, 10_000, 50_000, 250_000, 1_000_000)),
        (5_000_000, (2000, 10_000, 50_000, 250_000, 1_000_000, 5_000_000)),
        (60_000, (2000, 10_000, 50_000, 60_000)),
        (2000, (2000,)),
        (100, (100,)),
    ],
)
def test_default_budgets_lie_below_the_limit_and_end_with_it(limit, budgets):
    assert default_budgets(limit) == budgets


def test_the_default_rules_are_best_knee_and_each_budget():
    assert [str(rule) for rule in default_rules((10_000, 2000))] == ["best", "knee", "<=2k", "<=10k"]


@given(
    st.dictionaries(
        st.integers(1, 50), st.fixed_dictionaries({"0": st.sampled_from("ab"), "final": st.sampled_from("ab")})
    )
)
def test_budgets_share_a_row_exactly_where_all_their_choices_are_the_same(choices):
    rows = merge_rows(choices)
    assert sorted(itertools.chain(*rows)) == sorted(choices)
    assert all(list(row) == sorted(row) for row in rows)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    homes = {budget: row for row in rows for budget in row}
    for one, other in itertools.combinations(choices, 2):
        assert (homes[one] == homes[other]) == (choices[one] == choices[other])
