"""Whether a pipeline in which a component stands learns a toy set of two classes that are easily told apart.

A component stands with its defaults (or, without any, with drawn values) among the simplest neighbours that mernas has.
Inputs, flow estimators and steps of pre-processing see toy clips; all others see maps that are made up for them. It
does not apply to datasets, to the record of classical streams, which holds nothing of its own, and to `TOO_SIMPLE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mernas.components.contracts import Objective, TrainingRows
from mernas.components.testing.clips import toy_clips
from mernas.components.testing.genotypes import input_of, leaf, network_of, quick_training, stream_of
from mernas.components.testing.subject import Subject
from mernas.components.testing.training_rows import SampleRows
from mernas.components.testing.verdict import ConformanceError, demand, own_chance
from mernas.components.topologies.network import build_network, fit_normalisation
from mernas.components.topologies.stage import build_stage
from mernas.components.training.objective import build_objective
from mernas.space.errors import SpaceError
from mernas.space.genotype import Genotype, Leaf, instantiate
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import BALANCED_BATCHES, CAPSULES, GRAPH, IMAGE, SEQUENCE, VECTOR, VIDEO

TOO_SIMPLE = {("classifier", "majority"): "it looks at nothing but how often each class occurs"}
"""Components that cannot tell classes apart, with the reason."""

ROWS = 32
LEARNT = 0.95
ROUNDS = 12
"""How often training may go on until the toy set is learnt."""


def learns(subject: Subject) -> None:
    """A simple pipeline in which it stands learns two classes that are easily told apart, to over 95%."""
    stands = subject.leaves[0]
    title = subject.called(stands)
    for kind, genotype in _pipelines(subject, stands):
        where = f"{title}, {kind}"
        rows = _prepared(genotype) if subject.declaration.axis in ON_CLIPS else _made_up(genotype)
        share = trained_share(genotype, rows) if genotype.is_network else _fitted_share(genotype, rows)
        rule = f"a pipeline with it learns a toy set of two classes to over {LEARNT:.0%}"
        demand(share > LEARNT, where, rule, f"{share:.0%} of {len(rows.labels)} clips")


ON_CLIPS = ("input", "flow_estimator", "preprocessing")


def toy_maps(shape: Sequence[int], seed: int = 0, number: int = ROWS) -> tuple[Tensor, Tensor]:
    """Return maps of a shape and their class numbers: (n, *shape) in [0, 1] and (n,).

    Class 0 is higher in the first half of a map (the upper one of an image or video, later frames the more), class 1
    lower in the second half, under noise.

    Example:
        >>> maps, labels = toy_maps((1, 14, 14))
        >>> maps.shape, labels[:4].tolist()
        (torch.Size([32, 1, 14, 14]), [0, 1, 0, 1])
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(number) % 2
    along = max(len(shape) - 2, 0) if len(shape) > 2 else 0
    half = shape[along] // 2
    pattern = torch.zeros(2, *shape)
    pattern[0].narrow(along, 0, half).fill_(0.35)
    pattern[1].narrow(along, shape[along] - half, half).fill_(-0.35)
    if len(shape) == 4:
        pattern *= torch.linspace(0.2, 1, shape[1]).reshape(-1, 1, 1)
    maps = 0.5 + pattern[labels] + 0.1 * torch.randn((number, *shape), generator=generator)
    return maps.clamp(0, 1), labels


def trained_share(genotype: Genotype, rows: SampleRows, seed: int = 0) -> float:
    """Train a network until it knows its rows, but not for ever; return the share of rows that it recognises."""

    def objective(of: TrainingRows) -> Objective:
        return build_objective(genotype, of, network)  # type: ignore[arg-type]  # rows of the suite can be held

    share = 0.0
    with own_chance(seed):
        network = build_network(genotype, rows.classes)
        fit_normalisation(network, genotype, rows)
        strategy = instantiate(genotype["training"])
        augmentation = [instantiate(change) for change in genotype["augmentation"]]
        generator = torch.Generator().manual_seed(seed)
        for _ in range(ROUNDS):
            strategy.fit(network, rows, objective, augmentation, generator)
            with torch.no_grad():
                guesses = network.eval()(list(rows.tensors)).argmax(dim=1)
            share = float((guesses == rows.labels).float().mean())
            if share > LEARNT:
                break
    return share


def _fitted_share(genotype: Genotype, rows: SampleRows) -> float:
    predictor = instantiate(genotype["classifier"]).fit(rows, 0)
    scores: Any = predictor.predict(list(rows.tensors))
    return float((scores.argmax(axis=1) == rows.labels.numpy()).mean())


def _pipelines(subject: Subject, stands: Leaf) -> list[tuple[str, Genotype]]:
    """Simple pipelines in which a component stands, each with the kind of maps that it is tried on."""
    axis, maps = subject.declaration.axis, subject.declaration.maps
    if axis == "block":
        return [(kind, _with_block(kind, stands)) for kind in maps if kind != SEQUENCE]
    if axis == "readout":
        return [(kind, network_of([stream_of(kind, readout=stands)])) for kind in maps if kind != SEQUENCE]
    if axis in STREAMS:
        return [(kind, network_of([_stream(axis, stands, kind)])) for kind in STREAMS[axis]]
    if axis == "stream":
        return [(IMAGE, network_of([stream_of(IMAGE)]))]
    if axis == "classifier":
        return [(kind, _classical(kind, stands)) for kind in (IMAGE, VECTOR)]
    if axis == "pipeline":
        simple = _classical(IMAGE, leaf("classifier", "logistic_regression"))
        return [(IMAGE, network_of([stream_of(IMAGE)]) if subject.declaration.name == "network" else simple)]
    if axis == "fusion":
        return [("an image and a vector", network_of([stream_of(IMAGE), stream_of(VECTOR)], fusion=stands))]
    if axis in ("head", "task"):
        return [(IMAGE, _with_head(stands, CAPSULES in subject.declaration.needs))]
    return [(IMAGE, network_of([stream_of(IMAGE)], **_part(subject, stands)))]


STREAMS: dict[str, tuple[str, ...]] = {
    "input": ("clips",),
    "flow_estimator": ("clips",),
    "preprocessing": ("clips",),
    "attention": (IMAGE, VIDEO),
    "cascade": (GRAPH, VIDEO),
}
"""Axes whose components stand in a stream of their own making, and what they are tried on."""


def _stream(axis: str, stands: Leaf, kind: str) -> Leaf:
    if axis == "input":
        return stream_of(stands)
    if axis == "flow_estimator":
        return stream_of(leaf("input", "optical_flow", estimator=stands, size=14))
    if axis == "preprocessing":
        return stream_of(IMAGE, preprocessing=[stands])
    if axis == "attention":
        return stream_of(kind, [leaf("block", "convolution", width=8, attention=stands)])
    readout = leaf("readout", "nodes" if kind == GRAPH else "frames")
    return stream_of(kind, readout=readout, cascade=stands)


def _with_block(kind: str, stands: Leaf) -> Genotype:
    """The block first, or behind a convolution of 16 channels where it cannot stand first or would keep one channel."""
    first = network_of([stream_of(kind, [stands])])
    if kind not in (IMAGE, VIDEO):
        return first
    try:
        with torch.device("meta"):
            wide = build_stage(instantiate(stands), instantiate(input_of(kind)).shape)[1][0] > 1
    except SpaceError:
        wide = False
    return first if wide else network_of([stream_of(kind, [leaf("block", "convolution", pool="none"), stands])])


def _with_head(stands: Leaf, capsules: bool) -> Genotype:
    """A head with the readouts that it may want, or a task."""
    task = stands if stands.axis == "task" else leaf("task", "emotion", head=stands)
    readouts = [leaf("readout", "primary_capsules")] if capsules else []
    readouts += [leaf("readout", "average", grid=grid) for grid in (2, 5, 7)]
    for readout in readouts:
        genotype = network_of([stream_of(IMAGE, readout=readout)], tasks=(task,))
        try:
            with torch.device("meta"):
                build_network(genotype, 2)
        except SpaceError:
            continue
        return genotype
    raise ConformanceError(f'{stands.axis} "{stands.name}": builds for a readout of mernas; found none that it takes')


def _part(subject: Subject, stands: Leaf) -> dict[str, Any]:
    """What replaces a simple part of a pipeline."""
    axis = subject.declaration.axis
    if axis in ("optimizer", "schedule", "sampler", "averaging", "mixing"):
        return {"training": quick_training(**{axis: stands})}
    if axis == "augmentation":
        return {"augmentation": (stands,)}
    if axis == "loss":
        return {"loss": (stands,)}
    if axis == "auxiliary_loss" and BALANCED_BATCHES in subject.declaration.needs:
        return {axis: stands, "training": quick_training(sampler=leaf("sampler", "class_balanced"))}
    return {axis: stands}


def _classical(kind: str, classifier: Leaf) -> Genotype:
    stream = leaf("features", "features", input=input_of(kind), preprocessing=())
    return Genotype(leaf("pipeline", "classical", streams=(stream,), classifier=classifier))


def _made_up(genotype: Genotype) -> SampleRows:
    """Toy maps in the shapes of the inputs of a pipeline, with all that a training may want beside them."""
    inputs = [instantiate(stream["input"]) for stream in genotype.streams]
    names = tuple(component.channels for component in inputs)
    drawn = [toy_maps(component.shape, seed) for seed, component in enumerate(inputs)]
    source = [toy_maps(component.shape, seed + 100) for seed, component in enumerate(inputs)]
    labels = drawn[0][1]
    units = torch.stack([labels, 1 - labels, torch.zeros_like(labels)], dim=1).float()
    others = SampleRows(tuple(maps for maps, _ in source), source[0][1], names=names, units=units)
    return SampleRows(tuple(maps for maps, _ in drawn), labels, names=names, units=units, source=others)


def _prepared(genotype: Genotype) -> SampleRows:
    """Toy clips, prepared by the inputs and the steps of a pipeline."""
    clips = toy_clips()
    tensors = []
    for stream in genotype.streams:
        component = instantiate(stream["input"])
        steps = [instantiate(step) for step in stream["preprocessing"]]
        maps = []
        for clip, _ in clips:
            for step in steps:
                clip = step.apply(clip)
            maps.append(component.prepare(clip))
        tensors.append(torch.from_numpy(np.stack(maps)))
    names = tuple(instantiate(stream["input"]).channels for stream in genotype.streams)
    return SampleRows(tuple(tensors), torch.tensor([label for _, label in clips]), names=names)


def applies(subject: Subject) -> bool:
    """Return whether the check makes sense: pipelines are made of what is registered for all."""
    declaration = subject.declaration
    outside = declaration.axis in ("dataset", "features") or (declaration.axis, declaration.name) in TOO_SIMPLE
    return subject.registry is REGISTRY and not outside
