"""Stochastic gradient descent with momentum: an optimiser (survey 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mernas.space.parameters import real
from mernas.space.registry import register


@register("optimizer", "sgd", source="Sutskever, Martens, Dahl, Hinton: ICML 2013")
@dataclass(frozen=True)
class SGD:
    """Gradient descent with momentum and an L2 penalty.

    Example:
        >>> SGD(lr=0.1).build([nn.Parameter(torch.zeros(1))]).defaults["momentum"]
        0.9
    """

    lr: float = real(1e-4, 1.0, default=0.01, log=True, doc="learning rate at the start")
    momentum: float = real(0.0, 0.99, default=0.9, doc="share of the last step that goes on")
    weight_decay: float = real(0.0, 0.1, default=0.0, doc="factor of the L2 penalty")

    def build(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """Return a torch optimiser over the parameters."""
        return torch.optim.SGD(
            parameters, lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True
        )
