"""Training: batches, reproducibility, learning, and optimisers against the textbook."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mernas.components.contracts import NotFiniteError, TrainingRows
from mernas.components.losses.cross_entropy import CrossEntropy
from mernas.components.preprocessing.flip import Flip
from mernas.components.preprocessing.shift import Shift
from mernas.components.training.adamw import AdamW
from mernas.components.training.constant import Constant
from mernas.components.training.cosine import Cosine
from mernas.components.training.epochs import batch_sizes
from mernas.components.training.objective import TrainingObjective
from mernas.components.training.scratch import Scratch
from mernas.components.training.sgd import SGD
from mernas.space.errors import DataError


@dataclass
class Rows:
    """Training rows in memory that remember which were asked for."""

    tensors: list[Tensor]
    labels: Tensor
    classes: int = 2
    asked: list[list[int]] = field(default_factory=list)

    @property
    def streams(self) -> int:
        return len(self.tensors)

    def channels(self, stream: int) -> tuple[str, ...]:
        return ("u", "v")

    def maps(self, stream: int) -> Tensor:
        return self.tensors[stream]

    def take(self, rows: Tensor | Sequence[int]) -> list[Tensor]:
        self.asked.append([int(row) for row in rows])
        return [tensor[rows] for tensor in self.tensors]


def minimise(loss: nn.Module) -> Callable[[TrainingRows], TrainingObjective]:
    """The objective of any rows that is nothing but one loss of the class scores."""
    return lambda rows: TrainingObjective(rows.labels, loss)


class Small(nn.Module):
    """A network with everything that can go wrong: batch norm, dropout, several streams."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(256, 2),
        )

    def forward(self, maps: list[Tensor]) -> Tensor:
        logits: Tensor = self.layers(maps[0] + maps[-1])
        return logits


def toy(rows: int = 80, seed: int = 0) -> Rows:
    """Two classes that differ in where u is large, under noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 2
    maps = torch.randn(rows, 2, 8, 8, generator=generator)
    maps[labels == 0, 0, :4] += 1.0
    maps[labels == 1, 0, 4:] += 1.0
    return Rows([maps, maps / 2], labels)


def trained(rows: Rows, strategy: Scratch, seed: int = 0, augmentation: Sequence[Flip | Shift] = ()) -> nn.Module:
    torch.manual_seed(seed)
    network = Small()
    strategy.fit(network, rows, minimise(CrossEntropy().build(rows)), augmentation, torch.Generator().manual_seed(seed))
    return network


def short(**changes: object) -> Scratch:
    values: dict[str, object] = {"epochs": 3, "batch": 16, "optimizer": AdamW(lr=0.01), "schedule": Cosine()}
    return Scratch(**{**values, **changes})  # type: ignore[arg-type]  # values of several types by name


@pytest.mark.parametrize("optimizer", [AdamW(lr=0.01), SGD(lr=0.05)])
def test_two_classes_are_learnt_and_new_clips_recognised(optimizer: AdamW | SGD) -> None:
    network = trained(toy(), short(epochs=10, optimizer=optimizer))
    unseen = toy(200, seed=1)
    with torch.no_grad():
        right = network(unseen.take(range(200))).argmax(1) == unseen.labels
    assert float(right.float().mean()) > 0.95


def test_equal_seeds_give_equal_bits_and_others_do_not() -> None:
    changes = (Flip(), Shift())
    first, second, other = (trained(toy(), short(), seed, changes).state_dict() for seed in (4, 4, 5))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


def test_order_follows_the_generator_and_not_the_global_state() -> None:
    orders = []
    for global_seed in (1, 2):
        rows = toy()
        torch.manual_seed(global_seed)
        short().fit(Small(), rows, minimise(CrossEntropy().build(rows)), (), torch.Generator().manual_seed(0))
        orders.append(rows.asked)
    assert orders[0] == orders[1]


def test_each_epoch_sees_every_row_once_in_a_new_order() -> None:
    rows = toy(70)
    trained(rows, short(epochs=2))
    epochs = [list(chain.from_iterable(batches)) for batches in (rows.asked[:5], rows.asked[5:])]
    assert [sorted(epoch) for epoch in epochs] == [list(range(70))] * 2
    assert epochs[0] != epochs[1]
    assert epochs[0] != list(range(70))


@pytest.mark.parametrize(
    ("rows", "sizes"),
    [(64, [32, 32]), (65, [32, 33]), (66, [32, 32, 2]), (33, [33]), (31, [31]), (1, [1]), (97, [32, 32, 33])],
)
def test_last_batch_of_one_row_is_merged(rows: int, sizes: list[int]) -> None:
    strategy = short(batch=32)
    assert batch_sizes(rows, strategy.batch) == sizes
    data = toy(rows)
    trained(data, short(batch=32, epochs=1))
    assert [len(batch) for batch in data.asked] == sizes


def test_training_on_no_rows_is_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        trained(Rows([torch.zeros(0, 2, 8, 8)], torch.zeros(0, dtype=torch.int64)), short())


def test_batch_norm_over_single_values_trains_with_a_row_left_over() -> None:
    rows = Rows([torch.randn(17, 3)], torch.arange(17) % 2)

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))

        def forward(self, maps: list[Tensor]) -> Tensor:
            logits: Tensor = self.layers(maps[0])
            return logits

    network = Flat()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        network(rows.take([0]))
    short(batch=16).fit(network, rows, minimise(CrossEntropy().build(rows)), (), torch.Generator().manual_seed(0))


def test_training_ends_in_evaluation_mode_whatever_the_callback_does() -> None:
    modes: list[bool] = []
    rows = toy()
    network = Small()
    inside = network.layers.register_forward_hook(lambda module, _, __: modes.append(module.training))
    calls: list[int] = []

    def on_epoch(epoch: int) -> None:
        calls.append(epoch)
        network.eval()

    short().fit(network, rows, minimise(CrossEntropy().build(rows)), (), torch.Generator().manual_seed(0), on_epoch)
    inside.remove()
    assert calls == [1, 2, 3]
    assert modes == [True] * 15
    assert not network.training


def test_loss_that_is_not_a_number_ends_training_after_its_epoch() -> None:
    rows = toy()
    rows.tensors[0][40, 0, 0, 0] = math.nan
    with pytest.raises(NotFiniteError, match="epoch 1"):
        trained(rows, short(epochs=500))
    assert len(rows.asked) == 5


def test_weights_that_overflow_in_the_last_step_are_found() -> None:
    rows = Rows([torch.full((8, 2), 1e30)], torch.arange(8) % 2)

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)
            nn.init.zeros_(self.layer.weight)

        def forward(self, maps: list[Tensor]) -> Tensor:
            logits: Tensor = self.layer(maps[0])
            return logits

    rows.labels = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1])
    strategy = short(epochs=1, optimizer=SGD(lr=1e10, momentum=0.0))
    with pytest.raises(NotFiniteError, match="weight"):
        strategy.fit(Line(), rows, minimise(nn.CrossEntropyLoss()), (), torch.Generator().manual_seed(0))


def test_learning_rate_of_every_step_is_the_start_times_the_factor() -> None:
    rates: list[float] = []

    @dataclass(frozen=True)
    class Watched:
        def build(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
            optimizer = torch.optim.SGD(parameters, lr=0.2)
            optimizer.register_step_pre_hook(lambda one, _, __: rates.append(one.param_groups[0]["lr"]))
            return optimizer

    trained(toy(), short(epochs=2, optimizer=Watched()))
    by_hand = [0.1 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]
    np.testing.assert_allclose(rates, by_hand, rtol=1e-12)


def test_cosine_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=25)
    for step in range(25):
        assert Cosine().factor(step, 25) == pytest.approx(schedule.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        schedule.step()


def test_constant_is_one_at_every_step() -> None:
    assert {Constant().factor(step, 25) for step in range(25)} == {1.0}


def steps_of(optimizer: torch.optim.Optimizer, weight: nn.Parameter, number: int) -> Tensor:
    """Where the weight is after some steps down a curved valley."""
    for _ in range(number):
        optimizer.zero_grad()
        torch.autograd.backward((weight**2 * torch.tensor([1.0, 5.0, 0.2])).sum() + weight.sum().sin())
        optimizer.step()
    return weight.detach().clone()


def fresh() -> nn.Parameter:
    return nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))


def test_adamw_without_decay_is_adam() -> None:
    ours, theirs = fresh(), fresh()
    given = steps_of(AdamW(lr=0.05, weight_decay=0.0).build([ours]), ours, 50)
    assert torch.allclose(given, steps_of(torch.optim.Adam([theirs], lr=0.05), theirs, 50), rtol=1e-5)


def test_adamw_decay_shrinks_weights_apart_from_the_gradient() -> None:
    weight = fresh()
    optimizer = AdamW(lr=0.1, weight_decay=0.5).build([weight])
    torch.autograd.backward((weight * 0.0).sum())
    optimizer.step()
    np.testing.assert_allclose(weight.detach().numpy(), np.array([1.0, -2.0, 3.0]) * (1 - 0.1 * 0.5), rtol=1e-6)


def test_sgd_is_momentum_with_an_l2_penalty() -> None:
    weight = fresh()
    given = steps_of(SGD(lr=0.01, momentum=0.8, weight_decay=0.05).build([weight]), weight, 20)
    value, velocity = np.array([1.0, -2.0, 3.0]), np.zeros(3)
    for _ in range(20):
        gradient = 2 * value * np.array([1.0, 5.0, 0.2]) + np.cos(value.sum()) + 0.05 * value
        velocity = 0.8 * velocity + gradient
        value = value - 0.01 * velocity
    np.testing.assert_allclose(given.numpy(), value, rtol=1e-4)
