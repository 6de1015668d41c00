"""Clips added to each other: a mixing (survey 4.1.5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mernas.space.parameters import real
from mernas.space.registry import register


@register("mixing", "mixup", source="Zhang, Cisse, Dauphin, Lopez-Paz: mixup, ICLR 2018")
@dataclass(frozen=True)
class Mixup:
    """Makes of every clip of a batch the weighted mean of itself and another clip of it, and of their losses likewise.

    The weight is drawn from Beta(alpha, alpha) once for a batch; the larger of it and its complement is the share of
    the clip itself, so that it is at least a half. (A share below a half only swaps the names of the two clips.)

    Example:
        >>> maps = [torch.tensor([0.0, 1.0]).view(2, 1, 1, 1)]
        >>> mixed, other, share = Mixup(alpha=1.0).mix(maps, torch.Generator().manual_seed(5))
        >>> other.tolist(), round(share, 4), [round(value, 4) for value in mixed[0].flatten().tolist()]
        ([1, 0], 0.642, [0.358, 0.642])
    """

    alpha: float = real(0.05, 4.0, default=0.4, log=True, doc="of the Beta distribution; larger mixes more evenly")

    def mix(self, maps: list[Tensor], generator: torch.Generator) -> tuple[list[Tensor], Tensor, float]:
        """Return mixed maps, which row was mixed into which (a permutation (B,)), and the share of the row itself.

        Args:
            maps: (B, ...) for each stream; left as they are.
            generator: Draws the share and the permutation.
        """
        share = drawn_share(self.alpha, generator)
        other = torch.randperm(len(maps[0]), generator=generator, device=generator.device).to(maps[0].device)
        return [share * batch + (1 - share) * batch[other] for batch in maps], other, share


def drawn_share(alpha: float, generator: torch.Generator) -> float:
    """Return max(x, 1 - x), with x drawn from Beta(alpha, alpha).

    By the inverse of the distribution function: torch's own distributions draw from its global generator.

    Example:
        >>> drawn_share(0.4, torch.Generator().manual_seed(0)) >= 0.5
        True
    """
    from scipy.special import betaincinv  # takes long to import, and few pipelines need it

    uniform = torch.rand((), generator=generator, device=generator.device, dtype=torch.float64)
    drawn = float(betaincinv(alpha, alpha, float(uniform)))
    return max(drawn, 1.0 - drawn)
