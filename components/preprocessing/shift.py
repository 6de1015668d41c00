"""Translation by whole pixels: an augmentation (survey 4.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mernas.space.parameters import integer
from mernas.space.registry import register
from mernas.space.taxonomy import PIXELS


@register("augmentation", "shift", needs={PIXELS})
@dataclass(frozen=True)
class Shift:
    """Moves each clip by up to `pixels` in x and in y, as if its face had been registered a little differently.

    All streams and frames of a clip move by the same number of their own pixels, whatever their sizes. Whole pixels
    need no interpolation, which would blur. What comes in at a border repeats the border: zeros would mean "no motion"
    only where the zero of a map is known, and would draw an edge that a network can learn.

    Example:
        >>> ramp = torch.arange(4.0).expand(1, 1, 4, 4)
        >>> moved = Shift(pixels=1).apply([ramp], [("gray",)], torch.Generator().manual_seed(1))[0]
        >>> sorted(set(moved.flatten().tolist()) - set(ramp.flatten().tolist()))  # nothing new appears
        []
    """

    pixels: int = integer(1, 4, default=2, doc="largest shift along each axis, in pixels of each map")

    def apply(
        self, maps: list[Tensor], channels: Sequence[tuple[str, ...]], generator: torch.Generator
    ) -> list[Tensor]:
        """Return the batch with each clip moved, of the same shapes.

        Args:
            maps: (B, C, H, W) or (B, C, T, H, W) for each stream, as prepared; left as they are.
            channels: The channel names of each stream; they do not matter here.
            generator: Decides how far.
        """
        shape = (2, len(maps[0]), 1)
        drawn = torch.randint(-self.pixels, self.pixels + 1, shape, generator=generator, device=generator.device)
        down, right = drawn.to(maps[0].device)
        changed: list[Tensor] = []
        for batch in maps:
            height, width = batch.shape[-2:]
            y = (torch.arange(height, device=batch.device) - down).clamp_(0, height - 1)  # (B, H)
            x = (torch.arange(width, device=batch.device) - right).clamp_(0, width - 1)  # (B, W)
            source = (y[:, :, None] * width + x[:, None, :]).flatten(1)  # (B, H * W): where each pixel comes from
            planes = batch.flatten(1, -3).flatten(2)  # (B, C * T, H * W): the frames of a video are channels here
            source = source[:, None].expand(-1, planes.shape[1], -1)
            changed.append(planes.gather(2, source).view_as(batch))
        return changed
