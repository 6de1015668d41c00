"""Baselines: families of classical classifiers, each with a small fixed grid that is searched in full."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from mernas.components.datasets.clip import Dataset
from mernas.space.errors import Problem, UnavailableError
from mernas.space.genotype import Genotype, from_plain
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import APEX, FRAMES, GIVEN_FLOW, GIVEN_STRAIN, ONSET

CENTRES = ("none", "median")


def baseline_input(dataset: Dataset, centre: str = "none") -> dict[str, Any]:
    """Return the input of the baselines: flow and strain at 28 pixels, given or by Farneback.

    Raises:
        UnavailableError: If the data provide neither.
    """
    if {GIVEN_FLOW, GIVEN_STRAIN} <= dataset.provides:
        estimator = "given"
    elif {FRAMES, ONSET, APEX} <= dataset.provides:
        estimator = "farneback"
    else:
        have = ", ".join(sorted(dataset.provides)) or "nothing"
        rule = "unavailable: needs flow maps, or frames with onset and apex"
        raise UnavailableError(Problem("baselines", rule, f"data that provide {have}"))
    return {"optical_flow": {"estimator": estimator, "centre": centre}}


def families(dataset: Dataset) -> Mapping[str, tuple[Genotype, ...]]:
    """Return the candidates of every baseline family, in the order of the grid.

    A classifier whose prediction does not depend on the maps has no grid; the others cross theirs with the centring of
    the maps.
    """
    made: dict[str, tuple[Genotype, ...]] = {}
    for name in REGISTRY.names("classifier"):
        if not getattr(REGISTRY.get("classifier", name).factory, "baseline", True):
            continue
        grid: dict[str, tuple[Any, ...]] = REGISTRY.get("classifier", name).factory.family  # type: ignore[attr-defined]  # the Classifier protocol has it
        centres = CENTRES if grid else CENTRES[:1]
        made[name] = tuple(
            from_plain(
                {
                    "streams": [{"input": baseline_input(dataset, centre)}],
                    "classifier": {name: dict(zip(grid, values, strict=True))},
                },
                f"baseline {name}",
            )
            for centre in centres
            for values in itertools.product(*grid.values())
        )
    return made


# Plain LOSO of a baseline uses one setting, not tuned here: that of the figures which were known of the flow images
# before. The nested baselines choose theirs.
PLAIN_CENTRE = {"rbf_svm": "median"}


def plain_baseline(name: str, dataset: Dataset) -> Genotype:
    """Return a baseline at its defaults, for a plain protocol."""
    centre = PLAIN_CENTRE.get(name, "none")
    data = {"streams": [{"input": baseline_input(dataset, centre)}], "classifier": {name: {}}}
    return from_plain(data, f"baseline {name}")
