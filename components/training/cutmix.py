"""Rectangles of clips pasted into each other: a mixing (survey 4.1.5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mernas.components.rectangles import covered
from mernas.components.training.mixup import drawn_share
from mernas.space.parameters import real
from mernas.space.registry import register
from mernas.space.taxonomy import PIXELS


@register("mixing", "cutmix", source="Yun et al.: CutMix, ICCV 2019", needs={PIXELS})
@dataclass(frozen=True)
class Cutmix:
    """Replaces in every clip of a batch one rectangle by that of another clip of it, and mixes their losses likewise.

    The rectangle has the proportions of the map and lies inside it, at the same place in all streams and frames. Its
    area is the smaller of a draw x from Beta(alpha, alpha) and 1 - x; the share of the clip itself is the part of its
    pixels that stay, averaged over the streams.

    Example:
        >>> maps = [torch.arange(2.0).view(2, 1, 1, 1).expand(2, 1, 20, 20)]
        >>> mixed, other, share = Cutmix(alpha=1.0).mix(maps, torch.Generator().manual_seed(1))
        >>> other.tolist(), round(share, 4), round(float(mixed[0][1].mean()), 4)
        ([1, 0], 0.9375, 0.9375)
    """

    alpha: float = real(0.05, 4.0, default=1.0, log=True, doc="of the Beta distribution; larger mixes more evenly")

    def mix(self, maps: list[Tensor], generator: torch.Generator) -> tuple[list[Tensor], Tensor, float]:
        """Return mixed maps, which row was pasted into which (a permutation (B,)), and the share of the row itself.

        Args:
            maps: (B, C, H, W) or (B, C, T, H, W) for each stream; left as they are.
            generator: Draws the rectangle and the permutation.
        """
        device = maps[0].device
        side = (1 - drawn_share(self.alpha, generator)) ** 0.5
        top, left = (torch.rand(2, generator=generator, device=generator.device) * (1 - side)).tolist()
        other = torch.randperm(len(maps[0]), generator=generator, device=generator.device).to(device)
        mixed: list[Tensor] = []
        kept = 0.0
        for batch in maps:
            rows = covered(batch.shape[-2], top, top + side)
            inside = rows[:, None] & covered(batch.shape[-1], left, left + side)
            mixed.append(torch.where(inside.to(device), batch[other], batch))
            kept += 1 - float(inside.float().mean())
        return mixed, other, kept / len(maps)
