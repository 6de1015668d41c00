"""Rotation by a few degrees: an augmentation (survey 4.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mernas.space.parameters import real
from mernas.space.registry import register
from mernas.space.taxonomy import PIXELS, TURNABLE


@register("augmentation", "rotate", needs={TURNABLE, PIXELS})
@dataclass(frozen=True)
class Rotate:
    """Turns each clip about its centre by an angle of its own, all streams and frames alike, as a tilted head would.

    The vectors (u, v) of a flow turn along with the place where they stand; all other channels are only moved. Between
    pixels values are interpolated, and what comes in at a border repeats the border. A map that was resized from
    another proportion is turned as it is.

    Example:
        >>> flow = torch.ones(1, 2, 5, 5)  # everything moves to the right and downwards
        >>> turned = Rotate(degrees=45.0).apply([flow], [("u", "v")], torch.Generator().manual_seed(0))[0]
        >>> speed = turned.square().sum(dim=1).sqrt()
        >>> bool(torch.allclose(speed, torch.tensor(2.0).sqrt())), bool((turned - flow).abs().min() > 1e-3)
        (True, True)
    """

    degrees: float = real(1.0, 45.0, default=5.0, doc="largest angle, to either side")

    def apply(
        self, maps: list[Tensor], channels: Sequence[tuple[str, ...]], generator: torch.Generator
    ) -> list[Tensor]:
        """Return the batch with each clip turned, of the same shapes.

        Args:
            maps: (B, C, H, W) or (B, C, T, H, W) for each stream, as prepared; left as they are.
            channels: The channel names of each stream.
            generator: Draws the angles, uniformly.
        """
        drawn = torch.rand(len(maps[0]), generator=generator, device=generator.device)
        angles = ((2 * drawn - 1) * self.degrees).to(maps[0].device)
        return [turned(batch, names, angles) for batch, names in zip(maps, channels, strict=True)]


def turned(batch: Tensor, names: tuple[str, ...], angles: Tensor) -> Tensor:
    """Return maps that are turned about their centres.

    Args:
        batch: (B, C, H, W) or (B, C, T, H, W).
        names: Of the channels; `u` points to the right and `v` downwards.
        angles: (B,) in degrees, counter-clockwise as one sees the map, whose rows go downwards.

    Example:
        >>> flow = torch.zeros(1, 2, 3, 3)
        >>> flow[0, 0, 1, 2] = 1.0  # on the right, to the right
        >>> top = turned(flow, ("u", "v"), torch.tensor([90.0]))[0, :, 0, 1]
        >>> bool(torch.allclose(top, torch.tensor([0.0, -1.0]), atol=1e-5))  # at the top, upwards
        True
    """
    from kornia.geometry.transform import rotate  # takes seconds to import, and few pipelines need it

    planes = batch.flatten(1, -3)  # (B, C * T, H, W): the frames of a video are channels here
    result = rotate(planes, angles.to(batch.dtype), padding_mode="border").reshape(batch.shape)
    if "u" in names and "v" in names:
        radians = torch.deg2rad(angles.to(batch.dtype)).view(-1, *[1] * (batch.dim() - 2))
        u, v = result[:, names.index("u")].clone(), result[:, names.index("v")].clone()
        result[:, names.index("u")] = radians.cos() * u + radians.sin() * v
        result[:, names.index("v")] = radians.cos() * v - radians.sin() * u
    return result
