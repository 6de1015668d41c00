"""What is minimised, and the strategy that learns from a source domain first."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mernas.components.contracts import Averaging, TrainingRows
from mernas.components.topologies.network import Network, build_network
from mernas.components.training.adamw import AdamW
from mernas.components.training.constant import Constant
from mernas.components.training.ema import EMA
from mernas.components.training.epochs import Course, run_epochs
from mernas.components.training.finetune import Finetune
from mernas.components.training.objective import TrainingObjective, build_objective
from mernas.components.training.sgd import SGD
from mernas.components.training.swa import SWA
from mernas.space.errors import DataError
from mernas.space.genotype import Leaf, parse_genotype

PIPELINE = """
streams: [{{input: {{optical_flow: {{estimator: given, size: 14}}}}, backbone: [{{convolution: {{width: 4}}}}]}}]
tasks: [{{emotion: {{head: linear}}}}]
normalisation: raw
training: {training}
loss: {loss}
{more}
"""


@dataclass
class Rows:
    """Training rows in memory that remember in whose name they were handed on."""

    tensors: list[Tensor]
    labels: Tensor
    classes: int = 3
    units: Tensor | None = None
    source: "Rows | None" = None
    holders: list[str] = field(default_factory=list)

    def held_by(self, component: Leaf) -> "Rows":
        self.holders.append(component.name)
        return self

    @property
    def streams(self) -> int:
        return len(self.tensors)

    def channels(self, stream: int) -> tuple[str, ...]:
        return ("u", "v", "strain")

    def maps(self, stream: int) -> Tensor:
        return self.tensors[stream]

    def take(self, rows: Tensor | Sequence[int]) -> list[Tensor]:
        return [tensor[rows] for tensor in self.tensors]


def toy(rows: int = 24, seed: int = 0) -> Rows:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 3
    maps = torch.randn((rows, 3, 14, 14), generator=generator)
    for row, label in enumerate(labels.tolist()):
        maps[row, label, :7] += 2.0
    units = torch.stack([(labels == 1).float(), (labels == 2).float()], dim=1)
    units[::5] = torch.nan
    return Rows([maps], labels, units=units)


def pipeline(training: str = "scratch", loss: str = "cross_entropy", more: str = "") -> Network:
    torch.manual_seed(0)
    return build_network(parse_genotype(PIPELINE.format(training=training, loss=loss, more=more)), classes=3)


def test_the_objective_is_the_sum_of_its_parts_as_numpy_computes_them() -> None:
    more = "auxiliary_loss: {center: {weight: 0.1}}\nside_task: {action_units: {weight: 0.5, weighting: none}}"
    genotype = parse_genotype(PIPELINE.format(training="scratch", loss="{cross_entropy: {weighting: none}}", more=more))
    rows, network = toy(), pipeline(more=more)
    objective = build_objective(genotype, rows, network).eval()
    batch = torch.tensor([0, 3, 7, 8, 11])
    logits, vectors = objective.outputs(network.eval(), rows.take(batch))
    found = float(objective.value((logits, vectors), batch).detach())

    scores = logits.detach().double().numpy()
    targets = rows.labels[batch].numpy()
    log_share = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    cross_entropy = -log_share[np.arange(5), targets].mean()
    center = 0.1 * 0.5 * (vectors.detach().double().numpy() ** 2).sum(axis=1).mean()  # centres start at zero
    assert objective.side is not None
    weight, bias = (parameter.detach().double().numpy() for parameter in objective.side.parameters())
    chance = 1 / (1 + np.exp(-(vectors.detach().double().numpy() @ weight.T + bias)))
    assert rows.units is not None
    shown = rows.units[batch].double().numpy()
    known = ~np.isnan(shown)
    bits = -np.where(shown == 1, np.log(chance), np.log(1 - chance))
    assert found == pytest.approx(cross_entropy + center + 0.5 * bits[known].mean(), rel=1e-5)
    assert rows.holders == ["cross_entropy", "center", "action_units"]


def test_heads_of_side_tasks_are_trained_and_are_no_part_of_the_network() -> None:
    more = "side_task: action_units"
    genotype = parse_genotype(PIPELINE.format(training="scratch", loss="cross_entropy", more=more))
    network, plain = pipeline(more=more), pipeline()
    objective = build_objective(genotype, toy(), network)
    assert list(network.state_dict()) == list(plain.state_dict())
    before = [parameter.detach().clone() for parameter in objective.parameters()]
    assert before
    course = Course(2, 8, SGD(lr=0.1), Constant())
    run_epochs(network, toy(), objective, course, (), torch.Generator().manual_seed(0))
    assert all(not torch.equal(old, new) for old, new in zip(before, objective.parameters(), strict=True))


def test_side_tasks_without_annotations_are_refused_in_words() -> None:
    genotype = parse_genotype(PIPELINE.format(training="scratch", loss="cross_entropy", more="side_task: action_units"))
    rows = toy()
    rows.units = None
    with pytest.raises(DataError, match="action"):
        build_objective(genotype, rows, build_network(genotype, classes=3))


def minimise(rows: TrainingRows) -> TrainingObjective:
    return TrainingObjective(rows.labels, nn.CrossEntropyLoss())


def fit(strategy: Finetune, rows: Rows) -> Network:
    network = pipeline()
    strategy.fit(network, rows, minimise, (), torch.Generator().manual_seed(0))
    return network


def finetune(**values: object) -> Finetune:
    settings = {"source_epochs": 3, "epochs": 2, "batch": 8, "optimizer": AdamW(lr=0.01), "schedule": Constant()}
    return Finetune(**{**settings, **values})  # type: ignore[arg-type]  # checked where it is declared


def test_fine_tuning_is_training_on_the_source_then_on_the_rows_at_a_lower_rate() -> None:
    rows = toy()
    rows.source = toy(seed=9)
    found = fit(finetune(rate=0.5), rows)
    expected, generator = pipeline(), torch.Generator().manual_seed(0)
    for part, epochs, rate in ((rows.source, 3, 0.01), (rows, 2, 0.005)):
        course = Course(epochs, 8, AdamW(lr=rate), Constant())
        run_epochs(expected, part, minimise(part), course, (), generator)
    for one, other in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-7)


MORE_LAYERS = PIPELINE.replace("convolution: {{width: 4}}", "convolution: {{width: 4, norm: batch, dropout: 0.3}}")


def with_layers(training: str = "scratch") -> Network:
    """A network whose stream has what training changes or draws: batch normalisation and dropout."""
    torch.manual_seed(0)
    network = build_network(parse_genotype(MORE_LAYERS.format(training=training, loss="cross_entropy", more="")), 3)
    kinds = {type(module) for module in network.streams.modules()}
    assert {nn.BatchNorm2d, nn.Dropout} <= kinds
    return network


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_frozen_streams_stay_as_the_source_left_them_and_the_head_goes_on() -> None:
    rows = toy()
    rows.source = toy(seed=9)
    after_source = with_layers()
    course = Course(3, 8, AdamW(lr=0.01), Constant())
    run_epochs(after_source, rows.source, minimise(rows.source), course, (), torch.Generator().manual_seed(0))
    found = with_layers()  # seeds torch's generator anew, from which dropout draws
    finetune(frozen="streams").fit(found, rows, minimise, (), torch.Generator().manual_seed(0))
    assert equal(copied(found.streams), copied(after_source.streams))  # statistics of norms and what was fitted, too
    assert not torch.equal(found.task.weight, after_source.task.weight)


def test_frozen_streams_have_no_gradient_and_drop_nothing_while_the_head_is_trained() -> None:
    rows = toy()
    rows.source = toy(seed=9)
    network = with_layers()
    seen: list[Tensor] = []

    def watch(epoch: int) -> None:
        network.eval()
        assert all(parameter.grad is None for parameter in network.streams.parameters())
        network.train()

    def remember(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].detach().clone())

    network.task.register_forward_pre_hook(remember)
    finetune(frozen="streams", batch=24, epochs=3).fit(
        network, rows, minimise, (), torch.Generator().manual_seed(0), watch
    )
    with torch.inference_mode():
        vectors = network.streams[0](rows.tensors[0])
    second = seen[-3:]
    for batch in second:  # the same vectors each time, in the order of their rows
        np.testing.assert_allclose(np.sort(batch.numpy(), axis=0), np.sort(vectors.numpy(), axis=0), atol=1e-6)


@pytest.mark.parametrize("averaging", [EMA(), SWA(share=1.0)])
def test_averages_of_weights_leave_frozen_parts_to_the_bit(averaging: Averaging) -> None:
    rows, network = toy(), with_layers()
    before = copied(network)
    course = Course(2, 8, AdamW(lr=0.01), Constant(), averaging=averaging)
    generator = torch.Generator().manual_seed(0)
    run_epochs(network, rows, minimise(rows), course, (), generator, frozen=[network.streams])
    after = copied(network)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith("task.") for name in changed)


def test_frozen_parts_can_be_trained_again_afterwards_whatever_happens() -> None:
    network, rows = with_layers(), toy()
    first = next(network.streams.parameters()).requires_grad_(False)
    course = Course(2, 8, AdamW(lr=0.01), Constant())

    def fail(epoch: int) -> None:
        assert not any(parameter.requires_grad for parameter in network.streams.parameters())
        raise KeyboardInterrupt

    generator = torch.Generator().manual_seed(0)
    with pytest.raises(KeyboardInterrupt):
        run_epochs(network, rows, minimise(rows), course, (), generator, fail, frozen=[network.streams])
    assert [id(each) for each in network.parameters() if not each.requires_grad] == [id(first)]  # as it was before
    run_epochs(network, rows, minimise(rows), course, (), generator, frozen=[network.streams])
    assert [id(each) for each in network.parameters() if not each.requires_grad] == [id(first)]
    assert not any(module.training for module in network.modules())


def test_a_reset_head_forgets_the_source() -> None:
    rows = toy()
    rows.source = toy(seed=9)
    kept, reset = fit(finetune(head="keep", epochs=1), rows), fit(finetune(head="reset", epochs=1), rows)
    assert not torch.equal(kept.task.weight, reset.task.weight)


def test_learning_from_a_source_helps_where_rows_are_few() -> None:
    few, many = toy(6, seed=3), toy(90, seed=4)
    few.source = many
    held_out = toy(300, seed=5)

    def right(network: Network) -> float:
        with torch.inference_mode():
            return float((network.eval()(held_out.tensors).argmax(dim=1) == held_out.labels).float().mean())

    tuned = fit(finetune(source_epochs=6), few)
    scratch = pipeline()
    course = Course(2, 8, AdamW(lr=0.01), Constant())
    run_epochs(scratch, few, minimise(few), course, (), torch.Generator().manual_seed(0))
    assert right(tuned) > right(scratch) + 0.1


def test_fine_tuning_without_a_source_is_refused_in_words() -> None:
    with pytest.raises(DataError, match="other people"):
        fit(finetune(), toy())


def test_a_mixture_of_two_clips_has_the_mixture_of_their_losses() -> None:
    class Half:
        def mix(self, maps: list[Tensor], generator: torch.Generator) -> tuple[list[Tensor], Tensor, float]:
            other = torch.arange(len(maps[0])).roll(1)
            return [0.75 * one + 0.25 * one[other] for one in maps], other, 0.75

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(588, 3)
            self.seen: list[float] = []

        def forward(self, maps: list[Tensor]) -> Tensor:
            return self.layer(maps[0].flatten(1))

    class Watched(TrainingObjective):
        values: list[float]

        def value(self, outputs: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
            found = super().value(outputs, rows)
            self.values.append(float(found.detach()))
            return found

    rows, network = toy(8), Linear()
    objective = Watched(rows.labels, nn.CrossEntropyLoss())
    objective.values = []
    start = {name: value.clone() for name, value in network.state_dict().items()}
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    course = Course(1, 8, SGD(lr=0.01, momentum=0.0, weight_decay=0.0), Constant(), mixing=Half())
    run_epochs(network, rows, objective, course, (), torch.Generator().manual_seed(0))
    maps = rows.tensors[0][order].flatten(1)
    mixed = 0.75 * maps + 0.25 * maps.roll(1, dims=0)
    logits = (mixed @ start["layer.weight"].T + start["layer.bias"]).double().numpy()
    share = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    own, other = rows.labels[order].numpy(), rows.labels[order].roll(1).numpy()
    expected = [-share[np.arange(8), targets].mean() for targets in (own, other)]
    assert objective.values == pytest.approx(expected, rel=1e-5)
