"""Folds together: each is what it is alone, in double precision nearly to the bit, whatever the other folds hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.components.datasets.clip import Dataset
from mernas.components.training.adamw import AdamW
from mernas.components.training.sgd import SGD
from mernas.evaluation import fitting
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.fitting import fit_and_predict, run_job
from mernas.evaluation.fold_rows import MASKED, FoldRows
from mernas.evaluation.folds_together import equal_batches, fit_together, run_together
from mernas.evaluation.jobs import Job, make_job
from mernas.evaluation.preparation import prepare, recipe_of, recipes_of
from mernas.evaluation.rows import number_rows
from mernas.evaluation.stacked_optimizers import stacked_optimizer
from mernas.space.errors import CustodyError
from mernas.space.genotype import parse_genotype
from mernas.space.registry import REGISTRY, register

FLOW = "input: {optical_flow: {estimator: given, size: 14, centre: median}}"
PLAIN = f"""
streams: [{{{FLOW}, backbone: [{{convolution: {{width: 4}}}}]}}]
tasks: [{{emotion: {{head: linear}}}}]
augmentation: [flip, shift]
training: {{scratch: {{epochs: 3, batch: 8, optimizer: {{adamw: {{lr: 0.01, weight_decay: 0.1}}}}}}}}
loss: {{cross_entropy: {{smoothing: 0.1}}}}
"""
RESIDUAL = f"""
streams: [{{{FLOW}, backbone: [{{residual: {{width: 4, attention: cbam}}}}], readout: {{part_pool: {{dropout: 0.0}}}}}}]
tasks: [{{emotion: {{head: linear}}}}]
training:
  scratch:
    epochs: 3
    batch: 8
    schedule: {{step: {{drops: 2}}}}
    optimizer: {{sgd: {{lr: 0.05, momentum: 0.9, weight_decay: 0.01}}}}
loss: {{focal: {{gamma: 1.5}}}}
auxiliary_loss: {{center: {{weight: 0.1}}}}
"""
STREAMS = f"""
streams:
- {{{FLOW}, backbone: [{{depthwise: {{width: 5, activation: gelu, norm: late, attention: se}}}}]}}
- {{input: {{optical_flow: {{estimator: given, quantities: strain, size: 28}}}}, backbone: [{{convolution: {{width: 3,
   pool: average2, norm: none, activation: gelu, kernel: 5}}}}]}}
fusion: {{attention: {{width: 6}}}}
tasks: [{{emotion: {{head: {{mlp: {{hidden: 8, dropout: 0.0}}}}}}}}]
augmentation: [shift, {{noise: {{share: 0.2}}}}]
training: {{scratch: {{epochs: 3, batch: 8, schedule: {{warm_cosine: {{warm: 0.3}}}}}}}}
loss: {{margin_softmax: {{weighting: none}}}}
"""
TOKENS = f"""
streams: [{{{FLOW}, backbone: [{{convolution: {{width: 4, pool: max3_overlapping, norm: biasless, attention: eca}}}}],
  readout: {{patches: {{grid: 3}}}}, cascade: {{transformer: {{heads: 2, head_width: 4, depth: 1, dropout: 0.0}}}}}}]
tasks: [{{emotion: {{head: cosine}}}}]
augmentation: [flip]
training: {{scratch: {{epochs: 3, batch: 8, schedule: constant, optimizer: {{sgd: {{momentum: 0.0}}}}}}}}
loss: logit_adjusted
"""
TWINS = f"""
streams:
- {{{FLOW}, backbone: [{{convolution: {{width: 4}}}}], readout: {{average: {{grid: 1}}}}}}
- {{{FLOW}, backbone: [{{convolution: {{width: 3, pool: max3}}}}, {{dilated: {{width: 4}}}}],
   readout: {{average: {{grid: 1}}}}}}
fusion: scores
tasks: [{{emotion: {{head: linear}}}}]
augmentation: [{{erase: {{probability: 0.7}}}}, flip]
training: {{scratch: {{epochs: 2, batch: 8}}}}
loss: {{cross_entropy: {{weighting: none}}}}
"""
NETWORKS = {"plain": PLAIN, "residual": RESIDUAL, "streams": STREAMS, "tokens": TOKENS, "twins": TWINS}
KEPT = (28, 29, 25, 24)
"""Training rows of the folds: batches of 8 8 8 4, of 8 8 8 5, of 8 8 9, and of 8 8 8, so with a step less."""

Made = tuple[list[Job], FeatureStore]
Make = Callable[..., Made]


@pytest.fixture
def jobs_of(toy: Callable[..., Dataset], tmp_path: Path) -> Make:
    def made(text: str, kept: Sequence[int] = KEPT, kind: torch.dtype = torch.float64) -> Made:
        data = toy(signal=0.5)
        genotype = parse_genotype(text)
        book = number_rows(data, seed=0)
        jobs = []
        for subject, count in zip(data.subjects, kept, strict=False):
            _, job = make_job(genotype, (subject,), book, len(data.classes), 3)
            jobs.append(replace(job, train_rows=job.train_rows[:count], train_labels=job.train_labels[:count]))
        clips = [data.clips[place] for place in book.clips]
        maps = {one.hash: torch.from_numpy(prepare(clips, one, tmp_path)).to(kind) for one in recipes_of([genotype])}
        return jobs, FeatureStore(maps)

    return made


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def far(found: np.ndarray | None, wanted: np.ndarray | None) -> float:
    assert found is not None
    assert wanted is not None
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("double")
def test_each_fold_is_in_double_precision_what_it_is_alone(name: str, jobs_of: Make) -> None:
    jobs, store = jobs_of(NETWORKS[name])
    together = fit_together(jobs, store)
    starts = []
    for job, fitted in zip(jobs, together, strict=True):
        probabilities, epochs = fit_and_predict(job, store)
        assert far(fitted.probabilities, probabilities) < 1e-8
        assert epochs is not None
        assert fitted.epoch_predictions is not None
        assert fitted.epoch_predictions.tolist() == epochs.tolist()
        starts.append(probabilities.tobytes())
    assert len(set(starts)) == len(jobs)


class Unchanged:
    """Stands in the place of `Quickening` and leaves torch's own layers where they are."""

    def __init__(self, network: nn.Module, device: str = "cpu") -> None:
        pass

    def on(self) -> None:
        pass

    def off(self) -> None:
        pass


def without_biases(text: str) -> str:
    """A bias before a norm has no gradient but rounding, of which AdamW makes steps that a running mean lags behind."""
    text = text.replace("{convolution: {width: 4}}", "{convolution: {width: 4, norm: biasless}}")
    text = text.replace("width: 3, pool: max3}", "width: 3, pool: max3, norm: biasless}")
    return text.replace("{dilated: {width: 4}}", "{dilated: {width: 4, norm: biasless}}")


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_each_fold_is_in_single_precision_what_it_is_alone_quickened_or_not(
    name: str, quick: bool, jobs_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not quick:
        monkeypatch.setattr(fitting, "Quickening", Unchanged)
    jobs, store = jobs_of(without_biases(NETWORKS[name]), kind=torch.float32)
    for job, fitted in zip(jobs, fit_together(jobs, store), strict=True):
        assert far(fitted.probabilities, fit_and_predict(job, store)[0]) < 1e-4


@pytest.mark.usefixtures("double")
def test_predictions_are_watched_where_a_job_wants_them_and_watching_changes_no_bit(jobs_of: Make) -> None:
    jobs, store = jobs_of(PLAIN)
    watched = fit_together(jobs, store)
    blind = fit_together([replace(job, watch_epochs=job is jobs[0]) for job in jobs], store)
    assert [one.epoch_predictions is None for one in blind] == [False, True, True, True]
    for one, other in zip(watched, blind, strict=True):
        assert far(one.probabilities, other.probabilities) == 0


@pytest.mark.usefixtures("double")
def test_labels_and_rows_of_a_fold_change_that_fold_alone(jobs_of: Make) -> None:
    jobs, store = jobs_of(PLAIN)
    before = fit_together(jobs, store)
    relabelled = replace(jobs[1], train_labels=(jobs[1].train_labels + 1) % 3)
    fewer = replace(jobs[1], train_rows=jobs[1].train_rows[3:], train_labels=jobs[1].train_labels[3:])
    for changed, tolerance in ((relabelled, 0.0), (fewer, 1e-10)):  # other rows are other company, and other rounding
        after = fit_together([jobs[0], changed, *jobs[2:]], store)
        apart = [far(one.probabilities, other.probabilities) for one, other in zip(before, after, strict=True)]
        assert apart.pop(1) > 1e-3
        assert max(apart) <= tolerance


@pytest.mark.usefixtures("double")
def test_what_a_fold_leaves_out_and_others_train_on_changes_no_bit_of_its_model(jobs_of: Make) -> None:
    jobs, store = jobs_of(PLAIN)
    used = np.unique(np.concatenate([job.train_rows for job in jobs]))
    assert np.isin(jobs[0].predict_rows, used).any()
    maps = {recipe: tensor.clone() for recipe, tensor in store.maps.items()}
    for tensor in maps.values():
        tensor[torch.from_numpy(jobs[0].predict_rows)] = 100.0
    unseen = np.setdiff1d(np.arange(36), [*jobs[0].predict_rows, *jobs[0].train_rows])
    asked = replace(jobs[0], predict_rows=unseen)  # rows whose maps stay as they are
    before, after = (fit_together([asked, *jobs[1:]], FeatureStore(given)) for given in (store.maps, maps))
    apart = [far(one.probabilities, other.probabilities) for one, other in zip(before, after, strict=True)]
    assert apart[0] == 0
    assert min(apart[1:]) > 1e-3  # the others did learn from them


def rows_of(jobs: Sequence[Job], store: FeatureStore) -> FoldRows:
    recipes = [recipe_of(stream).hash for stream in jobs[0].genotype.streams]
    return FoldRows(jobs, store, recipes, [("u", "v")], "cpu")


def test_a_fold_is_refused_rows_beside_its_own_and_its_labels_are_masked_there(jobs_of: Make) -> None:
    jobs, store = jobs_of(PLAIN, kind=torch.float32)
    rows = rows_of(jobs, store)
    generator = torch.Generator()
    for strange in (-1, len(jobs[2].train_rows)):
        with pytest.raises(CustodyError, match="fold 2"):
            rows.take([1, 2], [torch.tensor([0, 1]), torch.tensor([0, strange])], [], [generator] * 2)
    for number, job in enumerate(jobs):
        labels = rows.labels(number, torch.from_numpy(job.train_labels))
        inside = np.isin(rows.rows, job.train_rows)
        assert labels[torch.from_numpy(~inside)].tolist() == [MASKED] * int((~inside).sum())
        assert labels[torch.from_numpy(inside)].tolist() == job.train_labels.tolist()
        maps, places = rows.take([number], [torch.arange(job.train_rows.size)], [], [generator])
        assert rows.rows[places[0].numpy()].tolist() == job.train_rows.tolist()
        recipe = recipe_of(job.genotype.streams[0]).hash
        assert torch.equal(maps[0][0], store.select(recipe, job.train_rows))


def test_a_planted_leak_of_a_held_out_row_into_a_batch_fails_instead_of_training(
    jobs_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, store = jobs_of(PLAIN, kind=torch.float32)
    honest = FoldRows.places

    def leaking(rows: FoldRows, fold: int, batch: Tensor) -> Tensor:
        places = honest(rows, fold, batch)
        if fold == 1:
            places[0] = int(np.searchsorted(rows.rows, jobs[1].predict_rows[0]))  # there, because others train on it
        return places

    monkeypatch.setattr(FoldRows, "places", leaking)
    outcomes = run_together(jobs, store)
    assert all(outcome.probabilities is None and outcome.failure for outcome in outcomes)


@dataclass(frozen=True)
class BreaksAtOneSize:
    """A loss that is no number where there are so many training rows."""

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, rows: TrainingRows) -> nn.Module:
        return BreakingModule(torch.tensor(float("nan") if len(rows.labels) == 29 else 1.0))


class BreakingModule(nn.Module):
    factor: Tensor

    def __init__(self, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("factor", factor)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.factor * nn.functional.cross_entropy(logits, targets)


@pytest.fixture
def breaking() -> Iterator[None]:
    register("loss", "breaks_at_one_size")(BreaksAtOneSize)
    yield
    REGISTRY.remove("loss", "breaks_at_one_size")


@pytest.mark.usefixtures("double", "breaking")
def test_what_is_no_number_in_one_fold_is_the_failure_of_that_fold_alone(jobs_of: Make) -> None:
    jobs, store = jobs_of(PLAIN.replace("{cross_entropy: {smoothing: 0.1}}", "breaks_at_one_size"))
    outcomes = run_together(jobs, store)
    alone = [run_job(job, store) for job in jobs]
    assert outcomes[1].failure_name == "not-finite"
    assert [outcome.failure for outcome in outcomes] == [outcome.failure for outcome in alone]
    assert [outcome.key for outcome in outcomes] == [job.key for job in jobs]
    for number in (0, 2, 3):
        assert far(outcomes[number].probabilities, alone[number].probabilities) < 1e-8


def test_dropout_differs_from_fold_to_fold_and_equal_batches_give_equal_bits(jobs_of: Make) -> None:
    text = PLAIN.replace("width: 4", "width: 4, dropout: 0.5").replace("augmentation: [flip, shift]", "")
    (job, *_), store = jobs_of(text, kind=torch.float32)
    twins = fit_together([job, job], store)  # with one start, the same batches, and masks of their own
    assert far(twins[0].probabilities, twins[1].probabilities) > 1e-4
    again = fit_together([job, job], store)
    assert [far(one.probabilities, other.probabilities) for one, other in zip(twins, again, strict=True)] == [0, 0]
    still = text.replace("dropout: 0.5", "dropout: 0.0")
    (job, *_), store = jobs_of(still, kind=torch.float32)
    one, other = fit_together([job, job], store)
    assert far(one.probabilities, other.probabilities) == 0


def test_jobs_of_two_pipelines_and_courses_that_cannot_be_batched_are_refused(jobs_of: Make) -> None:
    jobs, store = jobs_of(PLAIN, kind=torch.float32)
    others, _ = jobs_of(RESIDUAL, kind=torch.float32)
    with pytest.raises(ValueError, match="one pipeline"):
        fit_together([jobs[0], others[1]], store)
    averaged, store = jobs_of(PLAIN.replace("batch: 8", "batch: 8, averaging: ema"), kind=torch.float32)
    with pytest.raises(ValueError, match="averages"):
        fit_together(averaged, store)


def test_steps_of_equally_large_batches_are_taken_together_and_each_fold_takes_its_own_in_order() -> None:
    sizes = [[8, 8, 6], [8, 8, 6], [8, 9], [8, 8]]
    steps = equal_batches(sizes)
    assert steps == [(0, [0, 1, 2, 3]), (1, [0, 1, 3]), (1, [2]), (2, [0, 1])]
    for fold, own in enumerate(sizes):
        assert [place for place, folds in steps if fold in folds] == list(range(len(own)))


@pytest.mark.parametrize(
    "component",
    [AdamW(lr=0.03, weight_decay=0.2), SGD(lr=0.1, momentum=0.8, weight_decay=0.05), SGD(lr=0.1, momentum=0.0)],
)
@pytest.mark.usefixtures("double")
def test_stacked_steps_are_torchs_steps_with_counts_and_rates_of_their_own(component: AdamW | SGD) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(3, 5, generator=generator)
    alone = [nn.Parameter(row.clone()) for row in weights]
    torchs = [component.build([parameter]) for parameter in alone]
    stacked = stacked_optimizer(component, weights)
    counts = [0, 0, 0]
    for folds in ([0, 1, 2], [1], [0, 2], [0, 1, 2], [2]):
        gradients = torch.randn(len(folds), 5, generator=generator)
        factors = [0.5 + fold / 4 for fold in folds]
        for fold, gradient, factor in zip(folds, gradients, factors, strict=True):
            counts[fold] += 1
            alone[fold].grad = gradient.clone()
            torchs[fold].param_groups[0]["lr"] = component.lr * factor
            torchs[fold].step()
        which = None if len(folds) == 3 else torch.tensor(folds)
        stacked.step(gradients, factors, [counts[fold] for fold in folds], which)
    assert torch.allclose(weights, torch.stack([parameter.detach() for parameter in alone]), atol=1e-12)
