"""Checks of what is fitted: training strategies and classical classifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mernas.components.contracts import NotFiniteError
from mernas.components.losses.cross_entropy import CrossEntropy
from mernas.components.testing.subject import Subject
from mernas.components.testing.training_rows import SampleRows
from mernas.components.testing.verdict import ConformanceError, demand, own_chance, telling
from mernas.components.topologies.network import Network
from mernas.components.training.objective import TrainingObjective
from mernas.space.errors import DataError
from mernas.space.parameters import Slot
from mernas.space.taxonomy import SOURCE

SHAPE = (1, 8, 8)
"""Of the maps that strategies and classifiers are tried on."""

LABELS: dict[str, tuple[int, ...]] = {
    "ordinary rows": (0,) * 18 + (1,) * 14 + (2,) * 10,
    "a class that is absent": (0,) * 12 + (2,) * 9,
    "a class of a single row": (0,) * 9 + (1,) * 8 + (2,),
    "a single class": (1,) * 9,
}


def repeated_training(subject: Subject) -> None:
    """Equal seeds train to equal bits; another generator, which orders the rows, trains to others."""
    for place, (title, component) in enumerate(subject.settings()):
        first, again, other = (_trained(subject, component, title, seed) for seed in (0, 0, 1))
        same = first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)
        demand(same, title, "equal seeds train to equal bits", "other weights")
        differs = any(not torch.equal(first[name], other[name]) for name in first)
        demand(place > 0 or differs, title, "another generator trains to other weights", "the same weights")


def told_epochs(subject: Subject) -> None:
    """Epochs are told from 1 on, the network is left in eval mode, and the training rows as they are."""
    for title, component in subject.settings():
        rows = _rows(subject, "ordinary rows")
        before = rows.content()
        network = _network()
        told: list[int] = []
        if _fit(component, network, rows, title, 0, told.append):
            fits = told == list(range(1, len(told) + 1)) and bool(told)
            demand(fits, title, "epochs are told one by one, from 1 on", told[:5])
            demand(not network.training, title, "the network is left in evaluation mode", "training mode")
        demand(rows.unchanged(before), title, "the training rows are left as they are", "changed rows")


def rows_of_all_kinds(subject: Subject) -> None:
    """It trains on any training rows, with a class that is absent, too, and asks for no others."""
    for title, component in subject.settings():
        for name in LABELS:
            _fit(component, _network(), _rows(subject, name), f"{title}, {name}", 0)


def refused_training(subject: Subject) -> None:
    """What is no number raises NotFiniteError; a source domain that is needed and absent raises DataError."""
    for title, component in subject.settings():
        rows = _rows(subject, "ordinary rows")
        broken = replace(rows, tensors=(torch.full_like(rows.tensors[0], torch.nan),))
        rule = "raises NotFiniteError where the loss is no number"
        _refuses(NotFiniteError, component, broken, title, rule)
        if SOURCE in subject.declaration.needs:
            poor = replace(rows, source=None)
            rule = "raises DataError where there is no source domain"
            _refuses(DataError, component, poor, title, rule)


def honest_scores(subject: Subject) -> None:
    """Scores (B, K) are finite, not negative and sum to 1, whichever classes the training rows have."""
    for title, component in subject.settings():
        for name in LABELS:
            rows = _rows(subject, name)
            before = rows.content()
            where = f"{title}, {name}"
            scores = _scores(component, rows, where, 0)
            demand(rows.unchanged(before), where, "the training rows are left as they are", "changed rows")
            demand(scores.shape == (7, rows.classes), where, f"gives scores (7, {rows.classes})", scores.shape)
            demand(bool(np.isfinite(scores).all()), where, "scores are finite", scores.tolist())
            demand(bool((scores >= 0).all()), where, "no score is negative", float(scores.min()))
            apart = float(np.abs(scores.sum(axis=1) - 1).max())
            demand(apart < 1e-6, where, "the scores of a clip sum to 1", f"{apart:.2g} off")


def repeated_scores(subject: Subject) -> None:
    """Equal seeds give equal scores, global generators do not matter, and clips are judged one by one."""
    for title, component in subject.settings():
        rows = _rows(subject, "ordinary rows")
        first = _scores(component, rows, title, 5)
        with own_chance(9):
            kept = np.random.get_state()
            np.random.seed(9)  # it is the global generator that must not matter
            try:
                again = _scores(component, rows, title, 5)
            finally:
                np.random.set_state(kept)
        demand(np.array_equal(first, again), title, "equal seeds give equal scores", "others")
        predictor = component.fit(rows, 5)
        alone = np.concatenate([predictor.predict([clip[None]]) for clip in _unseen()])
        apart = float(np.abs(first - alone).max())
        demand(apart < 1e-9, title, "a clip has the same scores by itself", f"{apart:.2g} apart")


def legal_family(subject: Subject) -> None:
    """The grid of a nested search names its hyper-parameters and legal values of them."""
    declaration = subject.declaration
    family: Mapping[str, tuple[Any, ...]] = declaration.factory.family  # type: ignore[attr-defined]  # `well_declared` looks
    for name, values in family.items():
        demand(name in declaration.parameters, declaration.title, "its family names hyper-parameters", name)
        domain = declaration.parameters[name].domain
        strange = [value for value in values if isinstance(domain, Slot) or value not in domain]
        demand(not strange, f"{declaration.title}, {name}", f"the values of its family are {domain}", strange)


FITTING_CHECKS: dict[str, tuple[Callable[[Subject], None], ...]] = {
    "training": (repeated_training, told_epochs, rows_of_all_kinds, refused_training),
    "classifier": (honest_scores, repeated_scores, legal_family),
}


def _rows(subject: Subject, name: str) -> SampleRows:
    labels = torch.tensor(LABELS[name])

    def drawn(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        maps = torch.randn((len(labels), *SHAPE), generator=generator)
        maps[:, 0, 0, 0] += labels
        return maps

    needed = SOURCE in subject.declaration.needs
    source = SampleRows((drawn(1),), labels, classes=3, names=(("gray",),)) if needed else None
    return SampleRows((drawn(0),), labels, classes=3, names=(("gray",),), source=source)


def _network() -> Network:
    """A small network with everything that can go wrong: batch norm, dropout, a task that can be reset."""
    with own_chance():
        convolution = nn.Conv2d(1, 2, 3)
        stream = nn.Sequential(nn.Identity(), convolution, nn.BatchNorm2d(2), nn.ReLU(), nn.Dropout(0.2), nn.Flatten())
        return Network([stream], None, nn.Linear(72, 3), 72)


def _strategy(
    component: Any,
    network: Network,
    rows: SampleRows,
    seed: int = 0,
    on_epoch: Callable[[int], None] | None = None,
) -> None:
    def objective(of: SampleRows) -> TrainingObjective:
        return TrainingObjective(of.labels, CrossEntropy().build(of))

    with own_chance(1):
        component.fit(network, rows, objective, (), torch.Generator().manual_seed(seed), on_epoch)


def _fit(
    component: Any,
    network: Network,
    rows: SampleRows,
    title: str,
    seed: int,
    on_epoch: Callable[[int], None] | None = None,
) -> bool:
    """Train; a drawn learning rate may be too high, and a loss that is no longer a number is then the right answer."""
    with telling(title, "trains on the training rows, and on nothing else"):
        try:
            _strategy(component, network, rows, seed, on_epoch)
        except NotFiniteError:
            return False
    return True


def _trained(subject: Subject, component: Any, title: str, seed: int) -> dict[str, Tensor]:
    network = _network()
    _fit(component, network, _rows(subject, "ordinary rows"), title, seed)
    return dict(network.state_dict())


def _refuses(kind: type[Exception], component: Any, rows: SampleRows, title: str, rule: str) -> None:
    try:
        _strategy(component, _network(), rows)
    except kind:
        return
    except Exception as error:  # whatever else it raises is what is wrong
        raise ConformanceError(f"{title}: {rule}; found {type(error).__name__}: {error}") from error
    raise ConformanceError(f"{title}: {rule}; found no error")


def _unseen() -> Tensor:
    return torch.randn((7, *SHAPE), generator=torch.Generator().manual_seed(3))


def _scores(component: Any, rows: SampleRows, title: str, seed: int) -> NDArray[np.float64]:
    with telling(title, "fits on the training rows and scores clips"):
        return np.asarray(component.fit(rows, seed).predict([_unseen()]))
