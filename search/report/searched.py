"""What a run searched: the share of every choice among its proposals, and how candidates with and without it scored.

The effect of a choice is descriptive. The sampler decided where to look, choices come together, and the scores are
selection scores: nothing here is an experiment.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from statistics import mean, stdev

import pandas as pd

from mernas.search.finished import FinishedRun
from mernas.search.ledger import DUPLICATE, EXHAUSTED, INFEASIBLE, PASSED_OVER, REPEATED
from mernas.search.plan import FINAL, Settings
from mernas.search.racing import COMPLETED, FAILED, STOPPED
from mernas.space.genotype import Genotype
from mernas.space.parameters import Choices, Slot
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import AXES

STRUCTURE = "Number of streams"
NONE = "none"
TRAINED = (COMPLETED, FAILED, STOPPED, "waiting")
"""States of the proposals that were accepted, in trials.csv."""


@dataclass(frozen=True)
class Answer:
    """One answer to one question of the search.

    Attributes:
        name: The answer.
        proposed, share: How many accepted proposals of all studies gave it, and their share.
        count: How many completed candidates of the final study have it.
        with_it, without_it: Their mean inner UF1 and that of the others; NaN where there is none.
        effect, error: The difference and its standard error; NaN with fewer than two on either side.
    """

    name: str
    proposed: int
    share: float
    count: int
    with_it: float
    without_it: float
    effect: float
    error: float


@dataclass(frozen=True)
class Question:
    """One question of the search with its answers, the most frequent first.

    Attributes:
        title: What was asked.
        section: Of the survey; empty for the number of streams.
        answers: The answers.
        several: Whether one pipeline can give several answers, so that the shares add up to more than one.
    """

    title: str
    section: str
    answers: tuple[Answer, ...]
    several: bool


@dataclass(frozen=True)
class Searched:
    """What was searched.

    Attributes:
        proposals: Accepted proposals of all studies.
        pipelines: How many different ones.
        completed: Completed candidates of the final study.
        axes: Which components were chosen.
        settings: Which of their named settings.
        fixed: Questions that had a single answer, as `question: answer`, and of how many proposals it was asked.
        draws: Pairs of a state, in words, and how many draws ended so.
    """

    proposals: int
    pipelines: int
    completed: int
    axes: tuple[Question, ...]
    settings: tuple[Question, ...]
    fixed: tuple[str, ...]
    draws: tuple[tuple[str, int], ...]


def summarise(run: FinishedRun) -> Searched:
    """Return what a run searched, from its trials and the pipelines behind them."""
    trials = run.tables.trials
    accepted = trials[trials["state"].isin(TRAINED)]
    genotypes = {key: run.genotype(key) for key in sorted(set(accepted["genotype"]))}
    optional = set().union(*(may_lack(genotype) for genotype in genotypes.values()))
    given = {key: answers(genotype, optional) for key, genotype in genotypes.items()}
    completed = accepted[(accepted["group"] == FINAL) & (accepted["state"] == "completed")]
    scores = list(zip(completed["genotype"], completed["inner_uf1"].astype(float), strict=True))
    weights = Counter(accepted["genotype"])
    questions = sorted({question for own in given.values() for question in own}, key=_order)
    made = [(question, _question(question, given, weights, scores)) for question in questions]
    open_ones = [(key, one) for key, one in made if len(one.answers) > 1]
    return Searched(
        proposals=len(accepted),
        pipelines=len(given),
        completed=len(completed),
        axes=tuple(one for key, one in open_ones if "." not in key),
        settings=tuple(one for key, one in open_ones if "." in key),
        fixed=tuple(_fixed(one, len(accepted)) for _, one in made if len(one.answers) == 1),
        draws=_draws(trials, run.plan.settings),
    )


def may_lack(genotype: Genotype) -> set[str]:
    """Return the axes for which a component of a pipeline has a slot that may stay empty, filled here or not.

    Example:
        >>> from mernas.space.presets import load_preset
        >>> sorted(may_lack(load_preset("ststnet").genotype) & {"attention", "cascade", "fusion", "mixing", "loss"})
        ['attention', 'cascade', 'fusion', 'mixing']
    """
    found: set[str] = set()
    for leaf in genotype.root.walk():
        for parameter in REGISTRY.get(leaf.axis, leaf.name).parameters.values():
            slot = parameter.domain
            if isinstance(slot, Slot) and (slot.low == 0 or parameter.when is not None):
                found.add(slot.axis)
    return found


def answers(genotype: Genotype, optional: Collection[str]) -> dict[str, set[str]]:
    """Return the answers of one pipeline by question: an axis, or `axis.component.setting`.

    Args:
        genotype: The pipeline.
        optional: The axes on which a pipeline without any component has the answer `none`.

    Example:
        >>> from mernas.space.presets import load_preset
        >>> given = answers(load_preset("ststnet").genotype, ["augmentation"])
        >>> given["loss"], given["block.convolution.norm"], given["augmentation"]
        ({'cross_entropy'}, {'late'}, {'none'})
    """
    found: dict[str, set[str]] = defaultdict(set)
    for leaf in genotype.root.walk():
        declaration = REGISTRY.get(leaf.axis, leaf.name)
        if not AXES[leaf.axis].record:
            found[leaf.axis].add(leaf.name)
        for name, value in leaf.values:
            if isinstance(declaration.parameters[name].domain, Choices) and value is not None:
                found[f"{leaf.axis}.{leaf.name}.{name}"].add(str(value))
    for axis in optional:
        found[axis] = found.get(axis) or {NONE}
    found[STRUCTURE] = {str(len(genotype.streams))}
    return dict(found)


def _fixed(question: Question, proposals: int) -> str:
    """One line on a question with a single answer; not every pipeline need have been asked it."""
    (answer,) = question.answers
    asked = "" if answer.proposed == proposals else f" (asked of {answer.share:.0%} of the proposals)"
    return f"{question.title}: {answer.name}{asked}"


def _question(
    key: str, given: Mapping[str, dict[str, set[str]]], weights: Counter[str], scores: Iterable[tuple[str, float]]
) -> Question:
    scored = list(scores)
    total = sum(weights.values())
    counts: Counter[str] = Counter()
    for genotype, own in given.items():
        for answer in own.get(key, ()):
            counts[answer] += weights[genotype]
    lines = []
    for name, proposed in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        inside = [score for genotype, score in scored if name in given[genotype].get(key, ())]
        outside = [score for genotype, score in scored if name not in given[genotype].get(key, ())]
        lines.append(_answer(name, proposed, total, inside, outside))
    axis, _, setting = key.partition(".")
    title, section = (AXES[axis].title, AXES[axis].section) if axis in AXES else (key, "")
    if setting:
        component, _, parameter = setting.partition(".")
        title = f"{component.replace('_', ' ')}: {parameter.replace('_', ' ')}"
    several = any(len(own.get(key, ())) > 1 for own in given.values())
    return Question(title, section, tuple(lines), several)


def _answer(name: str, proposed: int, total: int, inside: list[float], outside: list[float]) -> Answer:
    def average(values: list[float]) -> float:
        return mean(values) if values else math.nan

    effect, error = average(inside) - average(outside), math.nan
    if len(inside) > 1 and len(outside) > 1:
        error = math.sqrt(stdev(inside) ** 2 / len(inside) + stdev(outside) ** 2 / len(outside))
    return Answer(
        name=name.replace("_", " "),
        proposed=proposed,
        share=proposed / total if total else 0.0,
        count=len(inside),
        with_it=average(inside),
        without_it=average(outside),
        effect=effect,
        error=error,
    )


def _draws(trials: pd.DataFrame, settings: Settings) -> tuple[tuple[str, int], ...]:
    limit, stops = settings.max_parameters, settings.racing or settings.halving
    infeasible = trials[trials["state"] == INFEASIBLE]
    too_large = int((infeasible["params"].fillna(0) > limit).sum())
    states = Counter(trials["state"])
    said: list[tuple[str, int]] = [
        ("accepted and trained", sum(states[state] for state in ("completed", "waiting"))),
        ("accepted, and failed in training", states["failed"]),
        *([("accepted, and stopped before its last fold", states[STOPPED])] if stops else []),
        (f"over the limit of {limit:,} parameters: refused before any training", too_large),
        ("could not be built: refused before any training", len(infeasible) - too_large),
        ("the same as a finished candidate of its study: told its score again", states[DUPLICATE]),
        ("the same as another one of its batch", states[REPEATED]),
        ("first batch only: of a size that other draws had filled", states[PASSED_OVER]),
        ("places given up after a hundred draws", states[EXHAUSTED]),
    ]
    return tuple(said)


def _order(key: str) -> tuple[int, str]:
    axis = key.partition(".")[0]
    places: Callable[[str], int] = {name: place for place, name in enumerate(AXES)}.__getitem__
    return (places(axis) if axis in AXES else -1, key)
