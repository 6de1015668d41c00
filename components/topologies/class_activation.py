"""A linear classifier that first weighs the places of the map as its own weights find them telling: a head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import integer
from mernas.space.registry import register


@register("head", "class_activation", source="after Xia et al., IEEE TIP 2020; Zhou et al., CVPR 2016")
@dataclass(frozen=True)
class ClassActivation:
    """One linear layer and, before it, an attention over places that has no parameters but those of this layer.

    The features are taken for a map of `grid` x `grid` places with F / grid² channels, as the readout `average` of that
    grid gives. For each class the products of the map with the weights of that class are averaged over the channels
    (its class activation map) and stretched to [0, 1] over the places of a clip; the mean over the classes multiplies
    the map. Where a class finds all places equally telling, its weights are 1.

    Example:
        >>> sum(weights.numel() for weights in ClassActivation(grid=7).build(64 * 49, 3).parameters())
        9411
    """

    grid: int = integer(2, 7, default=5, doc="places along each side, as in the readout", sizes=True)

    def admit(self, features: int) -> None:
        """Return if it can stand behind so many features.

        Raises:
            SpaceError: If the features are not so many channels of a map of grid x grid places.
        """
        places = self.grid**2
        if features % places:
            rule = f"a grid of {self.grid} needs a number of features divisible by {places}"
            remedy = f'use the readout "average" with a grid of {self.grid}'
            raise SpaceError(Problem('head "class_activation", grid', rule, str(features), remedy))

    def build(self, features: int, classes: int) -> nn.Module:
        """Return a module from (B, features) to logits (B, classes); errors as of `admit`."""
        self.admit(features)
        return _ClassActivation(features, classes, self.grid**2)


class _ClassActivation(nn.Module):
    def __init__(self, features: int, classes: int, places: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, classes)
        self.channels, self.places = features // places, places

    def forward(self, vectors: Tensor) -> Tensor:
        """Return logits (B, classes) for (B, channels * places)."""
        maps = vectors.reshape(-1, self.channels, self.places)
        weights = self.linear.weight.reshape(-1, self.channels, self.places)
        activity = torch.einsum("bfp,cfp->bcp", maps, weights) / self.channels
        low, high = activity.amin(dim=2, keepdim=True), activity.amax(dim=2, keepdim=True)
        span = high - low
        # The divisor is never 0, not even where its quotient is not used: the gradient would be NaN there.
        stretched = torch.where(span > 0, (activity - low) / torch.where(span > 0, span, 1.0), 1.0)
        logits: Tensor = self.linear((maps * stretched.mean(dim=1, keepdim=True)).flatten(1))
        return logits
