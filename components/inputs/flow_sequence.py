"""Input `flow_sequence`: how far everything has moved since the onset, moment by moment (survey section 4.2.2)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mernas.components.contracts import FlowEstimator
from mernas.components.datasets.clip import Clip
from mernas.components.inputs.dis import DenseInverseSearch
from mernas.components.inputs.farneback import Farneback
from mernas.components.inputs.grey_frames import expression_span, grey_maps
from mernas.components.inputs.optical_flow import flow_maps
from mernas.space.parameters import choice
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAMES, MIRRORABLE, OFFSET, ONSET, PIXELS, TURNABLE, VIDEO

# No slot of the axis `flow_estimator`: what may stand there depends on data that have an apex, which this input does
# not need, and includes the maps of a release, which cannot be measured anew for other moments.
ESTIMATORS: Mapping[str, FlowEstimator] = {"farneback": Farneback(), "dis": DenseInverseSearch()}


@register(
    "input",
    "flow_sequence",
    section="4.2.2",
    source="Zhang, Hong, Arandjelovic, Zhao, Short and long range relation based spatio-temporal transformer for "
    "micro-expression recognition (SLSTT), IEEE TAC 2022; with grey frames and strain: Khor, See, Phan, Lin, FG 2018",
    needs={FRAMES, ONSET, OFFSET},
    maps={CLIP: VIDEO},
)
@dataclass(frozen=True, kw_only=True)
class FlowSequence:
    """Flow from the onset to each of some later moments, equally spaced in time up to the offset ("long-term flow").

    Each moment is the nearest frame, so that a clip shorter than the sequence repeats some. Each map is made as those
    of `optical_flow` are, with that frame in the place of the apex: vectors are in pixels of the clip's frames, and
    centring subtracts from u, v and strain of every frame their medians. Grey values are those of the later frame, in
    [0, 1], and never centred.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", frames=np.zeros((9, 64, 48), np.uint8), onset=0, offset=8)
        >>> flow = FlowSequence(frames=4, quantities="u+v")
        >>> flow.channels, flow.prepare(clip).shape
        (('u', 'v'), (2, 4, 28, 28))
    """

    estimator: str = choice("farneback", "dis", default="farneback", doc="what measures the flow, with its defaults")
    quantities: str = choice(
        "u+v", "u+v+strain", "gray+u+v+strain", default="u+v+strain", doc="what the channels of the map hold"
    )
    centre: str = choice("none", "median", default="none", doc="what is subtracted from u, v and strain of every frame")
    frames: int = choice(4, 6, 8, 10, 12, 16, 18, 20, 32, default=8, doc="how many moments after the onset")
    size: int = choice(
        14,
        28,
        42,
        48,
        56,
        60,
        64,
        84,
        112,
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
        return tuple(self.quantities.split("+"))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (C, frames, size, size) of every map."""
        return (len(self.channels), self.frames, self.size, self.size)

    def provides(self, facts: frozenset[str]) -> set[str]:
        """Return what the maps provide: they hold true flow, whatever the data have."""
        return {PIXELS, MIRRORABLE, TURNABLE}

    def prepare(self, clip: Clip) -> NDArray[np.float32]:
        """Return the map of a clip, (C, frames, size, size).

        Raises:
            DataError: If the clip lacks its onset or offset, ends before it begins, or its frames differ in size.
        """
        onset, offset = expression_span(clip)
        steps = range(1, self.frames + 1)
        # Rounded in whole numbers, halves up.
        numbers = [onset + (2 * (offset - onset) * step + self.frames) // (2 * self.frames) for step in steps]
        maps = {number: self._moment(clip, number) for number in sorted(set(numbers))}
        return np.ascontiguousarray(np.stack([maps[number] for number in numbers], axis=1))

    def _moment(self, clip: Clip, number: int) -> NDArray[np.float32]:
        """Return the map (C, size, size) of one moment."""
        motion = [name for name in self.channels if name != "gray"]
        until = dataclasses.replace(clip, apex=number)
        maps = flow_maps(ESTIMATORS[self.estimator], until, motion, self.size, self.centre)
        return np.concatenate([grey_maps(clip, [number], self.size), maps]) if "gray" in self.channels else maps
