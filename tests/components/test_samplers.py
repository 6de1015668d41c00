"""Samplers, mixing, averaging and schedules: what must hold of them, and formulas in NumPy and torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from mernas.components.training.class_balanced import ClassBalanced
from mernas.components.training.cosine import Cosine
from mernas.components.training.cutmix import Cutmix
from mernas.components.training.ema import EMA
from mernas.components.training.label_balanced import LabelBalanced
from mernas.components.training.mixup import Mixup
from mernas.components.training.step import Step
from mernas.components.training.swa import SWA
from mernas.components.training.warm_cosine import WarmCosine
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import BALANCED_BATCHES, PIXELS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Samplers

LABELS = st.lists(st.sampled_from([0, 1, 2, 4, 6]), min_size=1, max_size=60)  # 3 and 5 never occur


@given(LABELS, st.integers(2, 40), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_class_balanced_batches_hold_as_many_clips_of_each_of_several_classes(
    labels: list[int], size: int, seed: int
) -> None:
    present = set(labels)
    batches = ClassBalanced().batches(torch.tensor(labels), size, seeded(seed))
    assert batches
    for batch in batches:
        assert 2 <= len(batch) <= max(4, size)
        held = [labels[row] for row in batch.tolist()]
        counts = {label: held.count(label) for label in set(held)}
        assert len(set(counts.values())) == 1
        assert min(counts.values()) >= 2
        assert len(counts) >= min(2, len(present))
        for label, count in counts.items():
            distinct = {row for row in batch.tolist() if labels[row] == label}
            assert len(distinct) == min(count, labels.count(label))
    drawn = torch.cat(batches).tolist()
    times = [sum(labels[row] == label for row in drawn) for label in present]
    clips = len(batches[0]) // len({labels[row] for row in batches[0].tolist()})
    assert max(times) - min(times) in (0, clips)
    for label in present:
        rows = [drawn.count(row) for row, own in enumerate(labels) if own == label]
        assert max(rows) - min(rows) <= 1


@pytest.mark.parametrize(("rows", "size"), [(442, 32), (442, 8), (100, 64), (31, 32)])
def test_class_balanced_epoch_is_about_as_long_as_the_training_rows(rows: int, size: int) -> None:
    labels = torch.from_numpy(np.random.default_rng(0).choice(3, size=rows, p=[0.6, 0.3, 0.1]))
    batches = ClassBalanced().batches(labels, size, seeded())
    assert abs(sum(map(len, batches)) - rows) <= size / 2
    assert all(size - 3 < len(batch) <= size for batch in batches) or rows < size


def test_class_balanced_sampler_changes_the_classes_of_small_batches() -> None:
    labels = torch.arange(7).repeat(20)
    batches = ClassBalanced().batches(labels, 8, seeded())
    assert all(len(labels[batch].unique()) == 4 for batch in batches)
    assert len({tuple(labels[batch].unique().tolist()) for batch in batches}) > 5
    drawn = labels[torch.cat(batches)].bincount()
    assert int(drawn.max() - drawn.min()) <= 2


@given(LABELS, st.integers(1, 40), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_label_balanced_batches_are_an_epoch_without_a_single_row(labels: list[int], size: int, seed: int) -> None:
    batches = LabelBalanced().batches(torch.tensor(labels), size, seeded(seed))
    assert sum(map(len, batches)) == max(2, len(labels))
    assert all(2 <= len(batch) <= max(2, size) + 1 for batch in batches)
    assert all(0 <= int(row) < len(labels) for batch in batches for row in batch)


def test_label_balanced_sampler_draws_classes_equally_and_clips_of_a_class_equally() -> None:
    labels = torch.tensor([0] * 300 + [2] * 60 + [5] * 6)
    drawn = torch.cat([row for seed in range(50) for row in LabelBalanced().batches(labels, 32, seeded(seed))])
    classes = labels[drawn].bincount()[[0, 2, 5]].numpy()
    assert stats.chisquare(classes).pvalue > 1e-3
    assert stats.chisquare(drawn.bincount()[300:360].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("sampler", [ClassBalanced(), LabelBalanced()], ids=str)
def test_samplers_follow_their_generator_alone(sampler: Any) -> None:
    labels = torch.tensor([0] * 30 + [1] * 10)
    torch.manual_seed(0)
    first = sampler.batches(labels, 8, seeded(3))
    torch.manual_seed(1)
    second, other = sampler.batches(labels, 8, seeded(3)), sampler.batches(labels, 8, seeded(4))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]
    assert [batch.tolist() for batch in first] != [batch.tolist() for batch in other]
    assert sampler.batches(labels[:0], 8, seeded()) == []


def test_only_the_sampler_of_several_clips_per_class_provides_balanced_batches() -> None:
    assert REGISTRY.get("sampler", "class_balanced").provides == {BALANCED_BATCHES}
    assert REGISTRY.get("sampler", "label_balanced").provides == set()


# Mixing


def some_maps(rows: int = 6) -> list[Tensor]:
    return [torch.randn(rows, 2, 10, 12, generator=seeded(1)), torch.randn(rows, 1, 3, 20, 20, generator=seeded(2))]


def test_mixup_is_the_weighted_mean_of_two_clips_in_every_stream() -> None:
    maps = some_maps()
    mixed, other, share = Mixup(alpha=2.0).mix(maps, seeded())
    assert sorted(other.tolist()) == list(range(6))
    assert 0.5 <= share < 1.0
    for before, after in zip(maps, mixed, strict=True):
        values = before.numpy()
        np.testing.assert_allclose(after.numpy(), share * values + (1 - share) * values[other.numpy()], atol=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 3.0])
def test_share_of_mixup_is_the_larger_part_of_a_draw_from_beta(alpha: float) -> None:
    generator, maps = seeded(), [torch.zeros(2, 1, 1, 1)]
    shares = np.array([Mixup(alpha=alpha).mix(maps, generator)[2] for _ in range(800)])
    folded = stats.beta(alpha, alpha)  # P(max(x, 1 - x) <= s) = P(1 - s <= x <= s) for s >= 1/2
    assert stats.kstest(shares, lambda share: folded.cdf(share) - folded.cdf(1 - share)).pvalue > 1e-3


def test_cutmix_pastes_one_rectangle_at_the_same_place_of_streams_and_frames() -> None:
    maps = some_maps()
    shapes = set()
    for seed in range(20):
        mixed, other, share = Cutmix().mix(maps, seeded(seed))
        kept = []
        for before, after in zip(maps, mixed, strict=True):
            pasted = (after == before[other]) & (before != before[other])
            swapped = [row for row in range(6) if other[row] != row]
            if not swapped:
                continue
            window = pasted[swapped].flatten(0, -3)  # clips, channels and frames
            assert bool((window == window[0]).all())
            assert torch.equal(torch.where(pasted, before[other], before), after)
            rows, columns = window[0].any(1), window[0].any(0)
            assert torch.equal(window[0], rows[:, None] & columns)
            for line in (rows, columns):
                places = line.nonzero().flatten().tolist()
                assert places == list(range(places[0], places[-1] + 1)) if places else True
            kept.append(1 - float(window[0].float().mean()))
            shapes.add((int(rows.sum()), int(columns.sum())))
        if kept:
            assert share == pytest.approx(np.mean(kept), abs=1e-6)
            assert share >= 0.4  # at least a half but for rounding to whole pixels
    assert len(shapes) > 10


@pytest.mark.parametrize("mixing", [Mixup(alpha=1.0), Cutmix()], ids=str)
def test_mixing_follows_its_generator_alone_and_spares_what_it_is_given(mixing: Any) -> None:
    maps = some_maps()
    kept = [batch.clone() for batch in maps]
    torch.manual_seed(0)
    first = mixing.mix(maps, seeded(3))
    torch.manual_seed(1)
    second, other = mixing.mix(maps, seeded(3)), mixing.mix(maps, seeded(4))
    assert all(torch.equal(*pair) for pair in zip(first[0], second[0], strict=True))
    assert first[2] == second[2] != other[2]
    assert all(torch.equal(*pair) for pair in zip(maps, kept, strict=True))
    assert REGISTRY.get("mixing", "cutmix").needs == {PIXELS}


# Averages of the weights


class Walk(nn.Module):
    """A network whose weights wander, with batch norm, a mask with infinities, and a fixed constant."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(3, 4), nn.BatchNorm1d(4)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("mean", torch.tensor([1 / 3, 1e8 / 7]))

    def wander(self, seed: int) -> dict[str, np.ndarray]:
        generator = seeded(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            self.norm(10 * torch.randn(8, 4, generator=generator))
        return {name: value.double().numpy().copy() for name, value in self.state_dict().items()}


WANDERING = [
    "layer.weight",
    "layer.bias",
    "norm.weight",
    "norm.bias",
    "norm.running_mean",
    "norm.running_var",
]


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_ema_is_the_recursion_of_the_weights_and_of_the_statistics(decay: float) -> None:
    network = Walk()
    average = EMA(decay=decay).build(network, 30)
    expected: dict[str, np.ndarray] = {}
    for step in range(30):
        values = network.wander(step)
        kept = min(decay, (1 + step) / (10 + step))
        expected = expected or values
        expected = {name: kept * expected[name] + (1 - kept) * values[name] for name in WANDERING}
        average.update(step)
    average.finish()
    check(network, expected)


@pytest.mark.parametrize(("share", "last"), [(0.05, 2), (0.25, 8), (1.0, 30)])
def test_swa_is_the_mean_over_the_last_steps(share: float, last: int) -> None:
    network = Walk()
    average = SWA(share=share).build(network, 30)
    path = []
    for step in range(30):
        path.append(network.wander(step))
        average.update(step)
    average.finish()
    check(network, {name: np.mean([values[name] for values in path[-last:]], axis=0) for name in WANDERING})


def check(network: Walk, expected: dict[str, np.ndarray]) -> None:
    state = network.state_dict()
    for name in WANDERING:
        np.testing.assert_allclose(state[name].numpy(), expected[name], rtol=1e-4, atol=1e-5)
    assert torch.equal(state["mask"], torch.tensor([0.0, -torch.inf]))
    assert torch.equal(state["mean"], torch.tensor([1 / 3, 1e8 / 7]))
    assert int(state["norm.num_batches_tracked"]) == 30


def test_swa_agrees_with_the_averaged_model_of_torch() -> None:
    network = Walk()
    theirs = torch.optim.swa_utils.AveragedModel(network, use_buffers=True)
    average = SWA(share=1.0).build(network, 10)
    for step in range(10):
        network.wander(step)
        average.update(step)
        theirs.update_parameters(network)
    average.finish()
    state = theirs.module.state_dict()
    for name in WANDERING:
        torch.testing.assert_close(network.state_dict()[name], state[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("averaging", [EMA(), SWA()], ids=str)
def test_training_goes_on_from_the_weights_and_not_from_their_average(averaging: Any) -> None:
    network = Walk()
    average = averaging.build(network, 2)
    for step in range(2):
        network.wander(step)
        before = network.layer.weight.detach().clone()
        average.update(step)
        assert torch.equal(network.layer.weight, before)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    average.finish()
    assert next(iter(optimiser.param_groups[0]["params"])) is network.layer.weight


# Schedules


@given(st.floats(0.01, 0.5), st.integers(1, 500))
@settings(deadline=None)
def test_warm_cosine_rises_to_one_and_falls_towards_zero(warm: float, steps: int) -> None:
    factors = np.array([WarmCosine(warm=warm).factor(step, steps) for step in range(steps)])
    rising = int(warm * steps)
    assert ((factors > 0) & (factors <= 1)).all()
    assert factors[rising] == 1.0
    np.testing.assert_allclose(factors[:rising], np.arange(1, rising + 1) / max(rising, 1))
    rest = steps - rising
    np.testing.assert_allclose(factors[rising:], [Cosine().factor(step, rest) for step in range(rest)])


@pytest.mark.parametrize(("drops", "steps"), [(1, 10), (2, 30), (3, 40), (5, 7)])
def test_step_schedule_is_that_of_torch(drops: int, steps: int) -> None:
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    milestones = [int(np.ceil(steps * number / (drops + 1))) for number in range(1, drops + 1)]
    theirs = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.3)
    for step in range(steps):
        assert Step(drops=drops, factor_per_drop=0.3).factor(step, steps) == pytest.approx(theirs.get_last_lr()[0])
        optimiser.step()
        theirs.step()
