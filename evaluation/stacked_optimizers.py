"""Optimisers for a stack of folds: the steps of torch's own, for every fold with a count and a rate of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from mernas.components.contracts import Optimizer
from mernas.components.training.adamw import AdamW
from mernas.components.training.sgd import SGD
from mernas.evaluation.fold_stack import put, taken

STACKED = (AdamW, SGD)
"""Optimisers that can step a stack of folds."""


class StackedOptimizer(Protocol):
    """Changes the weights of some folds by one step."""

    def step(
        self, gradients: Tensor, factors: Sequence[float], counts: Sequence[int], which: Tensor | None = None
    ) -> None:
        """Take one step.

        Args:
            gradients: Of the folds that step, (G, P).
            factors: For each of them, the share of the learning rate at the start.
            counts: For each of them, the number of the step, from 1.
            which: The folds (G,), on the device of the weights; all if None.
        """


def stacked_optimizer(component: Optimizer, weights: Tensor) -> StackedOptimizer:
    """Return what steps as the optimiser of a component does, for weights (F, P), which are changed in place.

    Raises:
        ValueError: If the component is none of `STACKED`.

    Example:
        >>> weights = torch.tensor([[1.0], [1.0]])
        >>> sgd = stacked_optimizer(SGD(lr=0.5), weights)
        >>> sgd.step(torch.tensor([[1.0], [2.0]]), [1.0, 0.1], [1, 1])
        >>> weights
        tensor([[0.5000],
                [0.9000]])
    """
    if type(component) not in STACKED:
        raise ValueError(f"{type(component).__name__} cannot step a stack of folds")
    own = component.build([nn.Parameter(torch.zeros(1))]).defaults
    if isinstance(component, AdamW):
        return StackedAdamW(weights, own["lr"], own["weight_decay"], own["betas"], own["eps"])
    return StackedSGD(weights, own["lr"], own["weight_decay"], own["momentum"])


class StackedSGD:
    """Gradient descent with momentum and an L2 penalty.

    Args:
        weights: (F, P), changed in place.
        rate: Learning rate at the start.
        decay: Factor of the L2 penalty.
        momentum: Share of the last step that goes on.
    """

    def __init__(self, weights: Tensor, rate: float, decay: float, momentum: float) -> None:
        self._weights, self._rate, self._decay, self._momentum = weights, rate, decay, momentum
        self._moving = torch.zeros_like(weights)

    def step(
        self, gradients: Tensor, factors: Sequence[float], counts: Sequence[int], which: Tensor | None = None
    ) -> None:
        """Take one step; see `StackedOptimizer.step`."""
        weights, moving = taken(self._weights, which), taken(self._moving, which)
        (rates,) = _columns(weights, [self._rate * factor for factor in factors])
        moving.mul_(self._momentum).add_(gradients).add_(weights, alpha=self._decay)
        weights.addcmul_(moving, -rates)
        put(self._moving, which, moving)
        put(self._weights, which, weights)


class StackedAdamW:
    """Adam with decoupled weight decay.

    Args:
        weights: (F, P), changed in place.
        rate: Learning rate at the start.
        decay: Share of the rate by which weights shrink.
        betas: How much of the moments goes on.
        eps: Keeps the divisor above 0.
    """

    def __init__(self, weights: Tensor, rate: float, decay: float, betas: tuple[float, float], eps: float) -> None:
        self._weights, self._rate, self._decay, self._betas, self._eps = weights, rate, decay, betas, eps
        self._first, self._second = torch.zeros_like(weights), torch.zeros_like(weights)

    def step(
        self, gradients: Tensor, factors: Sequence[float], counts: Sequence[int], which: Tensor | None = None
    ) -> None:
        """Take one step; see `StackedOptimizer.step`."""
        rates = [self._rate * factor for factor in factors]
        kept, other = self._betas
        shrink, sizes, roots = _columns(
            self._weights,
            [1 - rate * self._decay for rate in rates],
            [-rate / (1 - kept**count) for rate, count in zip(rates, counts, strict=True)],
            [(1 - other**count) ** 0.5 for count in counts],
        )
        weights = taken(self._weights, which)
        first, second = taken(self._first, which), taken(self._second, which)
        first.lerp_(gradients, 1 - kept)
        second.mul_(other).addcmul_(gradients, gradients, value=1 - other)
        weights.mul_(shrink)
        weights.addcmul_(first / (second.sqrt().div_(roots).add_(self._eps)), sizes)
        for stacked, part in ((self._first, first), (self._second, second), (self._weights, weights)):
            put(stacked, which, part)


def _columns(like: Tensor, *figures: Sequence[float]) -> Tensor:
    """Figures of every fold as columns (number of figures, G, 1), of the kind and on the device of the weights."""
    return torch.tensor(figures, dtype=torch.float64).to(like.dtype).to(like.device)[..., None]
