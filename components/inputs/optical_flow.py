"""Input `optical_flow`: displacement and strain between onset and apex (survey section 4.2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.contracts import FlowEstimator
from mernas.components.datasets.clip import Clip
from mernas.components.inputs.apex_frame import resized
from mernas.space.parameters import choice, one
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, IMAGE, MIRRORABLE, TRUE_FLOW


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
    a stretched release has lost, and it takes the motion of the whole head out of true flow.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> from mernas.components.inputs.farneback import Farneback
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=np.zeros((2, 64, 48), np.uint8), onset=0, apex=1)
        >>> flow = OpticalFlow(estimator=Farneback(), quantities="u+v", size=28)
        >>> flow.channels, flow.prepare(clip).shape
        (('u', 'v'), (2, 28, 28))
    """

    estimator: FlowEstimator = one("flow_estimator", default="farneback", doc="where the flow comes from")
    quantities: str = choice(
        "u+v", "u+v+strain", "strain", default="u+v+strain", doc="what the channels of the map hold"
    )
    centre: str = choice("none", "median", default="none", doc="what is subtracted from every channel of every map")
    size: int = choice(14, 28, 42, 56, 84, 112, default=28, doc="height and width of the map, in pixels")

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, e.g. `("u", "v", "strain")`."""
        return tuple(self.quantities.split("+"))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, size, size) of every map."""
        return (len(self.channels), self.size, self.size)

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return what the maps provide: they can be mirrored if there is no u to negate, or if its zero is known."""
        zero_is_known = self.centre == "median" or self.estimator.zero_is_known or TRUE_FLOW in facts
        return {MIRRORABLE} if zero_is_known or "u" not in self.channels else set()

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        """Return the map of a clip, (C, size, size), contiguous.

        Raises:
            DataError: If the clip lacks what the estimator needs.
        """
        flow = self.estimator.flow(clip)
        planes: list[NDArray[np.float32]] = []
        if "u" in self.channels:
            planes += [flow[0], flow[1]]
        if "strain" in self.channels:
            planes.append(self.estimator.strain(clip, flow))
        maps = resized(np.stack(planes), self.size)
        if self.centre == "median":
            maps -= np.median(maps, axis=(1, 2), keepdims=True)
        return np.ascontiguousarray(maps, dtype=np.float32)
