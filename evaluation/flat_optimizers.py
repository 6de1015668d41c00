"""Optimisers over one vector of weights: the steps of torch's own, whose figures are numbers on the device.

All that changes from step to step, the learning rate and what the count of steps makes of it, is worked out beforehand
in double precision, a row for each step. So a step asks the processor nothing, and can be captured once and replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from mernas.components.contracts import Optimizer
from mernas.components.training.adamw import AdamW
from mernas.components.training.sgd import SGD

FLAT = (AdamW, SGD)
"""Optimisers that can step one vector."""


class FlatOptimizer(Protocol):
    """Changes a vector of weights, one step at a time."""

    def figures(self, factors: Sequence[float]) -> Tensor:
        """Return what the steps need, a row for each (steps, figures), on the processor.

        Args:
            factors: For each step, counted from the first, the share of the learning rate at the start.
        """

    def step(self, gradient: Tensor, figures: Tensor) -> None:
        """Take one step.

        Args:
            gradient: (P,).
            figures: The step's row, on the device of the weights.
        """

    def forget(self) -> None:
        """Begin anew: no step was taken."""


def flat_optimizer(component: Optimizer, weights: Tensor) -> FlatOptimizer:
    """Return what steps as the optimiser of a component does, for weights (P,), which are changed in place.

    Raises:
        ValueError: If the component is none of `FLAT`.

    Example:
        >>> weights = torch.tensor([1.0])
        >>> sgd = flat_optimizer(SGD(lr=0.5), weights)
        >>> sgd.step(torch.tensor([1.0]), sgd.figures([1.0, 0.1])[0])
        >>> weights
        tensor([0.5000])
    """
    if type(component) not in FLAT:
        raise ValueError(f"{type(component).__name__} cannot step one vector of weights")
    own = component.build([nn.Parameter(torch.zeros(1))]).defaults
    if isinstance(component, AdamW):
        return FlatAdamW(weights, own["lr"], own["weight_decay"], own["betas"], own["eps"])
    return FlatSGD(weights, own["lr"], own["weight_decay"], own["momentum"])


class FlatSGD:
    """Gradient descent with momentum and an L2 penalty.

    Args:
        weights: (P,), changed in place.
        rate: Learning rate at the start.
        decay: Factor of the L2 penalty.
        momentum: Share of the last step that goes on.
    """

    def __init__(self, weights: Tensor, rate: float, decay: float, momentum: float) -> None:
        self._weights, self._rate, self._decay, self._momentum = weights, rate, decay, momentum
        self._moving = torch.zeros_like(weights)

    def figures(self, factors: Sequence[float]) -> Tensor:
        """Return minus the learning rate of each step."""
        return _table([[-self._rate * factor] for factor in factors], self._weights)

    def step(self, gradient: Tensor, figures: Tensor) -> None:
        """Take one step; see `FlatOptimizer.step`."""
        self._moving.mul_(self._momentum).add_(gradient).add_(self._weights, alpha=self._decay)
        self._weights.addcmul_(self._moving, figures[0])

    def forget(self) -> None:
        """Begin anew."""
        self._moving.zero_()


class FlatAdamW:
    """Adam with decoupled weight decay.

    Args:
        weights: (P,), changed in place.
        rate: Learning rate at the start.
        decay: Share of the rate by which weights shrink.
        betas: How much of the moments goes on.
        eps: Keeps the divisor above 0.
    """

    def __init__(self, weights: Tensor, rate: float, decay: float, betas: tuple[float, float], eps: float) -> None:
        self._weights, self._rate, self._decay, self._betas, self._eps = weights, rate, decay, betas, eps
        self._first, self._second = torch.zeros_like(weights), torch.zeros_like(weights)

    def figures(self, factors: Sequence[float]) -> Tensor:
        """Return for each step what the weights shrink to, minus the size of the step, and the divisor of the root."""
        kept, other = self._betas
        rows = []
        for count, factor in enumerate(factors, start=1):
            rate = self._rate * factor
            rows.append([1 - rate * self._decay, -rate / (1 - kept**count), (1 - other**count) ** 0.5])
        return _table(rows, self._weights)

    def step(self, gradient: Tensor, figures: Tensor) -> None:
        """Take one step; see `FlatOptimizer.step`."""
        shrink, size, root = figures
        kept, other = self._betas
        self._first.lerp_(gradient, 1 - kept)
        self._second.mul_(other).addcmul_(gradient, gradient, value=1 - other)
        self._weights.mul_(shrink)
        self._weights.addcmul_(self._first / (self._second.sqrt().div_(root).add_(self._eps)), size)

    def forget(self) -> None:
        """Begin anew."""
        self._first.zero_()
        self._second.zero_()


def _table(rows: Sequence[Sequence[float]], like: Tensor) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).to(like.dtype)
