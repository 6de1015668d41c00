"""Mirroring left and right: an augmentation (survey 4.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mernas.space.parameters import real
from mernas.space.registry import register
from mernas.space.taxonomy import MIRRORABLE


@register("augmentation", "flip", needs={MIRRORABLE})
@dataclass(frozen=True)
class Flip:
    """Mirrors some clips of a batch; all streams and frames of a clip alike.

    In a mirrored face what moved to the right moves to the left, so the horizontal flow `u` changes its sign; the
    other channels do not. This needs maps whose zero is known.

    Example:
        >>> flow = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])  # one clip, channels u and v, one row of two pixels
        >>> Flip(probability=1.0).apply([flow], [("u", "v")], torch.Generator())[0].tolist()
        [[[[-2.0, -1.0]], [[4.0, 3.0]]]]
    """

    probability: float = real(0.0, 1.0, default=0.5, doc="of mirroring a clip")

    def apply(
        self, maps: list[Tensor], channels: Sequence[tuple[str, ...]], generator: torch.Generator
    ) -> list[Tensor]:
        """Return the batch with some clips mirrored, of the same shapes.

        Args:
            maps: (B, C, H, W) or (B, C, T, H, W) for each stream, as prepared; left as they are.
            channels: The channel names of each stream.
            generator: Decides which clips.
        """
        drawn = torch.rand(len(maps[0]), generator=generator, device=generator.device)
        chosen = (drawn < self.probability).to(maps[0].device)
        changed: list[Tensor] = []
        for batch, names in zip(maps, channels, strict=True):
            mirrored = batch.flip(-1)
            for number, name in enumerate(names):
                if name == "u":
                    mirrored[:, number].neg_()  # `flip` copied: the given maps stay as they are
            changed.append(torch.where(chosen.view(-1, *[1] * (batch.dim() - 1)), mirrored, batch))
        return changed
