"""Flow estimator `given`: the flow and strain maps that a release ships instead of frames (survey section 4.2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.space.errors import DataError, Problem
from mernas.space.registry import register
from mernas.space.taxonomy import GIVEN_FLOW, GIVEN_STRAIN


@register(
    "flow_estimator",
    "given",
    source="Liong et al., Shallow triple stream three-dimensional CNN (STSTNet), FG 2019, which released such maps",
    needs={GIVEN_FLOW, GIVEN_STRAIN},
)
@dataclass(frozen=True)
class GivenFlow:
    """Flow and strain as the release has them, in its own scale; nothing is computed.

    Attributes:
        zero_is_known: No: releases stretch their maps, and then no value stands for "nothing moved". Data whose flow
            is true say so themselves, by the capability `true flow`.

    Example:
        >>> from mernas.components.datasets.clip import Clip
        >>> maps = {"flow": lambda: np.ones((2, 4, 4), np.float32), "strain": lambda: np.zeros((4, 4), np.float32)}
        >>> clip = Clip("a/b/c", "a", "a/b", "hash", given=maps)
        >>> GivenFlow().flow(clip).shape
        (2, 4, 4)
    """

    zero_is_known: ClassVar[bool] = False

    def flow(self, clip: Clip) -> NDArray[np.float32]:
        """Return (u, v) as the release ships it, (2, H, W).

        Raises:
            DataError: If the clip comes without a flow map.
        """
        return _given(clip, "flow")

    def strain(self, clip: Clip, flow: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the strain as the release ships it, (H, W), whatever the flow.

        Raises:
            DataError: If the clip comes without a strain map.
        """
        return _given(clip, "strain")


def _given(clip: Clip, name: str) -> NDArray[np.float32]:
    if name not in clip.given:
        found = ", ".join(sorted(clip.given)) or "no maps"
        raise DataError(Problem(clip.key, f"must come with a {name} map", found, "choose another estimator"))
    return clip.given[name]()
