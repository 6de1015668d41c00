"""Components that only exist on paper: a search space as rich as `quick`, whose pipelines are counted and never built.

They stand on the same axes, under the same grammar and with the same kinds of hyper-parameters as the real ones, so a
driver has as much to ask, write and read. Neither this module nor what it imports loads torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mernas.components  # noqa: F401  # names the real components as the registry's source, which `use` replaces
from mernas.space.errors import Problem, SpaceError
from mernas.space.genotype import Genotype
from mernas.space.parameters import choice, integer, one, real
from mernas.space.registry import REGISTRY, register
from mernas.space.taxonomy import CLIP, IMAGE, MIRRORABLE, PIXELS, VECTOR

SIDE = 28
"""Height and width of the maps that the first block would see."""


def use() -> None:
    """Let the registry hold the components of this module, and no real one."""
    REGISTRY.fill_from(lambda: None)


@register("input", "maps", maps={CLIP: IMAGE})
@dataclass(frozen=True, kw_only=True)
class Maps:
    """Maps of a few channels."""

    channels: int = choice(1, 2, 3, default=3, doc="channels")
    centre: str = choice("none", "median", "mean", default="none", doc="what is taken off")

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return what the maps provide."""
        return {PIXELS, MIRRORABLE}


@register("block", "convolution", maps={IMAGE: IMAGE})
@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A convolution with a pooling."""

    width: int = integer(4, 64, default=8, log=True, doc="channels")
    kernel: int = choice(3, 5, 7, default=3, doc="side of the kernel")
    pool: str = choice("none", "max2", "max3", default="max2", doc="pooling after it")
    dropout: float = real(0.0, 0.5, default=0.0, doc="share of channels dropped")


@register("block", "residual", maps={IMAGE: IMAGE})
@dataclass(frozen=True, kw_only=True)
class Residual:
    """Two convolutions around which the map is added."""

    width: int = integer(4, 64, default=8, log=True, doc="channels")
    dropout: float = real(0.0, 0.3, default=0.0, doc="share of channels dropped")


@register("readout", "average", maps={IMAGE: VECTOR})
@dataclass(frozen=True, kw_only=True)
class Average:
    """Averages over the cells of a grid."""

    grid: int = integer(1, 4, default=2, doc="cells per side")


@register("fusion", "concatenation")
@dataclass(frozen=True, kw_only=True)
class Concatenation:
    """One vector after the other."""


@register("fusion", "sum")
@dataclass(frozen=True, kw_only=True)
class Sum:
    """The sum of the vectors."""


@register("head", "linear")
@dataclass(frozen=True, kw_only=True)
class Linear:
    """One layer."""


@register("head", "mlp")
@dataclass(frozen=True, kw_only=True)
class Perceptron:
    """Two layers."""

    hidden: int = integer(8, 64, default=16, log=True, doc="units between them")


@register("task", "emotion")
@dataclass(frozen=True, kw_only=True)
class Emotion:
    """The class."""

    head: Any = one("head", default="linear", doc="from the vector to the scores")


@register("normalisation", "standardise")
@dataclass(frozen=True, kw_only=True)
class Standardise:
    """Mean 0, deviation 1."""


@register("augmentation", "flip", needs={MIRRORABLE})
@dataclass(frozen=True, kw_only=True)
class Flip:
    """Left and right exchanged."""

    probability: float = real(0.1, 0.5, default=0.5, doc="how often")


@register("augmentation", "shift", needs={PIXELS})
@dataclass(frozen=True, kw_only=True)
class Shift:
    """Moved a little."""

    pixels: int = integer(1, 3, default=2, doc="how far at most")


@register("optimizer", "adamw")
@dataclass(frozen=True, kw_only=True)
class AdamW:
    """AdamW."""

    lr: float = real(1e-4, 1e-1, default=1e-3, log=True, doc="step size")
    weight_decay: float = real(0.0, 0.1, default=0.01, doc="decay")


@register("schedule", "constant")
@dataclass(frozen=True, kw_only=True)
class Constant:
    """Always the same."""


@register("schedule", "cosine")
@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Half a cosine."""

    floor: float = real(0.0, 0.2, default=0.0, doc="what is left at the end")


@register("training", "scratch")
@dataclass(frozen=True, kw_only=True)
class Scratch:
    """From random weights."""

    epochs: int = integer(5, 60, default=20, log=True, doc="passes over the rows")
    batch: int = integer(8, 64, default=32, log=True, doc="rows in a step")
    optimizer: Any = one("optimizer", default="adamw", doc="the optimiser")
    schedule: Any = one("schedule", default="constant", doc="the learning-rate schedule")


@register("loss", "cross_entropy")
@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """Cross-entropy."""

    smoothing: float = real(0.0, 0.2, default=0.0, doc="label smoothing")


@register("loss", "focal")
@dataclass(frozen=True, kw_only=True)
class Focal:
    """Focal loss."""

    gamma: float = real(0.5, 5.0, default=2.0, doc="weight of the hard ones")


@register("classifier", "neighbours")
@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """A classical classifier, so that there is a baseline."""

    count: int = integer(1, 15, default=3, doc="how many are asked")


def count_on_paper(genotype: Genotype, classes: int) -> int:
    """Return how many parameters the network would have.

    Args:
        genotype: A pipeline of this module's components.
        classes: How many scores it ends in.

    Raises:
        SpaceError: If its poolings leave less than the cells of its readout.
    """
    total, widths = 0, []
    for stream in genotype.streams:
        channels, side = int(stream["input"]["channels"]), SIDE
        for block in stream["backbone"]:
            width = int(block["width"])
            if block.name == "residual":
                total += 9 * channels * width + 9 * width * width + channels * width + 4 * width
                side = -(-side // 2)
            else:
                total += int(block["kernel"]) ** 2 * channels * width + 2 * width
                side //= {"none": 1, "max2": 2, "max3": 3}[str(block["pool"])]
            channels = width
        cells = int(stream["readout"]["grid"])
        if side < cells:
            raise SpaceError(Problem("network", f"needs a map of at least {cells} pixels", str(side), "pool less"))
        widths.append(channels * cells * cells)
    summed = genotype["fusion"] is not None and genotype["fusion"].name == "sum"
    if summed and len(set(widths)) > 1:
        raise SpaceError(Problem("network", "adds only vectors of one length", str(widths)))
    width = max(widths) if summed else sum(widths)
    head = genotype["tasks"][0]["head"]
    if head.name == "mlp":
        return total + (width + 1) * int(head["hidden"]) + (int(head["hidden"]) + 1) * classes
    return total + (width + 1) * classes
