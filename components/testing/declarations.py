"""Checks of what a component says of itself, and of what its class must be able to do."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re

from mernas.components.contracts import TRAINING_ROWS
from mernas.components.testing.subject import Subject
from mernas.components.testing.verdict import demand
from mernas.space.genotype import instantiate
from mernas.space.parameters import KEY, Slot
from mernas.space.taxonomy import AXES, CAPABILITIES, CLIP, GRAPH, IMAGE, SEQUENCE, VECTOR, VIDEO

KINDS = frozenset({CLIP, IMAGE, VIDEO, GRAPH, SEQUENCE, VECTOR})

FLOWS = {
    "input": (frozenset({CLIP}), KINDS - {CLIP}),
    "block": (KINDS - {CLIP}, KINDS - {CLIP}),
    "readout": (KINDS - {CLIP}, frozenset({VECTOR, SEQUENCE})),
    "cascade": (frozenset({SEQUENCE}), frozenset({VECTOR})),
}
"""For axes through which data flows: the kinds that may enter and those that may leave."""

ABILITIES: dict[str, tuple[str, ...]] = {
    "dataset": ("load",),
    "preprocessing": ("apply",),
    "augmentation": ("apply",),
    "normalisation": ("build", "fit"),
    "input": ("channels", "shape", "provides", "prepare"),
    "flow_estimator": ("zero_is_known", "flow", "strain"),
    "block": ("build",),
    "attention": ("build",),
    "readout": ("build",),
    "cascade": ("build",),
    "fusion": ("build",),
    "head": ("build",),
    "task": ("build",),
    "side_task": ("build",),
    "training": ("fit",),
    "optimizer": ("build",),
    "schedule": ("factor",),
    "sampler": ("batches",),
    "averaging": ("build",),
    "mixing": ("mix",),
    "loss": ("build",),
    "auxiliary_loss": ("build",),
    "classifier": ("fit", "family"),
}
"""What the class of an axis must have; see components/contracts.py for what each does."""

FITTED = ("normalisation", "side_task", "training", "loss", "auxiliary_loss", "classifier")
"""Axes whose components are handed training rows."""


def documented(subject: Subject) -> None:
    """Class and hyper-parameters say what they are, and where they come from."""
    declaration, title = subject.declaration, subject.declaration.title
    demand(len(declaration.summary) > 9, title, "its class has a docstring", repr(declaration.summary))
    generated = declaration.summary.startswith(f"{declaration.factory.__name__}(")
    demand(not generated, title, "its class has a docstring of its own", repr(declaration.summary))
    known = re.fullmatch(r"-|[1-9](\.[1-9])*", declaration.section) is not None
    demand(known, title, 'its section is one of the survey, or "-"', repr(declaration.section))
    sourced = declaration.section != "-" or bool(declaration.source)
    demand(sourced, title, "what the survey does not have names its source", "none")
    bare = [name for name, parameter in declaration.parameters.items() if not parameter.doc]
    demand(not bare or declaration.axis == "dataset", title, "every hyper-parameter has a line of doc", ", ".join(bare))


def well_declared(subject: Subject) -> None:
    """Fields, defaults, kinds and capabilities are legal, and the class can do what its axis asks."""
    declaration, title = subject.declaration, subject.declaration.title
    factory = declaration.factory
    frozen = dataclasses.is_dataclass(factory) and factory.__dataclass_params__.frozen  # type: ignore[attr-defined]  # dataclasses have it
    demand(frozen, title, "its class is a frozen dataclass", factory.__qualname__)
    if declaration.axis != "dataset":  # a dataset is given as code or by the command line, not by a genotype
        undeclared = [item.name for item in dataclasses.fields(factory) if item.init and KEY not in item.metadata]
        demand(not undeclared, title, "every field is a hyper-parameter", ", ".join(undeclared))
    for name, parameter in declaration.parameters.items():
        domain, where = parameter.domain, f"{title}, {name}"
        if not isinstance(domain, Slot):
            demand(declaration.default(name) in domain, where, f"the default is {domain}", declaration.default(name))
        else:
            demand(domain.axis in AXES, where, "its axis is known", domain.axis)
            names = subject.registry.names(domain.axis)
            demand(domain.default is None or domain.default in names, where, "its default is known", domain.default)
    strange = sorted({*declaration.maps, *declaration.maps.values()} - KINDS)
    demand(not strange, title, f"its kinds are among {', '.join(sorted(KINDS))}", ", ".join(strange))
    if declaration.axis in FLOWS:
        entering, leaving = FLOWS[declaration.axis]
        demand(bool(declaration.maps), title, "it says by `maps` which kind it makes of which", "nothing")
        fits = entering.issuperset(declaration.maps) and leaving.issuperset(declaration.maps.values())
        demand(fits, title, f"it maps {sorted(entering)} to {sorted(leaving)}", dict(declaration.maps))
    wanted = declaration.needs | declaration.provides
    wanted = wanted.union(*(needs for item in declaration.parameters.values() for needs in item.needs.values()))
    demand(wanted <= set(CAPABILITIES), title, "its capabilities are known", sorted(wanted - set(CAPABILITIES)))
    absent = [name for name in ABILITIES.get(declaration.axis, ()) if not hasattr(factory, name)]
    demand(not absent, title, f"its class has {', '.join(ABILITIES.get(declaration.axis, ()))}", f"no {absent}")
    if declaration.axis in FITTED:
        scope = getattr(factory, "fit_scope", None)
        demand(scope == TRAINING_ROWS, title, f'its fit_scope is "{TRAINING_ROWS}"', repr(scope))


def is_a_value(subject: Subject) -> None:
    """Settings are made without a change of their values, equal if these are, and survive copies and processes."""
    for leaf in subject.leaves:
        title = subject.called(leaf)
        component, again = instantiate(leaf, subject.registry), instantiate(leaf, subject.registry)
        demand(component == again, title, "equal values make equal components", repr(again))
        for name, value in leaf.values:
            kept = getattr(component, name)
            same = isinstance(subject.declaration.parameters[name].domain, Slot) or kept == value
            demand(same, f"{title}, {name}", "keeps the value that it is given", repr(kept))
        demand(pickle.loads(pickle.dumps(component)) == component, title, "survives pickling")  # noqa: S301  # our own
        demand(copy.deepcopy(component) == component, title, "survives a deep copy")
