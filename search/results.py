"""Results: the tables that a run leaves behind, each written whole or not at all.

With several repetitions of the outer trainings a figure is the mean of those of the repetitions, each made from that
repetition's own pooled predictions; predictions of several repetitions are never pooled.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd

from mernas.components.datasets.clip import POOLED
from mernas.evaluation.bootstrap import Resamples, draw_resamples, interval
from mernas.evaluation.metrics import MISSING, score, score_parts
from mernas.evaluation.picking import Candidate, within
from mernas.evaluation.whole_file import write_whole
from mernas.search.choosing import Chosen, Row, outer_predictions, repeated_predictions
from mernas.search.ledger import ACCEPTED, Ledger
from mernas.search.out_file import FULL, ROOM, unwritable
from mernas.search.plan import FINAL, Plan
from mernas.search.record import Record

ESTIMATE = ["inner_uf1", "nested_uf1", "ci_low", "ci_high", "nested_uar", "failed", "genotype"]
SIZES = ["params", "params_min", "params_max"]
FRONT = ["budget", *SIZES, "genotypes", *ESTIMATE]
RULES = ["rule", *SIZES, "genotypes", *ESTIMATE]
BASELINES = ["baseline", "rule", "genotypes", *ESTIMATE]
PROTOCOL = "nested-loso"
OTHER_FOLDER = "choose another folder with --out"


@dataclass(frozen=True, eq=False)
class Tables:
    """The tables of a finished run.

    Attributes:
        front: One row per budget.
        rules: One row per pick rule that is not a budget: its honest estimate.
        choices: What every study chose.
        predictions: Pooled outer predictions of the front and the rules, a block of rows per repetition.
        trials: One row per proposal.
        baselines: One row per baseline family.
        baseline_predictions: The same of the baselines.
        scores: Per-dataset and per-class figures of every row of the front, the rules and the baselines.
        resamples: What the intervals were made from.
    """

    front: pd.DataFrame
    rules: pd.DataFrame
    choices: pd.DataFrame
    predictions: pd.DataFrame
    trials: pd.DataFrame
    baselines: pd.DataFrame
    baseline_predictions: pd.DataFrame
    scores: pd.DataFrame
    resamples: Resamples

    def files(self) -> Mapping[str, pd.DataFrame]:
        """Return the tables by file name."""
        return {
            "front.csv": self.front,
            "rules.csv": self.rules,
            "choices.csv": self.choices,
            "predictions.csv": self.predictions,
            "trials.csv": self.trials,
            "baselines.csv": self.baselines,
            "baseline_predictions.csv": self.baseline_predictions,
            "scores.csv": self.scores,
        }


def make_tables(plan: Plan, record: Record, chosen: Chosen, baselines: Sequence[Row]) -> Tables:
    """Return all tables of a finished run."""
    book = plan.book
    classes = len(plan.dataset.classes)
    drawn = draw_resamples(book.subjects, book.datasets, book.labels, classes, plan.settings.seed)
    figures = {id(row): _figures(plan, record, row, drawn) for row in (*chosen.front, *chosen.rules, *baselines)}
    front = [{"budget": row.budget, **figures[id(row)]} for row in chosen.front]
    rules = [{"rule": row.rule, **figures[id(row)]} for row in chosen.rules]
    plain = [{"baseline": row.family, "rule": row.rule, **figures[id(row)]} for row in baselines]
    return Tables(
        front=pd.DataFrame(front, columns=FRONT),
        rules=pd.DataFrame(rules, columns=RULES),
        choices=_choices(plan, [*chosen.single, *chosen.rules]),
        predictions=_predictions(plan, record, [*chosen.front, *chosen.rules]),
        trials=trials_table(plan, record),
        baselines=pd.DataFrame(plain, columns=BASELINES),
        baseline_predictions=_predictions(plan, record, baselines),
        scores=_scores(plan, record, [*chosen.front, *chosen.rules, *baselines]),
        resamples=drawn,
    )


def _figures(plan: Plan, record: Record, row: Row, drawn: Resamples) -> dict[str, Any]:
    predictions = repeated_predictions(plan, record, row)
    scores = [score(plan.book.labels, one, len(plan.dataset.classes)) for one in predictions]
    low, high = interval("uf1", plan.book.labels, predictions, plan.book.subjects, drawn)
    sizes = [choice.parameters for choice in row.honest]
    return {
        "params": row.final.parameters,
        "params_min": min(sizes),
        "params_max": max(sizes),
        "genotypes": len({choice.genotype for choice in row.honest}),
        "inner_uf1": float(np.mean([choice.uf1 for choice in row.honest])),
        "nested_uf1": mean(one.uf1 for one in scores),
        "ci_low": low,
        "ci_high": high,
        "nested_uar": mean(one.uar for one in scores),
        "failed": len({plan.book.subjects[place] for place in np.flatnonzero((predictions == MISSING).any(axis=0))}),
        "genotype": row.final.genotype,
    }


def _choices(plan: Plan, rows: Sequence[Row]) -> pd.DataFrame:
    lines = [
        {
            "group": study,
            "budget": row.budget,
            "rule": row.rule,
            "genotype": choice.genotype,
            "params": choice.parameters,
            "inner_uf1": choice.uf1,
        }
        for row in rows
        for study, choice in row.choices.items()
    ]
    return pd.DataFrame(lines, columns=["group", "budget", "rule", "genotype", "params", "inner_uf1"])


def _predictions(plan: Plan, record: Record, rows: Sequence[Row]) -> pd.DataFrame:
    names = plan.dataset.classes
    place_to_row = np.argsort(plan.book.clips)
    frames = []
    for row, repetition in itertools.product(rows, range(plan.settings.seeds)):
        predictions, probabilities, genotypes = outer_predictions(plan, record, row, repetition)
        frame = pd.DataFrame(
            {
                "clip": [clip.key for clip in plan.dataset.clips],
                "subject": [clip.subject for clip in plan.dataset.clips],
                "dataset": [clip.dataset for clip in plan.dataset.clips],
                "label": [names[number] for number in plan.dataset.labels],
                "prediction": [names[number] if number >= 0 else "" for number in predictions[place_to_row]],
                "budget": row.budget,
                "rule": row.rule,
                "group": [str(plan.partition.group_of(clip.subject)) for clip in plan.dataset.clips],
                "genotype": genotypes[place_to_row],
                "seed": repetition,
                "protocol": PROTOCOL,
            }
        )
        if row.family:
            frame.insert(5, "baseline", row.family)
            frame = frame.drop(columns="budget")
        for number, name in enumerate(names):
            frame[f"p_{name}"] = probabilities[place_to_row, number]
        frames.append(frame)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _scores(plan: Plan, record: Record, rows: Sequence[Row]) -> pd.DataFrame:
    labels, datasets, names = plan.book.labels, plan.book.datasets, plan.dataset.classes
    lines = []
    for row in rows:
        repetitions = [
            {POOLED: score(labels, one, len(names)), **score_parts(labels, one, datasets, len(names))}
            for one in repeated_predictions(plan, record, row)
        ]
        for part in repetitions[0]:
            scores = [parts[part] for parts in repetitions]
            uf1 = [one.uf1 for one in scores]
            line: dict[str, Any] = {"budget": row.budget, "rule": row.rule, "baseline": row.family, "part": part}
            line |= {"clips": scores[0].clips, "seeds": len(scores)}
            line |= {"uf1": mean(uf1), "uf1_sd": stdev(uf1) if len(uf1) > 1 else math.nan}
            line |= {"uar": mean(one.uar for one in scores), "accuracy": mean(one.accuracy for one in scores)}
            each = zip(*(one.f1 for one in scores), strict=True)
            line |= {f"f1_{name}": mean(values) for name, values in zip(names, each, strict=True)}
            lines.append(line)
    return pd.DataFrame(lines)


def trials_table(plan: Plan, record: Record) -> pd.DataFrame:
    """Return one row per proposal of every study, with its state; also of an unfinished run.

    Where candidates are stopped, `folds` is after how many of its folds, in plan order, a candidate was decided; 0 if
    that was after its short training.
    """
    lines = []
    for study in plan.studies:
        for draw in record.ledger.draws(study):
            state, inner, folds = draw.state, None, None
            if draw.state == ACCEPTED and draw.genotype is not None:
                try:
                    candidate = record.candidate(study, draw.genotype, draw.parameters or 0)
                    verdict = record.verdict(study, draw.genotype)
                    state, folds = verdict.state, verdict.folds
                    inner = candidate.uf1 if candidate.completed else None
                except LookupError:
                    state = "waiting"
            lines.append(
                {
                    "group": study,
                    "number": draw.number,
                    "batch": draw.batch,
                    "place": draw.place,
                    "state": state,
                    "folds": folds,
                    "origin": draw.origin,
                    "params": draw.parameters,
                    "inner_uf1": inner,
                    "genotype": draw.genotype,
                }
            )
    # Where nobody is stopped every candidate has all of them.
    raced = ["folds"] if plan.settings.racing or plan.settings.halving else []
    columns = ["group", "number", "batch", "place", "state", *raced, "origin", "params", "inner_uf1", "genotype"]
    return pd.DataFrame(lines, columns=columns).astype(dict.fromkeys(["params", *raced], "Int64"))


def interim_front(plan: Plan, trials: pd.DataFrame) -> pd.DataFrame:
    """Return the final study's best finished candidate per budget; inner scores only, and no estimate of anything.

    Args:
        plan: The plan.
        trials: Its `trials_table`.
    """
    done = trials[(trials["group"] == FINAL) & (trials["state"] == "completed")]
    lines = []
    columns = zip(done["genotype"], done["params"], done["inner_uf1"], strict=True)
    candidates = [Candidate(genotype, int(size), float(inner)) for genotype, size, inner in columns]
    for budget in plan.budgets:
        top = within(candidates, budget)
        if top is not None:
            lines.append(
                {
                    "budget": budget,
                    "params": top.parameters,
                    "inner_uf1": top.uf1,
                    "genotype": top.genotype,
                    "status": "inner only",
                }
            )
    return pd.DataFrame(lines, columns=["budget", "params", "inner_uf1", "genotype", "status"])


def write_run(folder: Path, plan: Plan, ledger: Ledger, tables: Tables) -> None:
    """Write every table and the YAML of every pipeline that some study chose."""
    for name, table in tables.files().items():
        write_table(folder / name, table)
    chosen = sorted({*tables.choices["genotype"], *tables.baselines["genotype"]})
    for key in chosen:
        write_text(folder / "candidates" / f"{key}.yaml", ledger.genotype(key).to_yaml())
    (folder / "interim.csv").unlink(missing_ok=True)


def write_table(path: Path, table: pd.DataFrame, remedy: str = OTHER_FOLDER) -> None:
    """Write a CSV file; figures are written so that reading them gives the same bits. As `write_bytes` otherwise."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"), remedy)


def write_text(path: Path, text: str, remedy: str = OTHER_FOLDER) -> None:
    """Write a text file whole or not at all; as `write_bytes` otherwise."""
    write_bytes(path, text.encode(), remedy)


def write_bytes(path: Path, content: bytes, remedy: str = OTHER_FOLDER) -> None:
    """Write a file whole or not at all.

    Args:
        path: The file.
        content: What it shall hold.
        remedy: What to do where it cannot be written, unless it is for want of room.

    Raises:
        DataError: If it cannot be written.
    """
    try:
        write_whole(path, lambda file: file.write(content))
    except OSError as error:
        raise unwritable(path, error, ROOM if error.errno in FULL else remedy) from None
