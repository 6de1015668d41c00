"""Quickening: a network trains in the cheapest form that is equal to its own, and is itself again afterwards.

On a processor these things are done while it trains:

- maps and the weights of convolutions lie channels last, which is hardly ever slower and up to seven times faster;
- dropout, batch normalisation and max pooling become those of `mernas.evaluation.quick_layers`, and a ReLU behind a
  convolution or a norm works in place;
- where max pooling follows a ReLU in a sequence, it goes first: the maximum of what a ReLU leaves is what the ReLU
  leaves of the maximum, gradients included, and the ReLU then has less to do. Where it follows batch normalisation
  (with or without a ReLU between), only the maxima are normalised;
- streams that look at the same maps do their first layers side by side (`mernas.evaluation.quick_streams`).

Components stay what they are, plain torch, third parties' included. On an accelerator layers are replaced only where
torch's own would give other bits each time (`mernas.evaluation.steady_layers`).
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

import torch
from torch import Tensor, nn

from mernas.components.topologies.network import Network
from mernas.evaluation.quick_layers import NormThenPool, QuickBatchNorm2d, QuickDropout, QuickMaxPool2d
from mernas.evaluation.quick_streams import SideBySide, joined_depth
from mernas.evaluation.steady_layers import STEADY

QUICK: dict[type[nn.Module], type[nn.Module]] = {
    nn.Dropout: QuickDropout,
    nn.BatchNorm2d: QuickBatchNorm2d,
    nn.MaxPool2d: QuickMaxPool2d,
}
"""What takes the place of which class; a class derived from one of these is left alone."""


class Quickening:
    """Makes a network quick, and makes it itself again, as often as one likes; its parameters stay the same objects.

    Args:
        network: What is trained; it must be itself now.
        device: Where.

    Example:
        >>> network = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
        >>> quickening = Quickening(network)
        >>> quickening.on()
        >>> [type(layer).__name__ for layer in network]
        ['QuickMaxPool2d', 'ReLU']
        >>> quickening.off()
        >>> [type(layer).__name__ for layer in network]
        ['ReLU', 'MaxPool2d']
    """

    def __init__(self, network: nn.Module, device: str = "cpu") -> None:
        every = list(network.modules())
        self._classes = QUICK if device == "cpu" else STEADY
        self._layers = [(module, type(module)) for module in every if type(module) in self._classes]
        modules = every if device == "cpu" else []
        self._weights = [module.weight for module in modules if isinstance(module, nn.Conv2d)]
        sequences = [module for module in modules if type(module) is nn.Sequential]
        self._network = network if isinstance(network, Network) and device == "cpu" else None
        self._rows = [(sequence, list(sequence), _rearranged(list(sequence))) for sequence in sequences]

    def on(self) -> None:
        """Make the network quick."""
        for module, own in self._layers:
            module.__class__ = self._classes[own]
        for sequence, _, quick in self._rows:
            _put(sequence, quick)
        self._lay_out(torch.channels_last)
        if self._network is not None and (depth := joined_depth(self._network)):
            self._network.__dict__["fused"] = SideBySide(self._network, depth)

    def off(self) -> None:
        """Make the network itself again."""
        for module, own in self._layers:
            module.__class__ = own
        for sequence, usual, _ in self._rows:
            _put(sequence, usual)
        self._lay_out(torch.contiguous_format)
        if self._network is not None:
            self._network.__dict__.pop("fused", None)

    def __enter__(self) -> None:
        self.on()

    def __exit__(self, *_: object) -> None:
        self.off()

    def _lay_out(self, order: torch.memory_format) -> None:
        for weight in self._weights:
            weight.data = weight.data.contiguous(memory_format=order)


def _put(sequence: nn.Sequential, layers: list[nn.Module]) -> None:
    for place, layer in enumerate(layers):
        sequence[place] = layer


def _rearranged(layers: list[nn.Module]) -> list[nn.Module]:
    """As many layers that do the same, with pooling before a ReLU, and one with the norm before that."""
    layers = list(layers)
    pairs = range(len(layers) - 1)
    for place in pairs:
        if type(layers[place]) is nn.ReLU and type(layers[place + 1]) is nn.MaxPool2d:
            layers[place], layers[place + 1] = layers[place + 1], layers[place]
    for place in pairs:
        norm, pool = layers[place], layers[place + 1]
        if type(norm) is nn.BatchNorm2d and type(pool) is nn.MaxPool2d:
            layers[place], layers[place + 1] = NormThenPool(norm, pool), nn.Identity()
    for place in pairs:  # neither a convolution nor a norm looks at what it gave again
        if type(layers[place]) in (nn.Conv2d, nn.BatchNorm2d) and type(layers[place + 1]) is nn.ReLU:
            layers[place + 1] = nn.ReLU(inplace=True)
    return layers


def laid_out(maps: Tensor, device: str) -> Tensor:
    """Return maps (N, ...) on a device, lying there as a network that trains wants them: images channels last."""
    maps = maps.to(device)
    return maps.contiguous(memory_format=torch.channels_last) if device == "cpu" and maps.dim() == 4 else maps


@lru_cache(maxsize=1)
def keep_memory() -> None:
    """Let this process keep freed memory for its next batch instead of giving it back to the system at once.

    The C library of Linux gives every block of more than 128 kB back when it is freed; each new one then costs a fault
    for every page. A network whose maps have some megabytes spends up to half of its time on that. Where there is
    another C library nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    threshold, trim = -3, -1  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
    try:
        change = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    change(threshold, 1 << 25)  # the most that glibc takes
    change(trim, (1 << 31) - 1)
