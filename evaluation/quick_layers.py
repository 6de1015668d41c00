"""Layers that train as torch's do, but faster on a processor.

On one thread torch spends most of the time of a small network not in convolutions, but in dropout, batch normalisation
and max pooling: it draws every number of a mask by itself, and goes through few channels in scalar code. Here the same
functions are made of operations that torch does with whole vector registers. Maxima and their gradients are torch's to
the bit; batch normalisation is equal to rounding; dropout draws its masks from other random bits, with the same
distribution.

Each class is torch's class with another `forward` in training, so it may take the place of one and give it back
(`mernas.evaluation.quickening`). Whatever it does not know how to do faster, and all of evaluation, is torch's own.
Maps lie in memory channels last: all channels of a pixel side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

Moments = tuple[Tensor, Tensor, Tensor]
"""Maps, and the mean and the variance of a batch."""

LANES = 1 << 16
"""A mask is drawn from 16 random bits per value."""
CACHED = 1 << 17
"""So many values at a time are worked on, so that they are still near when the next operation wants them."""
REGISTER = 64
"""Rows of fewer values than this are joined, to fill vector registers."""
VECTOR = 8
"""From so many channels on torch pools maps fast that lie channels last."""
SIDE_BY_SIDE = 320
"""So many maps are pooled side by side."""


class QuickDropout(nn.Dropout):
    """Dropout whose mask comes from 16 bits per value; the share is rounded to 1/65,536, and kept values scaled to it.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> sorted(set(QuickDropout(0.5)(torch.ones(100)).tolist()))
        [0.0, 2.0]
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the values (any shape), some of them zero, the others scaled up."""
        dropped = round(self.p * LANES)
        if not (self.training and _plain(input) and 0 < dropped < LANES) or self.inplace:
            return super().forward(input)
        noise = torch.empty((input.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        kept = noise.view(torch.int16)[: input.numel()] >= dropped - LANES // 2
        mask = kept.to(input.dtype).mul_(LANES / (LANES - dropped))
        return input * _laid_out_like(input, mask)


class QuickBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with sums over rows of several pixels each.

    Those of torch for maps that lie channels last are slow for few channels or an odd number of them, and inexact: a
    mean over 200,000 values was off by 1e-5 there, here by 1e-7.

    Example:
        >>> maps = torch.arange(24.0).reshape(2, 3, 2, 2)
        >>> torch.allclose(QuickBatchNorm2d(3)(maps), nn.BatchNorm2d(3)(maps), atol=1e-5)
        True
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised maps (B, C, H, W), channels last."""
        channels = input.shape[1]
        if not (self.training and _usual_norm(self) and _plain(input)):
            return super().forward(input)
        if input.numel() == channels:  # torch refuses a single value
            return super().forward(input)
        return normalised(input, [self])


def normalised(maps: Tensor, norms: Sequence[nn.BatchNorm2d]) -> Tensor:
    """Return maps (B, C, H, W) as one or several usual norms normalise them in training, each its part of the channels.

    Args:
        maps: Maps with at least two values for each channel.
        norms: Norms with weights, statistics and one momentum and epsilon, for C channels together.
    """
    given = maps.contiguous(memory_format=torch.channels_last)
    weight, bias = _joined(norms)
    done = _BatchNorm.apply(given, weight, bias, norms[0].eps)  # type: ignore[no-untyped-call]  # by torch
    result, mean, variance = cast(Moments, done)
    _follow(norms, mean, variance, maps.numel() // maps.shape[1])
    return result


def _joined(norms: Sequence[nn.BatchNorm2d]) -> tuple[Tensor, Tensor]:
    if len(norms) == 1:
        return norms[0].weight, norms[0].bias
    return torch.cat([norm.weight for norm in norms]), torch.cat([norm.bias for norm in norms])


def _follow(norms: Sequence[nn.BatchNorm2d], means: Tensor, variances: Tensor, count: int) -> None:
    """Let running statistics follow the means and variances (C,) of a batch of `count` values a channel."""
    widths = [norm.num_features for norm in norms]
    with torch.no_grad():
        for norm, mean, variance in zip(norms, torch.split(means, widths), torch.split(variances, widths), strict=True):
            if norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None:
                norm.running_mean.lerp_(mean, norm.momentum)
                norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.add_(1)


class _BatchNorm(torch.autograd.Function):
    """(B, C, H, W) channels last to the same, normalised, and the mean and variance (C,) of the batch."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = _moments(maps)
        inverse = torch.rsqrt(variance + eps)
        scale = inverse * weight
        rows, joined = _rows(maps)
        scales, shifts = scale.repeat(joined), (bias - mean * scale).repeat(joined)
        result = torch.empty_like(maps)
        for part, into in zip(_parts(rows), _parts(_rows(result)[0]), strict=True):
            torch.mul(part, scales, out=into).add_(shifts)
        ctx.save_for_backward(maps, weight, mean, inverse)
        ctx.mark_non_differentiable(mean, variance)
        return result, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        maps, weight, mean, inverse = ctx.saved_tensors
        rows, joined = _rows(maps)
        slopes, joined = _rows(gradient.contiguous(memory_format=torch.channels_last))
        means = mean.repeat(joined)
        for_bias = slopes.sum(0).view(joined, -1).sum(0)
        products = torch.zeros_like(means)
        for part, slope in zip(_parts(rows), _parts(slopes), strict=True):
            products += (part - means).mul_(slope).sum(0)
        product = products.view(joined, -1).sum(0)
        found = _factors(maps.numel() // maps.shape[1], weight, mean, inverse, for_bias, product)
        a, b, c = (factor.repeat(joined) for factor in found)
        result = torch.empty_like(maps)
        for part, slope, into in zip(_parts(rows), _parts(slopes), _parts(_rows(result)[0]), strict=True):
            torch.mul(slope, a, out=into).add_(c).addcmul_(part, b)
        return result, product * inverse, for_bias, None


def _moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (C,) of maps (B, C, H, W), channels last."""
    rows, joined = _rows(maps)
    count = len(rows) * joined
    mean = rows.sum(0).view(joined, -1).sum(0) / count
    means = mean.repeat(joined)
    squares = torch.zeros_like(means)
    for part in _parts(rows):
        squares += (part - means).square_().sum(0)
    return mean, squares.view(joined, -1).sum(0) / count


def _factors(
    count: int, weight: Tensor, mean: Tensor, inverse: Tensor, for_bias: Tensor, product: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of batch normalisation as a dy + b x + c, each factor (C,).

    It is weight * inverse * (dy - mean(dy) - (x - mean) * inverse**2 * mean(dy * (x - mean))).
    """
    a = weight * inverse
    b = -a * inverse.square() * product / count
    return a, b, -a * for_bias / count - b * mean


class QuickMaxPool2d(nn.MaxPool2d):
    """Max pooling that looks for the maxima of many maps side by side, where a map has few channels.

    Example:
        >>> maps = torch.randn(2, 3, 6, 6)
        >>> torch.equal(QuickMaxPool2d(2)(maps), nn.MaxPool2d(2)(maps))
        True
    """

    def forward(self, input: Tensor) -> Any:
        """Return the maxima (B, C, H', W'), channels last."""
        if not (self.training and input.dim() == 4 and _simple_pool(self) and _plain(input)):
            return super().forward(input)
        if input.shape[1] >= VECTOR:  # torch fills its registers with channels then
            return super().forward(input.contiguous(memory_format=torch.channels_last))
        return _MaxPool.apply(  # type: ignore[no-untyped-call]  # by torch
            input, self.kernel_size, self.stride, self.padding
        )


class _MaxPool(torch.autograd.Function):
    """(B, C, H, W) to the maxima (B, C, H', W'), channels last."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        values, places = _maxima(maps, kernel, stride, padding)
        ctx.save_for_backward(places)
        ctx.shape = maps.shape
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (places,) = ctx.saved_tensors
        result = torch.zeros(ctx.shape).contiguous(memory_format=torch.channels_last)
        _scatter(result, places, gradient)
        return result, None, None, None


def _maxima(maps: Tensor, kernel: int, stride: int, padding: int) -> tuple[Tensor, Tensor]:
    """Maxima of maps (B, C, H, W) and their places in the plane, as torch finds them, both channels last."""
    _, channels, height, width = maps.shape
    find = partial(functional.max_pool2d, kernel_size=kernel, stride=stride, padding=padding, return_indices=True)
    if channels >= VECTOR:
        values, places = find(maps.contiguous(memory_format=torch.channels_last))
        return values, places
    parts: tuple[list[Tensor], list[Tensor]] = ([], [])
    for part in torch.split(maps.contiguous(), max(1, SIDE_BY_SIDE // channels)):
        side_by_side = part.reshape(1, -1, height, width).contiguous(memory_format=torch.channels_last)
        for into, found in zip(parts, find(side_by_side), strict=True):
            into.append(found.contiguous().view(len(part), channels, *found.shape[2:]))
    values, places = (torch.cat(part).contiguous(memory_format=torch.channels_last) for part in parts)
    return values, places


def _scatter(result: Tensor, places: Tensor, slopes: Tensor) -> None:
    """Add slopes (B, C, H', W') to maps (B, C, H, W), channels last, at their places in the plane."""
    batch, channels = slopes.shape[:2]
    index = (places * channels).permute(0, 2, 3, 1) + torch.arange(channels)
    flat = slopes.permute(0, 2, 3, 1).reshape(batch, -1)
    result.permute(0, 2, 3, 1).view(batch, -1).scatter_add_(1, index.reshape(batch, -1), flat)


class NormThenPool(nn.Module):
    """Batch normalisation and max pooling in one, where nothing but the maxima is wanted.

    The largest value of a window is still the largest when all are normalised (the smallest, where the weight is
    negative). So maxima are found first and only they are normalised, and the gradient of what is no maximum is linear
    in the value.

    Args:
        norm: The batch normalisation, which keeps its weights and statistics.
        pool: The max pooling.

    Example:
        >>> maps, norm, pool = torch.randn(4, 3, 6, 6), nn.BatchNorm2d(3), nn.MaxPool2d(2)
        >>> torch.allclose(NormThenPool(norm, pool)(maps), pool(norm(maps)), atol=1e-5)
        True
    """

    def __init__(self, norm: nn.BatchNorm2d, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.norm = norm
        self.pool = pool

    def forward(self, maps: Tensor) -> Tensor:
        """Return the pooled, normalised maps (B, C, H', W'), channels last in training."""
        count = maps.numel() // maps.shape[1]
        if not (self.training and _plain(maps) and _usual_norm(self.norm) and _simple_pool(self.pool) and count > 1):
            result: Tensor = self.pool(self.norm(maps))
            return result
        return norm_then_pool(maps, [self.norm], self.pool)


def norm_then_pool(maps: Tensor, norms: Sequence[nn.BatchNorm2d], pool: nn.MaxPool2d) -> Tensor:
    """Return maps (B, C, H, W) normalised, as `normalised` does it, and pooled, (B, C, H', W'), channels last."""
    given = maps.contiguous(memory_format=torch.channels_last)
    weight, bias = _joined(norms)
    done = _NormThenPool.apply(  # type: ignore[no-untyped-call]  # by torch
        given, weight, bias, norms[0].eps, pool.kernel_size, pool.stride, pool.padding
    )
    pooled, mean, variance = cast(Moments, done)
    _follow(norms, mean, variance, maps.numel() // maps.shape[1])
    return pooled


class _NormThenPool(torch.autograd.Function):
    """(B, C, H, W) channels last to normalised maxima (B, C, H', W'), and the mean and variance (C,) of the batch."""

    @staticmethod
    def forward(
        ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor, eps: float, kernel: int, stride: int, padding: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = _moments(maps)
        inverse = torch.rsqrt(variance + eps)
        if bool((weight < 0).any()):
            sign = torch.where(weight < 0, -1.0, 1.0).view(-1, 1, 1)
            extreme, places = _maxima(maps * sign, kernel, stride, padding)
            extreme = extreme * sign
        else:
            extreme, places = _maxima(maps, kernel, stride, padding)
        scale = (inverse * weight).view(-1, 1, 1)
        ctx.save_for_backward(maps, weight, mean, inverse, extreme, places)
        ctx.mark_non_differentiable(mean, variance)
        return extreme * scale + (bias.view(-1, 1, 1) - mean.view(-1, 1, 1) * scale), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight, mean, inverse, extreme, places = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        for_bias = gradient.sum((0, 2, 3))
        product = ((extreme - mean.view(-1, 1, 1)).mul_(gradient)).sum((0, 2, 3))
        a, b, c = _factors(maps.numel() // maps.shape[1], weight, mean, inverse, for_bias, product)
        rows, joined = _rows(maps)
        slopes, offsets = b.repeat(joined), c.repeat(joined)
        result = torch.empty_like(maps)
        for part, into in zip(_parts(rows), _parts(_rows(result)[0]), strict=True):
            torch.mul(part, slopes, out=into).add_(offsets)
        _scatter(result, places, gradient * a.view(-1, 1, 1))
        return result, product * inverse, for_bias, None, None, None, None


def _usual_norm(norm: nn.BatchNorm2d) -> bool:
    return norm.affine and norm.track_running_stats and norm.momentum is not None


def _simple_pool(pool: nn.MaxPool2d) -> bool:
    """Whether it has square windows and nothing unusual."""
    numbers = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    return (
        all(isinstance(number, int) for number in numbers)
        and pool.dilation == 1
        and not (pool.return_indices or pool.ceil_mode)
    )


def _plain(values: Tensor) -> bool:
    return values.device.type == "cpu" and values.dtype == torch.float32 and values.numel() > 0


def _laid_out_like(values: Tensor, flat: Tensor) -> Tensor:
    """Numbers (n,) in the shape of other values of as many, and where their memory is dense, in its order."""
    if values.dim() == 4 and values.is_contiguous(memory_format=torch.channels_last):
        batch, channels, height, width = values.shape
        return flat.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return flat.view(values.shape)


def _rows(maps: Tensor) -> tuple[Tensor, int]:
    """Maps (B, C, H, W), channels last, as rows of one or more pixels, and how many pixels a row has."""
    channels = maps.shape[1]
    pixels = maps.permute(0, 2, 3, 1).reshape(-1, channels)
    joined = 1
    while joined * channels < REGISTER and len(pixels) % (2 * joined) == 0:
        joined *= 2
    return pixels.view(-1, joined * channels), joined


def _parts(rows: Tensor) -> tuple[Tensor, ...]:
    return torch.split(rows, max(1, CACHED // rows.shape[1]))
