"""Whether the folds of a pipeline can train together, found out before anything is trained.

What a pipeline says of itself is asked first. The rest shows in a trial: two tiny folds of random maps and labels, on
a processor, one training step and one prediction, together and by themselves. So the answer follows from the pipeline
alone, and a module that cannot be batched, or gives something else when it is, is found out whoever wrote it.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch
from torch import Tensor, nn

from mernas.components.contracts import Input
from mernas.components.topologies.network import build_network, fit_normalisation
from mernas.components.training.objective import build_objective
from mernas.components.training.scratch import Scratch
from mernas.evaluation.custody import TrainingView
from mernas.evaluation.fold_stack import Fold, FoldStack
from mernas.evaluation.jobs import has_side_task
from mernas.evaluation.stacked_optimizers import STACKED
from mernas.space.errors import SpaceError
from mernas.space.genotype import Genotype, instantiate

LABELS = ((0, 1, 2, 0, 1, 2), (0, 1, 2, 0, 0, 1, 0))
"""Labels of the two folds of a trial. How many rows of each class there are differs, and so do class weights."""
BATCH = 3
FAR = {torch.float32: 1e-3, torch.float64: 1e-6}
"""Together and by themselves differ at most by this share."""
NEVER = 1e-15
"""Dropout of this share draws its masks, but drops nothing."""
NO_RULE = "batching rule"
"""Torch warns in these words where it goes through the folds one by one after all."""


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
    for name in ("sampler", "mixing", "averaging"):
        if getattr(strategy, name) is not None:
            return f'its training has the {name} "{genotype["training"][name].name}"'
    if type(strategy.optimizer) not in STACKED:
        return f'the optimizer "{genotype["training"]["optimizer"].name}" cannot step several folds at once'
    return ""


def _by_trial(genotype: Genotype) -> str:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.manual_seed(0)
        try:
            why = _trial(genotype, torch.float32)
            # In single precision rounding may put a value on the other side of a ReLU. Double precision is slow.
            why = why and _trial(genotype, torch.float64)
        except SpaceError:  # it can be trained in no way
            raise
        except Exception as error:  # modules are anyone's, and so is what they raise when they cannot be batched
            return f"a trial failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    slow = [str(one.message) for one in said if NO_RULE in str(one.message)]
    return why or (f"a trial was slow: {' '.join(slow[0].split())[:200]}" if slow else "")


def _trial(genotype: Genotype, kind: torch.dtype) -> str:
    """What differs between two folds together and each by itself; raises whatever modules raise."""
    inputs: list[Input] = [instantiate(stream["input"]) for stream in genotype.streams]
    folds, batches = [], []
    for labels in LABELS:
        maps = [torch.randn(len(labels), *component.shape) for component in inputs]
        view = TrainingView(maps, torch.tensor(labels), 3, [component.channels for component in inputs])
        network = build_network(genotype, view.classes)
        fit_normalisation(network, genotype, view.held_by(genotype["normalisation"]))
        objective = build_objective(genotype, view, network)
        objective.labels = view.labels[:BATCH]  # equally many in both folds
        folds.append(_without_dropout(Fold(network, objective)).to(kind))
        batches.append([stream[:BATCH].to(kind) for stream in maps])
    together = [torch.stack(stream) for stream in zip(*batches, strict=True)]
    rows = torch.arange(BATCH).expand(len(folds), -1)
    stack = FoldStack(folds)
    losses, gradients = stack.slopes(together, rows)
    logits = stack.logits(together)
    for number, (fold, own) in enumerate(zip(folds, batches, strict=True)):
        fold.train()
        loss = fold(own, rows[number])
        moved = {name: (stack.buffers[name][number], buffer) for name, buffer in fold.named_buffers()}
        slopes = torch.autograd.grad(loss, list(fold.parameters()), allow_unused=True, materialize_grads=True)
        fold.eval()
        with torch.no_grad():
            scores = fold(own)
        gradient = torch.cat([slope.flatten() for slope in slopes])
        pairs = {"loss": (losses[number], loss), "gradient": (gradients[number], gradient)}
        for name, (one, other) in {**pairs, "scores": (logits[number], scores), **moved}.items():
            if not _near(one.to(kind), other.to(kind)):
                return f"in a trial the {name} of a fold was another one together than by itself"
    return ""


def _without_dropout(fold: Fold) -> Fold:
    for module in fold.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = min(module.p, NEVER)
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = min(module.dropout, NEVER)
    return fold


def _near(found: Tensor, wanted: Tensor) -> bool:
    scale = float(wanted.norm())
    return bool(torch.isfinite(wanted).all()) and float((found - wanted).norm()) <= FAR[wanted.dtype] * max(scale, 1e-3)
