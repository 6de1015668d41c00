"""AdamW: an optimiser (survey 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mernas.space.parameters import real
from mernas.space.registry import register


@register("optimizer", "adamw", source="Loshchilov and Hutter: ICLR 2019")
@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay; without decay it is Adam.

    Example:
        >>> AdamW(lr=0.01).build([nn.Parameter(torch.zeros(1))]).defaults["lr"]
        0.01
    """

    lr: float = real(1e-5, 0.1, default=1e-3, log=True, doc="learning rate at the start")
    weight_decay: float = real(0.0, 0.5, default=0.01, doc="share of lr by which weights shrink at each step")

    def build(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """Return a torch optimiser over the parameters."""
        return torch.optim.AdamW(parameters, lr=self.lr, weight_decay=self.weight_decay, fused=True)
