"""Pipelines around a component: every other part is the simplest one that mernas has."""

from __future__ import annotations

from collections.abc import Sequence

from mernas.components.testing.sampling import default_leaf
from mernas.space.genotype import Genotype, Leaf, Value
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import GRAPH, IMAGE, SEQUENCE, VECTOR, VIDEO

READOUTS = {IMAGE: "average", VIDEO: "average", GRAPH: "flatten", VECTOR: "identity"}
"""The plainest readout of each kind."""


def leaf(axis: str, name: str, **values: Value) -> Leaf:
    """Return a registered component with these values, and defaults for the others.

    Example:
        >>> leaf("input", "apex_frame", size=14)["size"]
        14
    """
    made = default_leaf(REGISTRY.get(axis, name), filled=values)
    if made is None:
        raise ValueError(f'{axis} "{name}" has a slot without default that must be filled')
    return made


def input_of(kind: str) -> Leaf:
    """Return an input whose maps are small: (1, 14, 14), (1, 6, 14, 14), (51, 4) or (16,)."""
    if kind == IMAGE:
        return leaf("input", "apex_frame", size=14)
    if kind == VIDEO:
        return leaf("input", "sequence", frames=6, size=14)
    if kind == GRAPH:
        return leaf("input", "landmark_graph", points=51)
    return leaf("input", "bi_woof", grid=2, bins=4)


def stream_of(
    source: Leaf | str,
    backbone: Sequence[Leaf] = (),
    readout: Leaf | None = None,
    cascade: Leaf | None = None,
    preprocessing: Sequence[Leaf] = (),
) -> Leaf:
    """Return a stream.

    Args:
        source: Its input, or the kind of maps that a small one shall make.
        backbone: Its blocks.
        readout: Its readout; the plainest for the kind that arrives, if none.
        cascade: Its cascade; the mean of the tokens, if none and there are tokens.
        preprocessing: Steps on the clips.
    """
    entering = input_of(source) if isinstance(source, str) else source
    (kind,) = REGISTRY.get("input", entering.name).maps.values()
    for block in backbone:
        kind = REGISTRY.get("block", block.name).maps[kind]
    last = leaf("readout", READOUTS[kind]) if readout is None else readout
    if cascade is None and REGISTRY.get("readout", last.name).maps[kind] == SEQUENCE:
        cascade = leaf("cascade", "mean_tokens")
    return leaf(
        "stream",
        "stream",
        input=entering,
        backbone=tuple(backbone),
        readout=last,
        cascade=cascade,
        preprocessing=tuple(preprocessing),
    )


def network_of(streams: Sequence[Leaf], **parts: Value) -> Genotype:
    """Return a network pipeline of some streams; its other parts are the simplest unless they are given."""
    values: dict[str, Value] = {
        "streams": tuple(streams),
        "tasks": (leaf("task", "emotion"),),
        "loss": (leaf("loss", "cross_entropy"),),
        "training": quick_training(),
        **parts,
    }
    return Genotype(leaf("pipeline", "network", **values))


def quick_training(**parts: Value) -> Leaf:
    """Return a training of ten epochs with small batches and a high learning rate."""
    values: dict[str, Value] = {
        "epochs": 10,
        "batch": 8,
        "optimizer": leaf("optimizer", "adamw", lr=0.01),
        "schedule": leaf("schedule", "constant"),
        **parts,
    }
    return leaf("training", "scratch", **values)
