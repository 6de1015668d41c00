"""Rectangles that are blotted out: an augmentation (survey 4.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mernas.components.rectangles import covered
from mernas.space.parameters import real
from mernas.space.registry import register
from mernas.space.taxonomy import PIXELS

SMALLEST, LONGEST = 0.02, 10 / 3  # of the paper: the smallest area, and the largest ratio of the sides


@register("augmentation", "erase", source="Zhong et al.: Random erasing data augmentation, AAAI 2020", needs={PIXELS})
@dataclass(frozen=True)
class Erase:
    """Blots out one rectangle of some clips, at the same place in all streams and frames, as a hand or hair would.

    The rectangle is filled with the mean of its channel in the clip: zero would say "no motion" only where the zero of
    a map is known. Its area is at least 2% of the map, and no side more than 10/3 of the other one, both as shares of
    the map's sides.

    Example:
        >>> clip = torch.arange(400.0).view(1, 1, 20, 20)
        >>> erased = Erase(probability=1.0).apply([clip], [("gray",)], torch.Generator().manual_seed(0))[0]
        >>> set(erased[erased != clip].tolist())
        {199.5}
    """

    probability: float = real(0.05, 1.0, default=0.5, doc="of erasing a part of a clip")
    area: float = real(0.02, 0.4, default=0.2, doc="largest area, as a share of the map's")

    def apply(
        self, maps: list[Tensor], channels: Sequence[tuple[str, ...]], generator: torch.Generator
    ) -> list[Tensor]:
        """Return the batch with parts of some clips erased, of the same shapes.

        Args:
            maps: (B, C, H, W) or (B, C, T, H, W) for each stream, as prepared; left as they are.
            channels: The channel names of each stream; they do not matter here.
            generator: Decides which clips, and draws area, ratio of the sides (by its logarithm) and place.
        """
        drawn = torch.rand(5, len(maps[0]), generator=generator, device=generator.device).to(maps[0].device)
        area = SMALLEST + (self.area - SMALLEST) * drawn[1]
        ratio = LONGEST ** (2 * drawn[2] - 1)
        height, width = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        top, left = (1 - height) * drawn[3], (1 - width) * drawn[4]
        chosen = drawn[0] < self.probability
        changed: list[Tensor] = []
        for batch in maps:
            rows = covered(batch.shape[-2], top[:, None], (top + height)[:, None], top.device) & chosen[:, None]
            columns = covered(batch.shape[-1], left[:, None], (left + width)[:, None], left.device)
            inside = rows[:, :, None] & columns[:, None, :]  # (B, H, W)
            inside = inside.view(len(batch), *[1] * (batch.dim() - 3), *batch.shape[-2:])
            changed.append(torch.where(inside, batch.mean(dim=tuple(range(2, batch.dim())), keepdim=True), batch))
        return changed
