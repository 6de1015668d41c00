"""Input `optical_flow`: displacement and strain between onset and apex (survey section 4.2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.contracts import FlowEstimator
from mernas.components.datasets.clip import Clip
from mernas.components.inputs.apex_frame import resized
from mernas.space.parameters import choice, one
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, IMAGE, MIRRORABLE, PIXELS, TRUE_FLOW, TURNABLE

INDISTINCT = 0.1
"""Pixels of displacement below which a direction is mostly noise, and is faded out."""


@register(
    "input",
    "optical_flow",
    section="4.2.2",
    source="Liong et al., Shallow triple stream three-dimensional CNN (STSTNet), FG 2019",
    maps={CLIP: IMAGE},
)
@dataclass(frozen=True, kw_only=True)
class OpticalFlow:
    """Flow and strain from onset to apex as a map of one, two or three channels.

    Flow and strain are taken at the resolution of the clip, then resized to a square, then centred. Resizing leaves
    the values alone: vectors stay in pixels of the clip's frames (or in the release's own scale). Centring subtracts
    from every channel of every map its own median: most of a face is still, so the median stands in for the zero that
    a stretched release has lost, and it takes the motion of the whole head out of true flow. Magnitude and orientation
    come last, from vectors that are resized and centred, and are not centred themselves. They need true flow.

    An orientation is two channels, `cosine` and `sine`: (u, v) / sqrt(u² + v² + 0.1²). An angle would jump where it
    comes full circle, and a unit vector where nothing moves; this one has a length near 1 where the flow is larger
    than a tenth of a pixel, and fades to (0, 0) where it is not, since there is no direction then.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> from mernas.components.inputs.farneback import Farneback
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=np.zeros((2, 64, 48), np.uint8), onset=0, apex=1)
        >>> flow = OpticalFlow(estimator=Farneback(), quantities="u+v", size=28)
        >>> flow.channels, flow.prepare(clip).shape
        (('u', 'v'), (2, 28, 28))
        >>> OpticalFlow(estimator=Farneback(), quantities="magnitude+orientation").channels
        ('magnitude', 'cosine', 'sine')
    """

    estimator: FlowEstimator = one("flow_estimator", default="farneback", doc="where the flow comes from")
    quantities: str = choice(
        "u+v",
        "u+v+strain",
        "strain",
        "u",
        "v",
        "magnitude",
        "magnitude+orientation",
        "u+v+magnitude",
        default="u+v+strain",
        doc="what the channels of the map hold",
        needs={
            "magnitude": {TRUE_FLOW},
            "magnitude+orientation": {TRUE_FLOW},
            "u+v+magnitude": {TRUE_FLOW},
        },
    )
    centre: str = choice("none", "median", default="none", doc="what is subtracted from every channel of every map")
    size: int = choice(
        14,
        28,
        42,
        56,
        84,
        112,
        48,
        60,
        64,
        128,
        160,
        168,
        224,
        default=28,
        doc="height and width of a map, in pixels",
    )

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, e.g. `("u", "v", "strain")`."""
        return tuple(self.quantities.replace("orientation", "cosine+sine").split("+"))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, size, size) of every map."""
        return (len(self.channels), self.size, self.size)

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return what the maps provide.

        They can be mirrored if no channel depends on u, or if u is there to negate and its zero is known; a cosine
        would have to be negated, too, and is not. They can be turned if no channel has a direction (a strain, or a
        magnitude of true flow), or if the flow is true and has both u and v.
        """
        true_flow = self.estimator.zero_is_known or TRUE_FLOW in facts
        names = set(self.channels)
        provided = {PIXELS}
        if "cosine" not in names and (true_flow or self.centre == "median" or not names & {"u", "magnitude"}):
            provided.add(MIRRORABLE)
        directed = names & {"u", "v", "cosine", "sine"}
        if names == {"strain"} or (true_flow and directed in (set(), {"u", "v"})):
            provided.add(TURNABLE)
        return provided

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        """Return the map of a clip, (C, size, size), contiguous.

        Raises:
            DataError: If the clip lacks what the estimator needs.
        """
        return flow_maps(self.estimator, clip, self.channels, self.size, self.centre)


def flow_maps(
    estimator: FlowEstimator, clip: Clip, channels: Sequence[str], size: int, centre: str
) -> NDArray[np.float32]:
    """Return the map of the motion from onset to apex, (C, size, size), contiguous.

    Args:
        estimator: Where the flow comes from.
        clip: The clip.
        channels: What is wanted, in this order: of u, v, strain, magnitude, cosine and sine.
        size: Height and width, in pixels.
        centre: `none`, or `median` for u, v and strain without their medians.

    Raises:
        DataError: If the clip lacks what the estimator needs.
    """
    flow = estimator.flow(clip)
    planes: dict[str, NDArray[np.float32]] = {}
    if set(channels) != {"strain"}:
        planes["u"], planes["v"] = flow
    if "strain" in channels:
        planes["strain"] = estimator.strain(clip, flow)
    maps = resized(np.stack(list(planes.values())), size)
    if centre == "median":
        maps -= np.median(maps, axis=(1, 2), keepdims=True)
    known = dict(zip(planes, maps, strict=True))
    if "u" in known:
        u, v = known["u"], known["v"]
        length = np.sqrt(u**2 + v**2 + np.float32(INDISTINCT) ** 2)
        known |= {"magnitude": np.hypot(u, v), "cosine": u / length, "sine": v / length}
    return np.ascontiguousarray(np.stack([known[name] for name in channels]), dtype=np.float32)
