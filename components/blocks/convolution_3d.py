"""Convolution in space and time, with what usually follows it (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from mernas.components.blocks.convolution import activated
from mernas.components.contracts import Attention, Shape
from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import choice, integer, optional, real
from mernas.space.registry import register
from mernas.space.taxonomy import VIDEO

Lengths = tuple[int, int, int]
"""In time, height and width."""


@register("block", "convolution_3d", source="Tran et al., ICCV 2015", maps={VIDEO: VIDEO})
@dataclass(frozen=True)
class Convolution3D:
    """One convolution over time, height and width, then norm, activation, attention, pooling and dropout.

    With `kernel_time: 1` it sees each frame by itself; after it, one with `kernel: 1` completes a convolution that is
    factorised into space and time. `padding: same` keeps all three lengths, `padding: none` shortens each by its
    kernel less 1. A stride of s then leaves ceil(n / s), a pooling of k leaves n // k. `norm: late` stands behind the
    activation.

    Example:
        >>> Convolution3D(width=32, kernel_time=15, padding="none", pool=3, pool_time=3).build((1, 18, 64, 64))[1]
        (32, 1, 20, 20)
    """

    width: int = integer(2, 512, default=16, log=True, doc="output channels")
    kernel: int = choice(1, 3, 5, 7, default=3, doc="side of the kernel, in pixels", sizes=True)
    kernel_time: int = choice(1, 3, 5, 7, 9, 15, default=3, doc="length of the kernel, in frames", sizes=True)
    stride: int = choice(1, 2, 3, default=1, doc="in space, in pixels", sizes=True)
    stride_time: int = choice(1, 2, 3, default=1, doc="in time, in frames", sizes=True)
    norm: str = choice("batch", "late", "none", "biasless", default="batch", doc="batch norm, and where it stands")
    activation: str = choice("relu", "gelu", default="relu", doc="what makes it non-linear")
    pooling: str = choice("max", "average", default="max", doc="what is taken of each window")
    pool: int = choice(1, 2, 3, 4, default=2, doc="side and stride of the window in space, in pixels", sizes=True)
    pool_time: int = choice(1, 2, 3, 4, default=1, doc="length and stride of the window in time, in frames", sizes=True)
    dropout: float = real(0.0, 0.7, default=0.0, doc="share of values set to zero in training")
    padding: str = choice("same", "none", default="same", doc="zeros around the clip, in time and space", sizes=True)
    attention: Attention | None = optional("attention", doc="weighs the maps before they are pooled")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (width, T', H', W') that leaves it.

        Args:
            shape: (C, T, H, W).

        Raises:
            SpaceError: If the clip is shorter or smaller than what kernel, stride or pooling need.
        """
        kernels, borders, strides, pools = self._lengths
        inner = [n + 2 * border - kernel + 1 for n, border, kernel in zip(shape[1:], borders, kernels, strict=True)]
        strided = [-(-n // stride) for n, stride in zip(inner, strides, strict=True)]
        left = [n // pool for n, pool in zip(strided, pools, strict=True)]
        if min(left) < 1 or any(n < stride for n, stride in zip(inner, strides, strict=True)):
            rule = f"kernel {_by(kernels)}, padding {self.padding}, stride {_by(strides)} and pooling {_by(pools)} "
            rule += "must leave at least one frame of one pixel"
            remedy = "use more frames, a larger input, or smaller kernels, strides and poolings"
            raise SpaceError(Problem('block "convolution_3d"', rule, f"a clip of {_by(shape[1:])}", remedy))
        return (self.width, *left)

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, T, H, W) and the shape that leaves it; errors as of `shape_after`."""
        left = self.shape_after(shape)
        kernels, borders, strides, pools = self._lengths
        layers: list[nn.Module] = []
        if self.stride_time > 1 and borders[0] > 0:
            # oneDNN 3.12 (of torch 2.13) takes a wrong gradient of the weights, or crashes, where a kernel that moves
            # by more than a frame reaches beyond both ends of the clip: the zeros in time are a layer of their own.
            layers.append(nn.ConstantPad3d((0, 0, 0, 0, borders[0], borders[0]), 0.0))
            borders = (0, *borders[1:])
        convolution = nn.Conv3d(
            shape[0], self.width, kernels, stride=strides, padding=borders, bias=self.norm != "biasless"
        )
        layers += activated(convolution, self.norm, self.activation)
        if self.attention is not None:
            layers.append(self.attention.build(self.width))
        if max(pools) > 1:
            layers.append(nn.MaxPool3d(pools) if self.pooling == "max" else nn.AvgPool3d(pools))
        if self.dropout > 0:
            layers.append(nn.Dropout(self.dropout))
        return nn.Sequential(*layers), left

    @property
    def _lengths(self) -> tuple[Lengths, Lengths, Lengths, Lengths]:
        """Kernels, borders of zeros, strides and poolings, each in time, height and width."""
        kernels = (self.kernel_time, self.kernel, self.kernel)
        same = self.padding == "same"
        borders = (self.kernel_time // 2, self.kernel // 2, self.kernel // 2) if same else (0, 0, 0)
        strides = (self.stride_time, self.stride, self.stride)
        return kernels, borders, strides, (self.pool_time, self.pool, self.pool)


def _by(lengths: Shape) -> str:
    return "x".join(str(length) for length in lengths)
