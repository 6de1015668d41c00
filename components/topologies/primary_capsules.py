"""Primary capsules: a readout for the head `capsule` (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mernas.components.contracts import Shape
from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import choice, integer
from mernas.space.registry import register
from mernas.space.taxonomy import CAPSULES, IMAGE, VECTOR

CAPSULE_LENGTH = 8
"""Numbers of one primary capsule, as published."""


def squash(vectors: Tensor) -> Tensor:
    """Return vectors of the same direction whose length n became n^2 / (1 + n^2); vectors lie along the last axis.

    Example:
        >>> import torch
        >>> squash(torch.tensor([3.0, 0.0]))
        tensor([0.9000, 0.0000])
    """
    square = vectors.square().sum(dim=-1, keepdim=True)
    # The small number keeps the gradient of the root finite where a capsule is all zeros.
    return vectors * (square + 1e-12).sqrt() / (1 + square)


@register(
    "readout",
    "primary_capsules",
    section="5.1",
    source="Sabour, Frosst, Hinton: NeurIPS 2017",
    provides={CAPSULES},
    maps={IMAGE: VECTOR},
)
@dataclass(frozen=True)
class PrimaryCapsules:
    """A convolution without padding whose channels, eight at a time, are capsules: vectors shorter than 1.

    Capsules lie one after the other in the vector: eight consecutive numbers are one capsule. First come all places of
    the first type, row by row, then those of the second.

    Example:
        >>> PrimaryCapsules(types=32, kernel=9, stride=2).build((256, 20, 20))[1]
        (9216,)
    """

    types: int = integer(1, 64, default=8, log=True, doc="capsules at each place")
    kernel: int = choice(1, 3, 5, 7, 9, default=3, doc="side of the kernel, in pixels", sizes=True)
    stride: int = choice(1, 2, default=2, doc="pixels from one place to the next")

    def shape_after(self, shape: Shape) -> Shape:
        """Return the shape (types * H' * W' * 8,) that leaves it.

        Args:
            shape: (C, H, W).

        Raises:
            SpaceError: If the kernel is larger than the map.
        """
        _, height, width = shape
        if min(height, width) < self.kernel:
            rule = f"a kernel of {self.kernel} needs a map of at least {self.kernel}x{self.kernel}"
            remedy = "use a smaller kernel, a larger input or fewer poolings"
            raise SpaceError(Problem('readout "primary_capsules", kernel', rule, f"{height}x{width}", remedy))
        height, width = ((side - self.kernel) // self.stride + 1 for side in (height, width))
        return (self.types * height * width * CAPSULE_LENGTH,)

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, H, W) and the shape that leaves it; errors as of `shape_after`."""
        left = self.shape_after(shape)
        convolution = nn.Conv2d(shape[0], self.types * CAPSULE_LENGTH, self.kernel, stride=self.stride)
        return nn.Sequential(convolution, _ToCapsules(self.types)), left


class _ToCapsules(nn.Module):
    def __init__(self, types: int) -> None:
        super().__init__()
        self.types = types

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, types * H * W * 8) for (B, types * 8, H, W)."""
        batch, _, height, width = maps.shape
        capsules = maps.reshape(batch, self.types, CAPSULE_LENGTH, height * width).transpose(2, 3)
        return squash(capsules).flatten(1)
