"""Gaussian noise: an augmentation (survey 4.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mernas.space.parameters import real
from mernas.space.registry import register
from mernas.space.taxonomy import PIXELS


@register("augmentation", "noise", needs={PIXELS})
@dataclass(frozen=True)
class Noise:
    """Adds to every value a normal random number, whose spread is a share of that of its channel in the clip.

    Measured by the map itself the same share fits flow, strain and grey values. The noise is new for each pixel of
    each frame, as that of a camera is: a pattern that stayed would cancel in every difference of frames.

    Example:
        >>> clip = torch.arange(400.0).view(1, 1, 20, 20)
        >>> noisy = Noise(share=0.1).apply([clip], [("gray",)], torch.Generator().manual_seed(0))[0]
        >>> round(float((noisy - clip).std() / clip.std()), 2)
        0.1
    """

    share: float = real(0.01, 0.5, default=0.1, log=True, doc="spread of the noise, as a share of the channel's own")

    def apply(
        self, maps: list[Tensor], channels: Sequence[tuple[str, ...]], generator: torch.Generator
    ) -> list[Tensor]:
        """Return the batch with noise, of the same shapes.

        Args:
            maps: (B, C, H, W) or (B, C, T, H, W) for each stream, as prepared; left as they are.
            channels: The channel names of each stream; they do not matter here.
            generator: Draws the noise.
        """
        changed: list[Tensor] = []
        for batch in maps:
            spread = batch.std(dim=tuple(range(2, batch.dim())), correction=0, keepdim=True)
            drawn = torch.randn(batch.shape, generator=generator, device=generator.device, dtype=batch.dtype)
            changed.append(batch + self.share * spread * drawn.to(batch.device))
        return changed
