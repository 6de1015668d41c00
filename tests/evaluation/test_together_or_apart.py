"""What cannot train together is found out before, by what it says of itself or by a trial, and the reason is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from mernas.components.contracts import TRAINING_ROWS, Shape, TrainingRows
from mernas.evaluation.together_or_apart import why_apart
from mernas.space.genotype import parse_genotype
from mernas.space.registry import REGISTRY, register
from mernas.space.taxonomy import IMAGE

TEXT = """
streams: [{{input: {{optical_flow: {{estimator: given, size: 14}}}}, backbone: [{block}]{rest}}}]
tasks: [{{emotion: {{head: {head}}}}}]
training: {{scratch: {{{training}}}}}
loss: {loss}
"""
CONVOLUTION = "{convolution: {width: 4}}"


def why(
    block: str = CONVOLUTION, rest: str = "", head: str = "linear", training: str = "epochs: 2", loss: str = "focal"
) -> str:
    return why_apart(parse_genotype(TEXT.format(block=block, rest=rest, head=head, training=training, loss=loss)))


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"block": "{convolution: {width: 4, dropout: 0.5}}, channel_dropout", "loss": "cross_entropy"},
        {"block": "{residual: {width: 4, attention: cbam}}", "head": "cosine", "loss": "margin_softmax"},
        {"block": "{depthwise: {width: 4, attention: activation_map}}", "loss": "logit_adjusted"},
        {"block": "{inception: {width: 4}}", "training": "optimizer: sgd, schedule: step"},
        {"rest": ", readout: patches, cascade: transformer"},
        {"loss": "focal\nauxiliary_loss: center"},
        {"loss": "focal\nauxiliary_loss: contrastive"},
        {"rest": ", readout: {primary_capsules: {kernel: 1}}", "head": "capsule", "loss": "capsule_margin"},
        {"training": "sampler: class_balanced, mixing: mixup, averaging: ema"},
        {"rest": ", readout: patches, cascade: lstm"},
        {"rest": ", readout: patches, cascade: gru"},
    ],
)
def test_these_can_train_together(parts: dict[str, str]) -> None:
    assert why(**parts) == ""


def test_a_side_task_and_a_source_domain_go_fold_by_fold_and_say_why() -> None:
    text = TEXT.format(block=CONVOLUTION, rest="", head="linear", training="epochs: 2", loss="focal")
    assert "side task" in why_apart(parse_genotype(f"{text}side_task: action_units"))
    assert "finetune" in why_apart(parse_genotype(text.replace("{scratch: {epochs: 2}}", "finetune")))


class Recalled(nn.Module):
    """Keeps its weight a second time, in a closure, where nobody finds it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(channels, channels, 1)
        kept = self.weigh.weight.detach().clone()
        self.recall = lambda: kept

    def forward(self, maps: Tensor) -> Tensor:
        result: Tensor = self.weigh(maps) + nn.functional.conv2d(maps, self.recall())
        return result


@dataclass(frozen=True)
class Recalling:
    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        return Recalled(shape[0]), shape


class Counted(nn.Module):
    """Counts its steps in Python: a step that is captured would not count, and a fold would begin where one ended."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(channels, channels, 1)
        self.steps = 0

    def forward(self, maps: Tensor) -> Tensor:
        self.steps += self.training
        result: Tensor = self.weigh(maps)
        return result


@dataclass(frozen=True)
class Counting:
    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        return Counted(shape[0]), shape


@dataclass(frozen=True)
class Remembering:
    """A loss whose module holds a figure of the training rows that is no buffer."""

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, rows: TrainingRows) -> nn.Module:
        return Remembered(float(rows.labels.double().mean()))


class Remembered(nn.Module):
    def __init__(self, mean: float) -> None:
        super().__init__()
        self._mean = mean

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self._mean * nn.functional.cross_entropy(logits, targets)


@dataclass(frozen=True)
class Anchored:
    """An auxiliary loss with a parameter."""

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, rows: TrainingRows, features: int) -> nn.Module:
        return nn.Bilinear(features, 1, 1)


@dataclass(frozen=True)
class Replacing:
    """An auxiliary loss that puts another tensor in the place of its buffer, where torch's norms change theirs."""

    fit_scope: ClassVar[str] = TRAINING_ROWS

    def build(self, rows: TrainingRows, features: int) -> nn.Module:
        return Replaced()


class Replaced(nn.Module):
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, vectors: Tensor, targets: Tensor) -> Tensor:
        cost = vectors.square().mean() + self.seen
        self.seen = self.seen + cost.detach()
        return cost


@pytest.fixture
def foreign() -> Iterator[None]:
    register("block", "recalling", maps={IMAGE: IMAGE})(Recalling)
    register("block", "counting", maps={IMAGE: IMAGE})(Counting)
    register("loss", "remembering")(Remembering)
    register("auxiliary_loss", "anchored")(Anchored)
    register("auxiliary_loss", "replacing")(Replacing)
    yield
    REGISTRY.remove("auxiliary_loss", "anchored")
    REGISTRY.remove("auxiliary_loss", "replacing")
    REGISTRY.remove("block", "recalling")
    REGISTRY.remove("block", "counting")
    REGISTRY.remove("loss", "remembering")


@pytest.mark.usefixtures("foreign")
def test_what_others_wrote_is_found_out_if_one_program_cannot_stand_for_all_folds() -> None:
    assert "another one in the place of another fold" in why(block="recalling")
    assert ".steps, which is neither a parameter nor a buffer" in why(block="counting")
    assert "neither a parameter nor a buffer" in why(loss="remembering")
    assert "parameters of its own" in why(loss="focal\nauxiliary_loss: anchored")
    assert "objective.auxiliary.seen becomes another tensor" in why(loss="focal\nauxiliary_loss: replacing")


def test_a_trial_leaves_the_random_numbers_of_the_process_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    why(block="{convolution: {width: 3, dropout: 0.3}}")
    assert torch.equal(torch.get_rng_state(), state)
