"""What is minimised: the loss of the class scores, an auxiliary loss, a side task (survey sections 5.2.4 and 5.4)."""

from __future__ import annotations

from typing import Protocol, cast

from torch import Tensor, nn

from mernas.components.contracts import AuxiliaryLoss, Loss, SideTask, TrainingRows
from mernas.components.topologies.network import Network
from mernas.space.genotype import Genotype, Leaf, instantiate


class GuardedRows(TrainingRows, Protocol):
    """Training rows that can be handed on in the name of a component, whose fit scope is checked thereby."""

    def held_by(self, component: Leaf) -> TrainingRows:
        """Return the same rows in the name of a component."""


class TrainingObjective(nn.Module):
    """The loss of the class scores plus whatever else a genotype adds to it; see `contracts.Objective`.

    Its parameters (class centres, the head of a side task) are trained with the network and are no part of it.

    Args:
        labels: Class numbers (n,) of the training rows.
        loss: From logits (B, K) and targets (B,) to a scalar.
        auxiliary: From fused vectors (B, F) and targets (B,) to a scalar, or None.
        side: From fused vectors (B, F) and row numbers (B,) to a scalar, or None.

    Example:
        >>> import torch
        >>> objective = TrainingObjective(torch.tensor([0, 1]), nn.CrossEntropyLoss())
        >>> logits = torch.tensor([[0.0, 0.0]])
        >>> round(float(objective.value((logits, logits), torch.tensor([1]))), 4)
        0.6931
    """

    def __init__(
        self, labels: Tensor, loss: nn.Module, auxiliary: nn.Module | None = None, side: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("labels", labels)
        self.loss = loss
        self.auxiliary = auxiliary
        self.side = side

    def outputs(self, network: nn.Module, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return logits (B, K) and fused vectors (B, F)."""
        if self.auxiliary is None and self.side is None:  # any module from maps to logits will do
            logits: Tensor = network(maps)
            return logits, logits
        built = cast(Network, network)
        vectors = built.fused(maps)
        return built.task(vectors), vectors

    def value(self, outputs: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
        """Return the loss, a scalar, if the outputs belong to these training rows (B,)."""
        logits, vectors = outputs
        targets = cast(Tensor, self.labels)[rows]
        total: Tensor = self.loss(logits, targets)
        if self.auxiliary is not None:
            total = total + self.auxiliary(vectors, targets)
        if self.side is not None:
            total = total + self.side(vectors, rows)
        return total


def build_objective(genotype: Genotype, rows: GuardedRows, network: Network) -> TrainingObjective:
    """Return the objective of a genotype over some training rows, on their device.

    Args:
        genotype: The pipeline.
        rows: The training rows, or those of the source domain.
        network: What is trained.

    Raises:
        CustodyError: If a component wants more than the training rows.
        DataError: If the rows lack what the side task predicts.
    """
    (leaf,) = genotype["loss"]
    loss: Loss = instantiate(leaf)
    made = loss.build(rows.held_by(leaf))
    auxiliary = side = None
    if (leaf := genotype["auxiliary_loss"]) is not None:
        extra: AuxiliaryLoss = instantiate(leaf)
        auxiliary = extra.build(rows.held_by(leaf), network.length)
    if (leaf := genotype["side_task"]) is not None:
        task: SideTask = instantiate(leaf)
        side = task.build(rows.held_by(leaf), network.length)
    return TrainingObjective(rows.labels, made, auxiliary, side).to(rows.labels.device)
