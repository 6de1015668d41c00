"""A running average of the weights of a network, as the averagings share it (survey 5.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningAverage:
    """Keeps an average of all floating-point parameters and buffers of a network, beside the network.

    Buffers are averaged as parameters are: the running statistics of batch normalisation then belong, as nearly as can
    be had without sending the training rows through the network once more, to the averaged weights. Values that do not
    change, those of fitted normalisers and of masks among them, stay exactly what they are; counters and other whole
    numbers stay those of the last step.

    Args:
        network: What is averaged.

    Example:
        >>> layer = nn.Linear(1, 1, bias=False)
        >>> average = RunningAverage(layer)
        >>> for number, value in enumerate([1.0, 2.0, 6.0]):
        ...     _ = layer.weight.data.fill_(value)
        ...     average.take(1 / (number + 1))
        >>> average.write()
        >>> float(layer.weight.detach())
        3.0
    """

    def __init__(self, network: nn.Module) -> None:
        self._live = [tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()]
        self._kept: list[Tensor] = []

    @torch.no_grad()
    def take(self, share: float) -> None:
        """Move the average by a share, in [0, 1], of the way to the present values; the first take copies them."""
        if not self._kept:
            self._kept = [live.detach().clone() for live in self._live]
            return
        for kept, live in zip(self._kept, self._live, strict=True):
            # Equal values are left alone: the difference of two infinities is no number.
            kept.copy_(torch.where(kept == live, kept, torch.lerp(kept, live, share)))

    @torch.no_grad()
    def write(self) -> None:
        """Put the average into the network; nothing happens if nothing was taken."""
        if self._kept:
            for kept, live in zip(self._kept, self._live, strict=True):
                live.copy_(kept)
