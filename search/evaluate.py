"""Plain protocols: one pipeline, fixed beforehand, under leave-one-subject-out. Nothing is chosen by its score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import mernas.components  # noqa: F401  # registers every component
from mernas.components.datasets.clip import Dataset
from mernas.components.topologies.network import count_parameters
from mernas.evaluation.audit import EpochAudit, audit_epochs
from mernas.evaluation.bootstrap import draw_resamples, interval
from mernas.evaluation.jobs import Job, Outcome, make_job
from mernas.evaluation.metrics import MISSING, Scores, score, score_parts
from mernas.evaluation.protocols import protocol
from mernas.evaluation.rows import number_rows
from mernas.evaluation.together_or_apart import why_apart
from mernas.search.baselines import plain_baseline
from mernas.search.data_needs import data_in_words, needs_of_data
from mernas.search.dispatch import Dispatcher
from mernas.search.executor import Executor
from mernas.search.features import FeatureShelf
from mernas.search.kept_folds import kept, kept_folds
from mernas.search.reporter import Reporter, Silent
from mernas.search.run import SLOWER, load_data
from mernas.search.shared_batches import fold_batches, training_steps
from mernas.search.workers import chosen_executor, require_cuda, working
from mernas.space.errors import PlanError, Problem, UnavailableError, UnknownNameError, nearest, raise_all
from mernas.space.genotype import Genotype, from_plain
from mernas.space.presets import load_preset, preset_names
from mernas.space.registry import REGISTRY
from mernas.space.tree import SearchSpace
from mernas.space.yaml_text import is_file, load_yaml, read_yaml

FOLD_BLOCK = 8
"""At most so many folds are done by one worker at a stretch."""


@dataclass(frozen=True, eq=False)
class EvaluationResult:
    """What a plain protocol gave.

    Attributes:
        name: The preset, baseline or file.
        genotype: The pipeline.
        parameters: Its parameter count; None for classical classifiers.
        protocol: The protocol's name.
        scores: Pooled over all clips.
        parts: The same for each dataset.
        ci_low, ci_high: 95% interval of UF1 over subjects.
        predictions: One row per clip.
        audit: What UF1 becomes where the test subjects pick the epoch: no result. None for classical classifiers, and
            where a fold has no prediction.
    """

    name: str
    genotype: Genotype
    parameters: int | None
    protocol: str
    scores: Scores
    parts: dict[str, Scores]
    ci_low: float
    ci_high: float
    predictions: pd.DataFrame
    audit: EpochAudit | None = None


def find_pipeline(name: str, data: Dataset) -> Genotype:
    """Return the pipeline of a preset, a baseline or a YAML file, fitted to the data at hand.

    A preset of given flow runs on data with frames too: the estimator is then Farneback's. Maps that the preset takes
    as they are, in the release's 0 to 255, are then standardised, because the flow is in pixels.

    Raises:
        UnknownNameError: If there is no such preset, baseline or file.
        UnavailableError: If the data lack what the pipeline needs.
    """
    lower = name.lower()
    if lower in preset_names():
        genotype = _preset(lower, data)
    elif lower in REGISTRY.names("classifier"):
        genotype = plain_baseline(lower, data)
    elif is_file(name):
        genotype = from_plain(read_yaml(Path(name)), name)
    else:
        known = (*preset_names(), *REGISTRY.names("classifier"))
        remedy = f"{nearest(lower, known)}; or give the path of a YAML file"
        raise UnknownNameError(Problem(f'pipeline "{name}"', "is no preset, baseline or file", "", remedy))
    raise_all(UnavailableError, _misfits(genotype, data))
    return genotype


def run_evaluation(
    pipeline: Genotype | str,
    data: Dataset | str,
    *,
    protocol_name: str = "loso",
    seed: int = 0,
    device: str = "cpu",
    cache: Path | None = None,
    executor: str | Executor = "auto",
    workers: int | None = None,
    address: str | None = None,
    reporter: Reporter | None = None,
    stopping: Callable[[], bool] = lambda: False,
    keep: str | Path | None = None,
    together: bool = False,
) -> EvaluationResult:
    """Evaluate one pipeline under a plain protocol.

    Args:
        pipeline: A genotype, or what `find_pipeline` takes.
        data: A dataset, or what `load_data` takes.
        protocol_name: `loso`.
        seed: One seed, one result.
        device: `cpu` or `cuda`.
        cache: The folder of prepared maps.
        executor: `serial`, `ray`, or an executor; by default Ray Tune where there is more than one worker.
        workers: How many jobs run at once; by default 1, or what a cluster has.
        address: Of a Ray cluster, e.g. `auto`.
        reporter: Who tells the user.
        stopping: Asked between jobs whether to stop.
        keep: A folder in which finished folds are kept: the same call then goes on where it was stopped.
        together: Train the folds as one, as suits a GPU; this is a numeric path of its own. Where the pipeline does not
            allow it, they are trained one by one, and the reporter is told why.

    Raises:
        MernasError: For every mistake of the user.
        Interrupted: If `stopping` said so.

    Example:
        >>> result = run_evaluation("majority", "synthetic")
        >>> result.protocol, result.scores.failed
        ('loso', 0)
    """
    if seed < 0:
        raise PlanError(Problem("--seed", "must not be negative", str(seed)))
    workers = 1 if workers is None and address is None and executor != "ray" else workers
    if isinstance(executor, str):
        chosen_executor(executor, workers, device, address)
    if device == "cuda" and address is None:
        require_cuda()
    dataset = load_data(data) if isinstance(data, str) else data
    folds = protocol(protocol_name)([clip.subject for clip in dataset])
    genotype = find_pipeline(pipeline, dataset) if isinstance(pipeline, str) else pipeline
    raise_all(UnavailableError, _misfits(genotype, dataset))
    book = number_rows(dataset, seed)
    reporter = reporter or Silent()
    preset = pipeline.lower() if isinstance(pipeline, str) and pipeline.lower() in preset_names() else None
    if preset is not None and genotype != load_preset(preset).genotype:
        reporter.say(f"{pipeline} runs on Farneback's flow, standardised, because the data ship no flow maps.")
    classes = len(dataset.classes)
    # Counting builds the network without training it: what cannot be built is refused before anything is prepared.
    parameters = count_parameters(genotype, classes) if genotype.is_network else None
    tested = [sorted({dataset.clips[place].subject for place in fold.test}) for fold in folds]
    why = why_apart(genotype) if together else ""
    if why:
        reporter.say(f"The folds train one by one: {why}.")
    together = together and not why
    if together and device == "cpu":
        reporter.say(SLOWER)
    tasks = [make_job(genotype, subjects, book, classes, seed, device, together=together) for subjects in tested]
    keys = {key.hash: key for key, _ in tasks}
    predictions = np.full(len(dataset), MISSING, dtype=np.int64)
    probabilities = np.full((len(dataset), classes), np.nan)
    by_epoch: list[tuple[NDArray[np.int64], NDArray[np.int8]]] = []

    def take(rows: NDArray[np.int64], found: NDArray[np.float64] | None, epochs: NDArray[np.int8] | None) -> None:
        places = book.clips[rows]
        if epochs is not None:
            by_epoch.append((places, epochs))
        if found is not None:
            predictions[places] = found.argmax(axis=1)
            probabilities[places] = found

    folder = None if keep is None else Path(keep)
    with kept_folds(folder, genotype, dataset, protocol_name, seed, device, together) as ledger:

        def arrived(job: Job, outcome: Outcome) -> None:
            if ledger is not None:
                read = [book.subjects[row] for row in job.train_rows]
                ledger.add_job(keys[job.key], outcome, job.predict_rows, read)
            take(job.predict_rows, outcome.probabilities, outcome.epoch_predictions)
            reporter.advance()

        def batch_arrived(pairs: Sequence[tuple[Job, Outcome]]) -> None:
            if ledger is not None:
                ledger.add_jobs(
                    [
                        (keys[job.key], outcome, job.predict_rows, [book.subjects[row] for row in job.train_rows])
                        for job, outcome in pairs
                    ]
                )
            for job, outcome in pairs:
                take(job.predict_rows, outcome.probabilities, outcome.epoch_predictions)
                reporter.advance()

        waiting: list[Job] = []
        for key, job in tasks:
            known = kept(ledger, key)
            if known is None:
                waiting.append(job)
            else:
                take(known.rows, known.probabilities, known.epoch_predictions)
        if waiting:
            store = FeatureShelf(dataset, book, cache, reporter, stopping).store([genotype])
            title = pipeline if isinstance(pipeline, str) else genotype.hash
            reporter.stage(f"{protocol_name.upper()} of {title}", len(waiting))
            with working(executor, workers, device, address) as made:
                dispatcher = Dispatcher(made, arrived, reporter.say, record_batch=batch_arrived)
                if together:  # a batch is recorded whole, so that what is left are whole batches
                    left = {job.key for job in waiting}
                    jobs = [job for _, job in tasks]
                    for batch in fold_batches(jobs, parameters or 0, training_steps(genotype, len(dataset))):
                        if batch[0].key in left:
                            dispatcher.add_batch(batch, store)
                else:
                    dispatcher.add(waiting, store, FOLD_BLOCK)
                dispatcher.run(stopping)
    result = _result(pipeline, genotype, parameters, dataset, protocol_name, seed, predictions, probabilities)
    return replace(result, audit=_audit(dataset, by_epoch))


def _audit(dataset: Dataset, by_epoch: Sequence[tuple[NDArray[np.int64], NDArray[np.int8]]]) -> EpochAudit | None:
    if sum(len(places) for places, _ in by_epoch) < len(dataset):
        return None
    epochs = np.empty((len(by_epoch[0][1]), len(dataset)), dtype=np.int64)
    for places, predicted in by_epoch:
        epochs[:, places] = predicted
    return audit_epochs(dataset.labels, epochs, [clip.subject for clip in dataset], len(dataset.classes))


def _result(
    pipeline: Genotype | str,
    genotype: Genotype,
    parameters: int | None,
    dataset: Dataset,
    protocol_name: str,
    seed: int,
    predictions: NDArray[np.int64],
    probabilities: NDArray[np.float64],
) -> EvaluationResult:
    subjects = [clip.subject for clip in dataset]
    datasets = [clip.dataset for clip in dataset]
    labels, classes = dataset.labels, len(dataset.classes)
    drawn = draw_resamples(subjects, datasets, labels, classes, seed)
    low, high = interval("uf1", labels, predictions, subjects, drawn)
    names = dataset.classes
    table = pd.DataFrame(
        {
            "clip": [clip.key for clip in dataset],
            "subject": subjects,
            "dataset": datasets,
            "label": [names[number] for number in labels],
            "prediction": [names[number] if number >= 0 else "" for number in predictions],
            "genotype": genotype.hash,
            "seed": seed,
            "protocol": protocol_name,
            **{f"p_{name}": probabilities[:, number] for number, name in enumerate(names)},
        }
    )
    return EvaluationResult(
        name=pipeline if isinstance(pipeline, str) else genotype.hash,
        genotype=genotype,
        parameters=parameters,
        protocol=protocol_name,
        scores=score(labels, predictions, classes),
        parts=score_parts(labels, predictions, datasets, classes),
        ci_low=low,
        ci_high=high,
        predictions=table,
    )


def _misfits(genotype: Genotype, data: Dataset) -> list[Problem | str]:
    """Why a pipeline cannot run on some data."""
    return SearchSpace(data.provides, pipeline=genotype.root.name).problems(genotype)


def _preset(name: str, data: Dataset) -> Genotype:
    """The pipeline of a preset on some data; where they lack something, one message says what would do."""
    genotype = load_preset(name).genotype
    needs = needs_of_data(genotype)
    if needs <= data.provides:
        return genotype
    measured = _with_farneback(genotype)
    if measured == genotype or not needs_of_data(measured) <= data.provides:
        have = ", ".join(sorted(data.provides)) or "nothing"
        rule = f"unavailable: needs {data_in_words(needs)}"
        raise UnavailableError(Problem(f'preset "{name}"', rule, f"data that provide {have}", "use other data"))
    return measured


def _with_farneback(genotype: Genotype) -> Genotype:
    """The same pipeline with every given flow taken from frames, and standardised, instead; or as it is without any."""
    plain = load_yaml(genotype.to_yaml())
    given = [
        stream["input"]["optical_flow"]
        for stream in plain["streams"]
        if stream["input"].get("optical_flow", {}).get("estimator") == {"given": {}}
    ]
    if not given:
        return genotype
    for flow in given:
        flow["estimator"] = "farneback"
    if genotype.is_network:
        plain["normalisation"] = "standardise"
    return from_plain(plain)
