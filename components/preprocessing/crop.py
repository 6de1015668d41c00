"""A random part of the map at its full size: an augmentation (survey 4.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mernas.space.parameters import real
from mernas.space.registry import register
from mernas.space.taxonomy import PIXELS


@register("augmentation", "crop", needs={PIXELS})
@dataclass(frozen=True)
class Crop:
    """Cuts from each clip a random part of its own proportions and resizes it to the whole, as a tighter crop would.

    All streams and frames of a clip are cut alike. Values are interpolated and else left alone: inputs measure flow
    in pixels of the frames, which a tighter crop of the same frames does not change.

    Example:
        >>> ramp = torch.arange(8.0).expand(1, 1, 8, 8)
        >>> part = Crop(side=0.5).apply([ramp], [("gray",)], torch.Generator().manual_seed(0))[0]
        >>> bool(part.max() - part.min() < 7), part.shape
        (True, torch.Size([1, 1, 8, 8]))
    """

    side: float = real(0.5, 0.98, default=0.9, doc="smallest height and width of the part, as a share of the map's")

    def apply(
        self, maps: list[Tensor], channels: Sequence[tuple[str, ...]], generator: torch.Generator
    ) -> list[Tensor]:
        """Return the batch with each clip cut and resized, of the same shapes.

        Args:
            maps: (B, C, H, W) or (B, C, T, H, W) for each stream, as prepared; left as they are.
            channels: The channel names of each stream; they do not matter here.
            generator: Draws side and place of the parts, uniformly.
        """
        drawn = torch.rand(3, len(maps[0]), generator=generator, device=generator.device).to(maps[0].device)
        side = self.side + (1 - self.side) * drawn[0]
        right, down = (1 - side) * (2 * drawn[1:] - 1)  # of the part's centre; the map goes from -1 to 1
        zero = torch.zeros_like(side)
        parts = torch.stack([side, zero, right, zero, side, down], dim=1).view(-1, 2, 3)
        changed: list[Tensor] = []
        for batch in maps:
            planes = batch.flatten(1, -3)  # (B, C * T, H, W): the frames of a video are channels here
            places = F.affine_grid(parts.to(batch.dtype), list(planes.shape), align_corners=False)
            cut = F.grid_sample(planes, places, padding_mode="border", align_corners=False)
            changed.append(cut.view(batch.shape))
        return changed
