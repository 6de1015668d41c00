"""Budgets and pick rules: which candidate a study chooses, as functions of that study's own record and nothing else.

A budget is a parameter count fixed in the plan. The choice of a study for a budget is its completed candidate of at
most that many parameters with the highest inner UF1. A rule is `best`, `knee` or a budget, `<=50k`. Ties are always
broken (fewer parameters, then the smaller hash), so that one record gives one choice. Scores that are equal to nine
digits are a tie. A candidate that failed or was stopped is never chosen.

The rule `knee` is the one-standard-error rule of Breiman, Friedman, Olshen and Stone, "Classification and Regression
Trees", 1984, section 3.4.3, with the standard error from resampled subjects.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from mernas.space.errors import DataError, PlanError, Problem, nearest, raise_all

DEFAULT_BUDGETS = (2_000, 10_000, 50_000, 250_000, 1_000_000)
"""Parameter counts that are reported by default where they lie below the limit of the plan."""

DIGITS = 9
"""Scores are compared rounded to so many digits: the last bit says in which order the classes were added up."""

NAMED = ("best", "knee")
"""The rules that are no budget."""

UNITS = {"": 1, "k": 1_000, "M": 1_000_000}


@dataclass(frozen=True)
class Candidate:
    """What a study knows of one of its candidates.

    Attributes:
        genotype: Hash of the genotype.
        parameters: Everything needed at inference, at least 0.
        uf1: Inner UF1 in [0, 1], pooled over the out-of-fold predictions of the study; free where not completed.
        completed: False if it failed or was stopped: no rule can choose it.
        stopped: Whether it was stopped because another one was clearly better.

    Raises:
        DataError: If a number is out of range.
    """

    genotype: str
    parameters: int
    uf1: float
    completed: bool = True
    stopped: bool = False

    def __post_init__(self) -> None:
        problems: list[Problem | str] = []
        if self.parameters < 0:
            problems.append(Problem(f"candidate {self.genotype}", "has at least 0 parameters", str(self.parameters)))
        if self.completed and not 0 <= self.uf1 <= 1:  # also refuses NaN, which no order could place
            problems.append(Problem(f"candidate {self.genotype}", "has an inner UF1 in [0, 1]", str(self.uf1)))
        if self.completed and self.stopped:
            problems.append(Problem(f"candidate {self.genotype}", "cannot be both completed and stopped"))
        raise_all(DataError, problems)

    @property
    def compared(self) -> float:
        """The inner UF1 as choices compare it, rounded to `DIGITS`."""
        return round(self.uf1, DIGITS)


@dataclass(frozen=True)
class Rule:
    """A pick rule: `best`, `knee`, or the best of at most `budget` parameters.

    Attributes:
        name: "best", "knee" or "<=".
        budget: The parameter count of "<=", None for the others.

    Raises:
        PlanError: If there is no such rule.

    Example:
        >>> str(Rule("<=", 50_000))
        '<=50k'
    """

    name: str
    budget: int | None = None

    def __post_init__(self) -> None:
        if self.name not in (*NAMED, "<="):
            remedy = nearest(self.name, [*NAMED, "<=50k"])
            raise PlanError(Problem(f'rule "{self.name}"', "is not known", "", remedy))
        if (self.budget is not None) != (self.name == "<="):
            raise PlanError(Problem(f'rule "{self.name}"', 'only "<=" has a budget', str(self.budget)))
        if self.budget is not None and self.budget < 1:
            raise PlanError(Problem(f'rule "{self.name}"', "needs a budget of at least 1", str(self.budget)))

    def __str__(self) -> str:
        return self.name if self.budget is None else f"<={format_size(self.budget)}"

    def pick(self, candidates: Iterable[Candidate], deviation: Callable[[Candidate], float]) -> Candidate | None:
        """Return what the rule chooses from the record of one study, or None if it has nothing to choose.

        Args:
            candidates: The candidates of the study.
            deviation: Gives the standard deviation of the inner UF1 of the best candidate over resamples of the study's
                own subjects (`mernas.evaluation.bootstrap.deviation`); called by `knee` only.

        Example:
            >>> small, large = Candidate("a1", 900, 0.70), Candidate("b2", 90_000, 0.72)
            >>> parse_rule("knee").pick([small, large], lambda best: 0.03).genotype
            'a1'
        """
        record = tuple(candidates)
        if self.budget is not None:
            return within(record, self.budget)
        chosen = best(record)
        if chosen is None or self.name == "best":
            return chosen
        return knee(record, deviation(chosen))


def best(candidates: Iterable[Candidate]) -> Candidate | None:
    """Return the completed candidate of highest inner UF1, or None; ties: fewer parameters, then smaller hash.

    Example:
        >>> best([Candidate("a1", 900, 0.7), Candidate("b2", 800, 0.7)]).genotype
        'b2'
    """
    completed = (candidate for candidate in candidates if candidate.completed)
    return min(completed, key=lambda one: (-one.compared, one.parameters, one.genotype), default=None)


def within(candidates: Iterable[Candidate], budget: int) -> Candidate | None:
    """Return the `best` of the candidates of at most `budget` parameters, or None.

    Example:
        >>> within([Candidate("a1", 900, 0.7), Candidate("b2", 2000, 0.8)], 1000).genotype
        'a1'
    """
    return best(candidate for candidate in candidates if candidate.parameters <= budget)


def knee(candidates: Iterable[Candidate], deviation_of_best: float) -> Candidate | None:
    """Return the smallest completed candidate whose inner UF1 is at least that of `best` minus a deviation, or None.

    Args:
        candidates: The candidates of one study.
        deviation_of_best: Standard deviation of the inner UF1 of `best`, at least 0; see `Rule.pick`.

    Returns:
        The one of fewest parameters; ties: higher UF1, then smaller hash.

    Raises:
        DataError: If the deviation is negative or not a number.

    Example:
        >>> knee([Candidate("a1", 900, 0.70), Candidate("b2", 90_000, 0.72)], 0.01).genotype
        'b2'
    """
    if not 0 <= deviation_of_best < math.inf:
        raise DataError(Problem("knee", "needs a deviation of at least 0", str(deviation_of_best)))
    record = tuple(candidates)
    top = best(record)
    if top is None:
        return None
    least = round(top.uf1 - deviation_of_best, DIGITS)  # rounded once: who lies just at the limit is near
    near = (one for one in record if one.completed and one.compared >= least)
    return min(near, key=lambda one: (one.parameters, -one.compared, one.genotype))


def parse_rule(text: str, planned: Sequence[Rule] = ()) -> Rule:
    """Return the rule that a text names.

    Args:
        text: `best`, `knee` or a budget such as `<=50k`.
        planned: The rules of the run that is asked, for the message; the rule need not be one of them.

    Raises:
        PlanError: If it names none, with what was probably meant.

    Example:
        >>> parse_rule("<=2000") == parse_rule("<=2k")
        True
        >>> parse_rule("10k", default_rules([2_000, 10_000]))
        Traceback (most recent call last):
        mernas.space.errors.PlanError: rule "10k": is not known. Did you mean "<=10k"? This run has best, knee, <=2k, \
<=10k.
    """
    text = text.strip()
    if text.startswith("<="):
        return Rule("<=", parse_size(text[2:]))
    if text in NAMED:
        return Rule(text)
    raise PlanError(Problem(f'rule "{text}"', "is not known", "", _meant(text, [str(rule) for rule in planned])))


def _meant(text: str, planned: Sequence[str]) -> str:
    """What to write for a text that names no rule: a bare size is a budget, if the run has that."""
    try:
        budget = f"<={format_size(parse_size(text))}"
    except PlanError:
        close = difflib.get_close_matches(text, planned or NAMED, n=3, cutoff=0.5)
    else:
        close = [budget] if budget in planned or not planned else []
    has = f"This run has {', '.join(planned)}" if planned else f"Known: {', '.join(NAMED)} and budgets such as <=50k"
    quoted = " or ".join(f'"{name}"' for name in close)
    return f"did you mean {quoted}? {has}" if close else has


def default_rules(budgets: Iterable[int]) -> tuple[Rule, ...]:
    """Return `best`, `knee` and `<=b` for every budget, ascending.

    Example:
        >>> [str(rule) for rule in default_rules([10_000, 2_000])]
        ['best', 'knee', '<=2k', '<=10k']
    """
    return (Rule("best"), Rule("knee"), *(Rule("<=", budget) for budget in sorted(budgets)))


def parse_size(text: str | int) -> int:
    """Return a parameter count from a number with or without k (thousand) or M (million).

    Raises:
        PlanError: If it is not a whole number of parameters of at least 1.

    Example:
        >>> parse_size("2k"), parse_size("2.5k"), parse_size("1M"), parse_size(50000)
        (2000, 2500, 1000000, 50000)
    """
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)([kKM]?)", str(text).strip())
    # A fraction, because 1.1 * 1_000_000 is not a whole number in floating point.
    size = Fraction(match[1]) * UNITS[match[2].replace("K", "k")] if match else Fraction(0)
    if size < 1 or size.denominator != 1:
        rule = "must be a whole number of parameters, at least 1"
        raise PlanError(Problem(f'size "{text}"', rule, "", "write it like 50000, 50k or 1M"))
    return int(size)


def format_size(size: int) -> str:
    """Return the shortest text with at most one decimal that `parse_size` takes for the same number.

    Example:
        >>> [format_size(size) for size in (2000, 2500, 1_000_000, 1_050_000, 12_345)]
        ['2k', '2.5k', '1M', '1050k', '12345']
    """
    for unit in ("M", "k"):
        tenths, rest = divmod(size * 10, UNITS[unit])
        if size >= UNITS[unit] and not rest:
            return f"{tenths // 10}{unit}" if tenths % 10 == 0 else f"{tenths // 10}.{tenths % 10}{unit}"
    return str(size)


def parse_budgets(budgets: str | Sequence[str | int], max_parameters: int) -> tuple[int, ...]:
    """Return the budgets that a user asks for, ascending.

    Args:
        budgets: Sizes in any order, separated by commas if they are one text.
        max_parameters: The limit of the plan; no budget may exceed it.

    Raises:
        PlanError: If one is not a size, is given twice or exceeds the limit, or there is none; with all mistakes.

    Example:
        >>> parse_budgets("10k,2k", 1_000_000)
        (2000, 10000)
    """
    texts = budgets.split(",") if isinstance(budgets, str) else budgets
    sizes: list[int] = []
    problems: list[Problem | str] = []
    for text in texts:
        try:
            sizes.append(parse_size(text))
        except PlanError as error:
            problems += [
                Problem(f"--budgets, {problem.subject}", problem.rule, problem.found, problem.remedy)
                if isinstance(problem, Problem)
                else problem
                for problem in error.problems
            ]
    if not texts:
        problems.append(Problem("--budgets", "needs at least one", "none", "write them like 2k,10k,50k"))
    problems += [
        Problem("--budgets", "must differ", f"{format_size(size)} {sizes.count(size)} times")
        for size in sorted(set(sizes))
        if sizes.count(size) > 1
    ]
    problems += [
        Problem(
            "--budgets",
            f"must not exceed --max-params, which is {format_size(max_parameters)}",
            format_size(size),
            "raise --max-params or leave this budget out",
        )
        for size in sorted(set(sizes))
        if size > max_parameters
    ]
    raise_all(PlanError, problems)
    return tuple(sorted(sizes))


def default_budgets(max_parameters: int) -> tuple[int, ...]:
    """Return the `DEFAULT_BUDGETS` below the limit, and the limit itself.

    Example:
        >>> default_budgets(50_000)
        (2000, 10000, 50000)
    """
    return (*(budget for budget in DEFAULT_BUDGETS if budget < max_parameters), max_parameters)


def merge_rows(choices: Mapping[int, Mapping[str, str]]) -> list[tuple[int, ...]]:
    """Return the budgets that share a row of the report: those with the same choice in every study.

    Args:
        choices: Hash of the chosen genotype by budget and study; only budgets for which every study has one.

    Returns:
        Groups of budgets, each ascending, in the order of their smallest.

    Example:
        >>> merge_rows({2000: {"0": "a1", "1": "b2"}, 10_000: {"0": "c3", "1": "b2"}, 50_000: {"0": "c3", "1": "b2"}})
        [(2000,), (10000, 50000)]
    """
    rows: dict[frozenset[tuple[str, str]], list[int]] = {}
    for budget in sorted(choices):
        rows.setdefault(frozenset(choices[budget].items()), []).append(budget)
    return [tuple(row) for row in rows.values()]
