"""A stack of folds: networks of one pipeline, one for each fold, whose states lie side by side and run as one.

Nothing is shared but the program: every fold has weights, running statistics, class weights and labels of its own, and
batch statistics are those of its own batch. What one fold computes can no more depend on another than if it ran alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

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


class FoldStack:
    """F folds of one pipeline that compute side by side.

    Args:
        folds: At least one, each with weights of its own; they are copied.

    Raises:
        ValueError: If the folds differ in more than parameters and buffers, so that one program cannot stand for all.

    Attributes:
        weights: All parameters, a row for each fold (F, P).
        buffers: Running statistics, normalisers, class weights, labels: by name, the fold first.
    """

    def __init__(self, folds: Sequence[Fold]) -> None:
        _check_alike(folds)
        self._program = folds[0]
        parameters = dict(folds[0].named_parameters())
        self._shapes = {name: parameter.shape for name, parameter in parameters.items()}
        with torch.no_grad():
            self.weights = torch.stack([torch.cat([p.flatten() for p in fold.parameters()]) for fold in folds])
            every = [dict(fold.named_buffers()) for fold in folds]
            self.buffers = {name: torch.stack([buffers[name] for buffers in every]) for name in every[0]}

    def __len__(self) -> int:
        return len(self.weights)

    def slopes(self, maps: list[Tensor], rows: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the losses (G,) and their gradients (G, P) in training mode; running statistics follow.

        Args:
            maps: For each stream the batches of all G folds, (G, B, ...).
            rows: Which rows these are, (G, B), for the objectives.
            which: The folds, ascending (G,); all F if None.
        """
        self._program.train()
        weights = taken(self.weights, which).detach().requires_grad_()
        buffers = {name: taken(buffer, which) for name, buffer in self.buffers.items()}
        losses = self._run(weights, buffers, maps, rows)
        (gradients,) = torch.autograd.grad(losses.sum(), weights)
        for name, buffer in buffers.items():
            put(self.buffers[name], which, buffer)
        return losses.detach(), gradients

    def logits(self, maps: list[Tensor]) -> Tensor:
        """Return what the networks say in evaluation mode, (F, B, classes).

        Args:
            maps: For each stream the maps for all folds, (F, B, ...).
        """
        self._program.eval()
        with torch.no_grad():
            return self._run(self.weights, self.buffers, maps, None)

    def finite(self) -> Tensor:
        """Return which folds have nothing but finite numbers in the state of their network, (F,)."""
        good = torch.isfinite(self.weights).all(dim=1)
        for name, buffer in self.buffers.items():
            if name.startswith("network."):
                good = good & torch.isfinite(buffer).reshape(len(self), -1).all(dim=1)
        return good

    def _run(self, weights: Tensor, buffers: dict[str, Tensor], maps: list[Tensor], rows: Tensor | None) -> Tensor:
        parts = torch.split(weights, [shape.numel() for shape in self._shapes.values()], dim=1)
        states = {
            name: part.view(len(weights), *shape)
            for (name, shape), part in zip(self._shapes.items(), parts, strict=True)
        }

        def one(parameters: dict[str, Tensor], own: dict[str, Tensor], *given: Any) -> Tensor:
            result: Tensor = functional_call(self._program, (parameters, own), given)
            return result

        run: Callable[..., Tensor] = vmap(one, randomness="different")
        with _plain_attention():
            return run(states, buffers, maps) if rows is None else run(states, buffers, maps, rows)


def taken(stacked: Tensor, which: Tensor | None) -> Tensor:
    """Return the rows of some folds, a copy; of all folds (None) what is given itself."""
    return stacked if which is None else stacked.index_select(0, which)


def put(stacked: Tensor, which: Tensor | None, part: Tensor) -> None:
    """Put back what `taken` had returned and what has been changed in place since."""
    if which is not None:
        stacked.index_copy_(0, which, part)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention step by step: torch's short cuts for it cannot be batched over folds."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _check_alike(folds: Sequence[Fold]) -> None:
    if any(True for _ in folds[0].objective.parameters()):
        raise ValueError("what is minimised has parameters of its own")
    kinds = {parameter.dtype for parameter in folds[0].parameters()}
    if len(kinds) > 1:
        raise ValueError("its parameters are of several kinds of numbers")
    if not all(parameter.requires_grad for parameter in folds[0].parameters()):
        raise ValueError("some of its parameters are not trained")
    first = _attributes(folds[0])
    for fold in folds[1:]:
        other = _attributes(fold)
        if first.keys() != other.keys():
            raise ValueError("its folds are not built alike")
        for name, value in first.items():
            if not bool(value == other[name]):
                raise ValueError(f"its folds differ in {name}, which is neither a parameter nor a buffer")


def _attributes(fold: Fold) -> dict[str, Any]:
    """Everything about a fold that is the same in all folds if one program can stand for them."""
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
