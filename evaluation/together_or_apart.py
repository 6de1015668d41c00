"""Whether the folds of a pipeline can train together, found out before anything is trained.

What a pipeline says of itself is asked first. The rest shows in a trial: two tiny folds of random maps and labels, on
a processor. One takes the place of the other, number by number, and must then do what that one does. So the answer
follows from the pipeline alone, and a module that keeps more than numbers is found out whoever wrote it.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from mernas.components.contracts import Input
from mernas.components.topologies.network import build_network, fit_normalisation
from mernas.components.training.objective import build_objective
from mernas.components.training.scratch import Scratch
from mernas.evaluation.custody import TrainingView
from mernas.evaluation.flat_optimizers import FLAT
from mernas.evaluation.jobs import has_side_task
from mernas.evaluation.one_fold import Fold, check_alike
from mernas.space.errors import SpaceError
from mernas.space.genotype import Genotype, instantiate

LABELS = ((0, 1, 2, 0, 1, 2), (0, 1, 2, 0, 0, 1, 0))
"""Labels of the two folds of a trial. How many rows of each class there are differs, and so do class weights."""
BATCH = 3
FAR = 1e-3
"""A fold in the place of another differs from itself at most by this share."""


@lru_cache(maxsize=4096)
def why_apart(genotype: Genotype) -> str:
    """Return why the folds of a pipeline must train one by one; empty if they can train together.

    Args:
        genotype: The pipeline.

    Example:
        >>> from mernas.space.presets import load_preset
        >>> why_apart(load_preset("ststnet").genotype)
        ''
    """
    return _by_declaration(genotype) or _by_trial(genotype)


def _by_declaration(genotype: Genotype) -> str:
    if not genotype.is_network:
        return "it is no network"
    if has_side_task(genotype):
        return "it has a side task"
    strategy = instantiate(genotype["training"])
    if type(strategy) is not Scratch:
        return f'the training strategy "{genotype["training"].name}" goes fold by fold'
    if type(strategy.optimizer) not in FLAT:
        return f'the optimizer "{genotype["training"]["optimizer"].name}" cannot step one vector of weights'
    return ""


def _by_trial(genotype: Genotype) -> str:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return _trial(genotype)
        except SpaceError:  # it can be trained in no way
            raise
        except Exception as error:  # modules are anyone's, and so is what they raise
            return f"a trial failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _trial(genotype: Genotype) -> str:
    """What one fold does otherwise in the place of another than by itself; raises whatever modules raise."""
    inputs: list[Input] = [instantiate(stream["input"]) for stream in genotype.streams]
    folds, batches = [], []
    for labels in LABELS:
        maps = [torch.randn(len(labels), *component.shape) for component in inputs]
        view = TrainingView(maps, torch.tensor(labels), 3, [component.channels for component in inputs])
        network = build_network(genotype, view.classes)
        fit_normalisation(network, genotype, view.held_by(genotype["normalisation"]))
        objective = build_objective(genotype, view, network)
        objective.labels = view.labels[:BATCH]  # equally many in both folds
        folds.append(Fold(network, objective))
        batches.append([stream[:BATCH] for stream in maps])
    place, fold = folds
    check_alike(folds)
    _step(place, batches[0])
    check_alike([fold, place])  # nor did it count or remember anything beside its numbers
    with torch.no_grad():
        for own, given in zip(_numbers(place).values(), _numbers(fold).values(), strict=True):
            own.copy_(given)
    found, wanted = _step(place, batches[1]), _step(fold, batches[1])
    for name, one in found.items():
        if not _near(one, wanted[name]):
            return f"in a trial the {name} of a fold was another one in the place of another fold"
    return ""


def _step(fold: Fold, maps: list[Tensor]) -> dict[str, Tensor]:
    """The loss and its gradient in training, the scores in evaluation, and the buffers afterwards."""
    before = dict(fold.named_buffers())
    torch.manual_seed(0)
    fold.train()
    loss = fold(maps, torch.arange(BATCH))
    slopes = torch.autograd.grad(loss, list(fold.parameters()), allow_unused=True, materialize_grads=True)
    fold.eval()
    with torch.no_grad():
        scores = fold(maps)
    after = dict(fold.named_buffers())
    for name, buffer in after.items():
        if buffer is not before[name]:
            raise ValueError(f"{name} becomes another tensor in training, instead of being changed in place")
    gradient = torch.cat([slope.flatten() for slope in slopes])
    return {"loss": loss.detach(), "gradient": gradient, "scores": scores, **after}


def _numbers(fold: Fold) -> dict[str, Tensor]:
    return {**dict(fold.named_parameters()), **dict(fold.named_buffers())}


def _near(found: Tensor, wanted: Tensor) -> bool:
    found, wanted = found.double(), wanted.double()
    far = float((found - wanted).norm())
    return bool(torch.isfinite(wanted).all()) and far <= FAR * max(float(wanted.norm()), 1e-3)
