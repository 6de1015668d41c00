"""Folds together: each is what it is alone, in double precision nearly to the bit, whatever the other folds hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mernas.components.contracts import TRAINING_ROWS, TrainingRows
from mernas.components.datasets.clip import Dataset
from mernas.components.training.adamw import AdamW
from mernas.components.training.sgd import SGD
from mernas.evaluation import fitting, folds_together
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.fitting import fit_and_predict, run_job
from mernas.evaluation.flat_optimizers import flat_optimizer
from mernas.evaluation.fold_rows import MASKED, FoldRows
from mernas.evaluation.folds_together import divided, fit_together, run_together
from mernas.evaluation.jobs import Job, make_job
from mernas.evaluation.preparation import prepare, recipe_of, recipes_of
from mernas.evaluation.rows import number_rows
from mernas.space.errors import CustodyError
from mernas.space.genotype import instantiate, parse_genotype
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
MIXED = f"""
streams: [{{{FLOW}, backbone: [{{convolution: {{width: 4}}}}], readout: {{average: {{grid: 3}}}}}}]
tasks: [{{emotion: {{head: linear}}}}]
augmentation: [{{rotate: {{degrees: 8.0}}}}]
training:
  scratch: {{epochs: 3, batch: 8, mixing: cutmix, averaging: {{ema: {{decay: 0.7}}}}, sampler: label_balanced}}
loss: cross_entropy
auxiliary_loss: {{center: {{weight: 0.1}}}}
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
NETWORKS = {"plain": PLAIN, "residual": RESIDUAL, "streams": STREAMS, "tokens": TOKENS, "twins": TWINS, "mixed": MIXED}
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


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_gpu
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.usefixtures("double")
def test_each_fold_is_on_a_gpu_what_it_is_alone_there_and_on_a_processor(name: str, jobs_of: Make) -> None:
    jobs, store = jobs_of(NETWORKS[name])
    there = [replace(job, device="cuda") for job in jobs]
    for job, moved, fitted in zip(jobs, there, fit_together(there, store), strict=True):
        assert far(fitted.probabilities, fit_and_predict(moved, store)[0]) < 1e-8
        assert far(fitted.probabilities, fit_and_predict(job, store)[0]) < 1e-4  # other kernels, in another order


@needs_gpu
@pytest.mark.parametrize("name", NETWORKS)
def test_on_a_gpu_one_seed_gives_the_same_bits_again_together_and_alone(name: str, jobs_of: Make) -> None:
    jobs, store = jobs_of(NETWORKS[name].replace("dropout: 0.0", "dropout: 0.3"), kind=torch.float32)
    there = [replace(job, device="cuda") for job in jobs]
    for one, other in zip(fit_together(there, store), fit_together(there, store), strict=True):
        assert far(one.probabilities, other.probabilities) == 0
    for job in there:
        assert far(fit_and_predict(job, store)[0], fit_and_predict(job, store)[0]) == 0


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
    for strange in (-1, len(jobs[2].train_rows)):
        with pytest.raises(CustodyError, match="fold 2"):
            rows.places(2, torch.tensor([0, strange]))
    for number, job in enumerate(jobs):
        labels = rows.labels(number, torch.from_numpy(job.train_labels))
        inside = np.isin(rows.rows, job.train_rows)
        assert labels[torch.from_numpy(~inside)].tolist() == [MASKED] * int((~inside).sum())
        assert labels[torch.from_numpy(inside)].tolist() == job.train_labels.tolist()
        places = rows.places(number, torch.arange(job.train_rows.size))
        assert rows.rows[places.numpy()].tolist() == job.train_rows.tolist()
        recipe = recipe_of(job.genotype.streams[0]).hash
        assert torch.equal(rows.chosen(places)[0], store.select(recipe, job.train_rows))


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


@pytest.mark.usefixtures("double")
def test_dropout_sampled_and_mixed_batches_and_averages_of_a_fold_are_those_that_it_has_alone(
    jobs_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "Quickening", Unchanged)
    monkeypatch.setattr(fitting, "laid_out", lambda maps, device: maps)  # masks are drawn in the order of memory
    drawn = "batch: 8, sampler: class_balanced, mixing: mixup, averaging: swa"
    text = PLAIN.replace("width: 4", "width: 4, dropout: 0.5").replace("batch: 8", drawn)
    jobs, store = jobs_of(text)
    for job, fitted in zip(jobs, fit_together(jobs, store), strict=True):
        assert far(fitted.probabilities, fit_and_predict(job, store)[0]) < 1e-8
    still, _ = jobs_of(text.replace("dropout: 0.5", "dropout: 0.0"))
    assert far(fit_together(still, store)[0].probabilities, fit_and_predict(jobs[0], store)[0]) > 1e-4


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_a_fold_is_the_same_to_the_bit_in_any_company_and_order(
    device: str, jobs_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds_together, "MOST_LANES", 2)  # so that a lane has several folds on a GPU, too
    text = PLAIN.replace("width: 4", "width: 4, dropout: 0.5")
    jobs, store = jobs_of(text, kind=torch.float32)
    jobs = [replace(job, device=device) for job in jobs]
    wanted = fit_together(jobs, store)
    turned = fit_together(jobs[::-1], store)[::-1]
    single = [fit_together([job], store)[0] for job in jobs]
    for one, other, alone in zip(wanted, turned, single, strict=True):
        assert far(one.probabilities, other.probabilities) == 0
        assert far(one.probabilities, alone.probabilities) == 0


def test_a_fold_that_keeps_something_else_beside_its_numbers_is_refused(
    jobs_of: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, store = jobs_of(PLAIN, kind=torch.float32)
    honest = folds_together.fitted_network

    def odd(*given: Any) -> nn.Module:
        network = honest(*given)
        network.kept = len(given[1].labels)  # type: ignore[assignment]  # any attribute
        return network

    monkeypatch.setattr(folds_together, "fitted_network", odd)
    assert {outcome.failure_name for outcome in run_together(jobs, store)} == {"crash"}


def test_jobs_of_two_pipelines_are_refused(jobs_of: Make) -> None:
    jobs, store = jobs_of(PLAIN, kind=torch.float32)
    others, _ = jobs_of(RESIDUAL, kind=torch.float32)
    with pytest.raises(ValueError, match="one pipeline"):
        fit_together([jobs[0], others[1]], store)


def test_lanes_have_about_equally_many_folds_and_those_with_equal_batches_next_to_each_other(jobs_of: Make) -> None:
    jobs, _ = jobs_of(PLAIN, kind=torch.float32)
    strategy = instantiate(jobs[0].genotype["training"])
    assert divided(jobs, strategy, 2) == [[3, 0], [1, 2]]  # batches of 8 8 8, 8 8 8 4, 8 8 8 5 and 8 8 9
    assert [len(share) for share in divided(jobs * 17, strategy, 16)] == [5] * 13 + [3]
    assert divided(jobs, strategy, 16) == [[3], [0], [1], [2]]


@pytest.mark.parametrize(
    "component",
    [AdamW(lr=0.03, weight_decay=0.2), SGD(lr=0.1, momentum=0.8, weight_decay=0.05), SGD(lr=0.1, momentum=0.0)],
)
@pytest.mark.usefixtures("double")
def test_flat_steps_are_torchs_steps_and_begin_anew_when_told_to(component: AdamW | SGD) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(5, generator=generator)
    weights = start.clone()
    flat = flat_optimizer(component, weights)
    factors = [1.0, 0.75, 0.5, 0.25]
    for _ in range(2):
        weights.copy_(start)
        flat.forget()
        alone = nn.Parameter(start.clone())
        torchs = component.build([alone])
        for factor, figures in zip(factors, flat.figures(factors), strict=True):
            gradient = torch.randn(5, generator=generator)
            alone.grad = gradient.clone()
            torchs.param_groups[0]["lr"] = component.lr * factor
            torchs.step()
            flat.step(gradient, figures)
        assert torch.allclose(weights, alone.detach(), atol=1e-12)
