"""Brightness and contrast: an augmentation (survey 4.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mernas.space.parameters import real
from mernas.space.registry import register
from mernas.space.taxonomy import BRIGHTNESS, PIXELS


@register("augmentation", "jitter", needs={BRIGHTNESS, PIXELS})
@dataclass(frozen=True)
class Jitter:
    """Multiplies the grey values of each clip by a gain and adds an offset, as another lamp or camera would.

    All streams and frames of a clip have the same gain and offset. Grey values (channels called `gray` or `gray …`)
    are then cut to [0, 1]. In differences of grey values, which all other channels are, the offset cancels, and they
    are not cut.

    Example:
        >>> clip = torch.tensor([0.5, 0.2]).view(1, 2, 1, 1)
        >>> changed = Jitter(gain=0.5, offset=0.0).apply(
        ...     [clip], [("gray", "difference")], torch.Generator().manual_seed(0)
        ... )[0]
        >>> [round(float(ratio), 4) for ratio in (changed / clip).flatten()]
        [0.9963, 0.9963]
    """

    gain: float = real(0.0, 0.5, default=0.2, doc="largest distance of the gain from 1, to either side")
    offset: float = real(0.0, 0.3, default=0.1, doc="largest offset, to either side; grey values go from 0 to 1")

    def apply(
        self, maps: list[Tensor], channels: Sequence[tuple[str, ...]], generator: torch.Generator
    ) -> list[Tensor]:
        """Return the batch with each clip's grey values changed, of the same shapes.

        Args:
            maps: (B, C, H, W) or (B, C, T, H, W) for each stream, as prepared; left as they are.
            channels: The channel names of each stream.
            generator: Draws gains and offsets, uniformly.
        """
        drawn = 2 * torch.rand(2, len(maps[0]), generator=generator, device=generator.device) - 1
        gain, offset = (1 + self.gain * drawn[0]).to(maps[0].device), (self.offset * drawn[1]).to(maps[0].device)
        changed: list[Tensor] = []
        for batch, names in zip(maps, channels, strict=True):
            one_each = (-1, *[1] * (batch.dim() - 1))
            result = gain.view(one_each).to(batch.dtype) * batch
            for number, name in enumerate(names):
                if name == "gray" or name.startswith("gray "):
                    grey = result[:, number] + offset.view(one_each[:-1]).to(batch.dtype)
                    result[:, number] = grey.clamp(0.0, 1.0)
            changed.append(result)
        return changed
