"""What is trained in one fold, and whether all folds of a pipeline are one program with other numbers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mernas.components.topologies.network import Network
from mernas.components.training.objective import TrainingObjective

OWN_TO_TORCH = frozenset(vars(nn.Module()))
"""Attributes that every module has."""
PLAIN = (bool, int, float, complex, str, bytes, type(None))
"""Attributes of these kinds, and rows of them, must be the same in all folds."""


class Fold(nn.Module):
    """What is trained in one fold: a network and what is minimised.

    Args:
        network: From maps to logits.
        objective: From its outputs and row numbers to a scalar.
    """

    def __init__(self, network: Network, objective: TrainingObjective) -> None:
        super().__init__()
        self.network = network
        self.objective = objective

    def forward(self, maps: list[Tensor], rows: Tensor | None = None) -> Tensor:
        """Return the loss, a scalar, of maps that belong to some rows (B,); without rows the logits (B, classes)."""
        if rows is None:
            logits: Tensor = self.network(maps)
            return logits
        return self.objective.value(self.objective.outputs(self.network, maps), rows)


def check_alike(folds: Sequence[Fold]) -> None:
    """See that the folds of a pipeline differ in nothing but parameters and buffers, which can be put in one's place.

    Args:
        folds: At least one.

    Raises:
        ValueError: With the first thing in which they differ.
    """
    if any(True for _ in folds[0].objective.parameters()):
        raise ValueError("what is minimised has parameters of its own")
    kinds = {parameter.dtype for parameter in folds[0].parameters()}
    if len(kinds) > 1:
        raise ValueError("its parameters are of several kinds of numbers")
    if not all(parameter.requires_grad for parameter in folds[0].parameters()):
        raise ValueError("some of its parameters are not trained")
    first = kept_beside_numbers(folds[0])
    for fold in folds[1:]:
        check_same(first, fold)


def check_same(first: Mapping[str, Any], fold: Fold) -> None:
    """See that a fold keeps, beside its numbers, what another one was found to keep by `kept_beside_numbers`.

    Raises:
        ValueError: With the first thing in which they differ.
    """
    other = kept_beside_numbers(fold)
    if first.keys() != other.keys():
        raise ValueError("its folds are not built alike")
    for name, value in first.items():
        if not bool(value == other[name]):
            raise ValueError(f"its folds differ in {name}, which is neither a parameter nor a buffer")


def kept_beside_numbers(fold: Fold) -> dict[str, Any]:
    """Return everything about a fold that is the same in all folds if one program can stand for them.

    Raises:
        ValueError: If it holds numbers that are neither a parameter nor a buffer.
    """
    found: dict[str, Any] = {}
    for place, module in fold.named_modules():
        found[f"{place} ({type(module).__name__})"] = None
        for name, value in vars(module).items():
            if name in OWN_TO_TORCH:
                continue
            if isinstance(value, PLAIN) or (
                isinstance(value, (tuple, list)) and all(isinstance(item, PLAIN) for item in value)
            ):
                found[f"{place}.{name}"] = repr(value)
            elif isinstance(value, Tensor) or hasattr(value, "__array__"):
                raise ValueError(f"{place}.{name} holds numbers, but is neither a parameter nor a buffer")
    for name, tensor in (*fold.named_parameters(), *fold.named_buffers()):
        found[f"shape of {name}"] = (tuple(tensor.shape), str(tensor.dtype))
    return found
