"""Streams that look at the same maps, side by side: their first layers become one convolution with more channels.

On a processor a convolution of few channels takes as long as one of sixteen. So where all streams begin with the same
maps and the same kind of convolution, norm, activation, pooling and dropout, these layers are done once, with the
weights of all streams joined; then each stream goes on with its own channels. Every channel is computed as before.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mernas.components.topologies.network import Network
from mernas.evaluation.quick_layers import NormThenPool, norm_then_pool, normalised

ALIKE: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Conv2d: ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"),
    nn.BatchNorm2d: ("eps", "momentum", "affine", "track_running_stats"),
    nn.MaxPool2d: ("kernel_size", "stride", "padding", "dilation", "return_indices", "ceil_mode"),
    nn.Dropout: ("p", "inplace"),
    nn.ReLU: ("inplace",),
    nn.GELU: ("approximate",),
    nn.Identity: (),
    NormThenPool: (),
}
"""Layers that treat every channel for itself (or make it, a convolution), and what must be equal to join them."""


def joined_depth(network: Network) -> int:
    """Return how many of the first layers of all streams can be done side by side; 0 if none.

    Args:
        network: A network that is quick already: what counts is the order of its quick layers.

    Example:
        >>> from mernas.components.topologies.network import build_network
        >>> from mernas.space.presets import load_preset
        >>> joined_depth(build_network(load_preset("ststnet").genotype, 3))
        5
    """
    heads = [_first_layers(stream) for stream in network.streams]
    if len(heads) < 2 or not all(heads) or any(not isinstance(layers[0], nn.Conv2d) for layers in heads):
        return 0
    depth = 0
    for place, layers in enumerate(zip(*heads, strict=False)):
        if (place > 0 and isinstance(layers[0], nn.Conv2d)) or not _alike(layers):
            break
        depth = place + 1
    return depth


def _first_layers(stream: nn.Module) -> list[nn.Module]:
    """The layers of the first block of a stream, where they are a plain sequence; a normaliser comes before it."""
    stages = list(stream.children())
    return list(stages[1]) if len(stages) > 1 and type(stages[1]) is nn.Sequential else []


def _alike(layers: Sequence[nn.Module]) -> bool:
    first = layers[0]
    names = next((names for known, names in ALIKE.items() if isinstance(first, known)), None)
    if names is None or any(type(layer) is not type(first) for layer in layers):
        return False
    if isinstance(first, NormThenPool):
        both = [layer for layer in layers if isinstance(layer, NormThenPool)]
        return _alike([layer.norm for layer in both]) and _alike([layer.pool for layer in both])
    if isinstance(first, nn.Conv2d) and (first.groups != 1 or first.padding_mode != "zeros"):
        return False
    if isinstance(first, nn.BatchNorm2d) and not (first.affine and first.track_running_stats and first.momentum):
        return False
    biased = {getattr(layer, "bias", None) is None for layer in layers}
    return len(biased) == 1 and all(getattr(layer, name) == getattr(first, name) for layer in layers for name in names)


class SideBySide:
    """The forward pass of a quick network, up to its fused vectors.

    Args:
        network: The network.
        depth: What `joined_depth` said of it.
    """

    def __init__(self, network: Network, depth: int) -> None:
        self._network = network
        self._depth = depth
        # Normalisers that were fitted on the same maps are equal; others stay apart.
        states = [list(_stages(stream)[0].state_dict().values()) for stream in network.streams]
        self._equal = all(
            len(state) == len(states[0]) and all(map(torch.equal, state, states[0])) for state in states[1:]
        )

    def __call__(self, maps: list[Tensor]) -> Tensor:
        """Return the fused vectors (B, length); maps as of `Network.fused`."""
        network = self._network
        # Frozen streams are in evaluation mode while the rest is trained; side by side is for training alone.
        trained = all(stream.training for stream in network.streams)
        if not (trained and self._equal and all(batch is maps[0] for batch in maps)):
            return Network.fused(network, maps)
        streams = [_stages(stream) for stream in network.streams]
        blocks = [list(stages[1].children()) for stages in streams]
        joined: Tensor = streams[0][0](maps[0])
        for layers in list(zip(*blocks, strict=False))[: self._depth]:
            joined = _apply(layers, joined)
        vectors = []
        widths = [_width(block) for block in blocks]
        for part, stages, block in zip(torch.split(joined, widths, dim=1), streams, blocks, strict=True):
            for layer in (*block[self._depth :], *stages[2:]):
                part = layer(part)
            vectors.append(part)
        fused: Tensor = vectors[0] if network.fusion is None else network.fusion(vectors)
        return fused


def _stages(stream: nn.Module) -> list[nn.Module]:
    return list(stream.children())


def _width(block: Sequence[nn.Module]) -> int:
    convolution = block[0]
    assert isinstance(convolution, nn.Conv2d)  # noqa: S101  # for the type checker: `joined_depth` has seen to it
    return convolution.out_channels


def _apply(layers: tuple[nn.Module, ...], maps: Tensor) -> Tensor:
    """One layer of all streams on the maps of all streams (B, sum of C, H, W), or on the common ones."""
    first = layers[0]
    if isinstance(first, nn.Conv2d):
        weight = torch.cat([layer.weight for layer in layers if isinstance(layer, nn.Conv2d)])
        bias = None if first.bias is None else torch.cat([layer.get_parameter("bias") for layer in layers])
        if maps.device.type == "cpu":
            weight = weight.contiguous(memory_format=torch.channels_last)
        return functional.conv2d(maps, weight, bias, first.stride, first.padding, first.dilation)
    if isinstance(first, NormThenPool):
        return norm_then_pool(maps, [layer.norm for layer in layers if isinstance(layer, NormThenPool)], first.pool)
    if isinstance(first, nn.BatchNorm2d):
        norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
        return normalised(maps, norms) if maps.device.type == "cpu" else _normalised_by_torch(maps, norms)
    result: Tensor = first(maps)
    return result


def _normalised_by_torch(maps: Tensor, norms: Sequence[nn.BatchNorm2d]) -> Tensor:
    """Maps (B, sum of C, H, W) as several norms normalise them in training, each its channels, on an accelerator."""
    running = [(norm.get_buffer("running_mean"), norm.get_buffer("running_var")) for norm in norms]
    means, variances = (torch.cat(both) for both in zip(*running, strict=True))
    weight, bias = (torch.cat([norm.get_parameter(name) for norm in norms]) for name in ("weight", "bias"))
    first = norms[0]
    assert first.momentum is not None  # noqa: S101  # for the type checker: `_alike` has seen to it
    result = functional.batch_norm(maps, means, variances, weight, bias, True, first.momentum, first.eps)
    widths = [norm.num_features for norm in norms]
    with torch.no_grad():
        for (mean, variance), norm, own, spread in zip(
            running, norms, torch.split(means, widths), torch.split(variances, widths), strict=True
        ):
            mean.copy_(own)
            variance.copy_(spread)
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.add_(1)
    return result
