"""Temporal shift: some channels come from the frame before or after (survey 5.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mernas.components.contracts import Shape
from mernas.space.errors import Problem, SpaceError
from mernas.space.parameters import choice
from mernas.space.registry import register
from mernas.space.taxonomy import VIDEO


@register("block", "temporal_shift", source="Lin, Gan, Han: ICCV 2019", maps={VIDEO: VIDEO})
@dataclass(frozen=True)
class TemporalShift:
    """Of each `part` channels, one is taken from the next frame, one from the frame before; the others stay.

    A block of images that follows then sees three frames at once, at no cost. The first channels are those of the next
    frame; beyond the ends of a clip there are zeros.

    Example:
        >>> module, shape = TemporalShift(part=4).build((4, 2, 1, 1))
        >>> module(torch.arange(1.0, 9.0).reshape(1, 4, 2, 1, 1)).flatten().tolist()
        [2.0, 0.0, 0.0, 3.0, 5.0, 6.0, 7.0, 8.0]
    """

    part: int = choice(3, 4, 8, 16, default=8, doc="of how many channels one is shifted, to each side", sizes=True)

    def shape_after(self, shape: Shape) -> Shape:
        """Return the same shape.

        Args:
            shape: (C, T, H, W).

        Raises:
            SpaceError: If there are fewer channels than `part`, or a single frame.
        """
        problems: list[Problem | str] = []
        if shape[0] < self.part:
            rule = f"needs at least {self.part} channels, or none would be shifted"
            remedy = "use a smaller part, or more channels in the block before"
            problems.append(Problem('block "temporal_shift", part', rule, str(shape[0]), remedy))
        if shape[1] < 2:
            remedy = "use more frames, or no pooling in time before it"
            problems.append(Problem('block "temporal_shift"', "needs at least 2 frames", str(shape[1]), remedy))
        if problems:
            raise SpaceError(problems)
        return shape

    def build(self, shape: Shape) -> tuple[nn.Module, Shape]:
        """Return the module for maps (B, C, T, H, W) and the same shape; errors as of `shape_after`."""
        left = self.shape_after(shape)
        return _Shift(shape[0] // self.part), left


class _Shift(nn.Module):
    def __init__(self, shifted: int) -> None:
        super().__init__()
        self.shifted = shifted

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, C, T, H, W), shifted in time."""
        n = self.shifted
        nothing = torch.zeros_like(maps[:, :n, :1])
        following = torch.cat([maps[:, :n, 1:], nothing], dim=2)
        before = torch.cat([nothing, maps[:, n : 2 * n, :-1]], dim=2)
        return torch.cat([following, before, maps[:, 2 * n :]], dim=1)
