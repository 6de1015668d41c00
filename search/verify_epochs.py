"""Predictions by epoch, of which the audit is made: whether they are as many as trained, and end as they must.

After the last epoch nothing is trained any more and averages of the weights are in place, so what is predicted then is
what the job predicts. The strategies of mernas keep to that, alone and with folds together; the second stage of
`finetune` is the one that is watched. A strategy of a third party may go on after the epoch that it calls the last, and
another part of one may predict differently when it is asked again: there the last epoch is left out.
"""

from __future__ import annotations

import numpy as np

from mernas.search.plan import Plan
from mernas.search.verify_check import Check
from mernas.search.verify_ledger import ReadJob, ReadLedger
from mernas.space.genotype import Leaf
from mernas.space.registry import REGISTRY

NEAR = 1e-3
"""Classes whose probabilities differ by less are tied: the two looks at one network may differ by rounding."""
STRATEGIES = ("finetune", "scratch")


def check_epochs(plan: Plan, ledger: ReadLedger, job: ReadJob, check: Check) -> None:
    """Check that epochs were watched exactly where one subject was left out of a network, as many as it trains for.

    What was predicted after the last one must be the class that the job finds most probable.

    Args:
        plan: The plan.
        ledger: The ledger.
        job: A job.
        check: Is told what is wrong.
    """
    genotype, epochs = ledger.genotypes.get(job.key.genotype), job.record.epoch_predictions
    if genotype is None or job.record.failure:
        return
    where, watched = f"{job.title}, predictions by epoch", len(job.key.left_out) == 1 and genotype.is_network
    if not check.expect((epochs is not None) == watched, where, epochs is not None, watched) or epochs is None:
        return
    inside = epochs.size > 0 and epochs.min() >= 0 and epochs.max() < len(plan.dataset.classes)
    if not check.expect(bool(inside), where, "numbers that are no classes", "class numbers"):
        return
    training: Leaf = genotype["training"]
    if training.name not in STRATEGIES:
        _leave_out(f"predictions by epoch of the strategy {training.name}, which is not one of mernas", check)
        return
    check.equal(f"{where}, epochs", len(epochs), training["epochs"])
    probabilities = job.record.probabilities
    if probabilities is None or not np.isfinite(probabilities).all():
        return  # which is told elsewhere
    foreign = [leaf for leaf in genotype.root.walk() if not _of_mernas(leaf)]
    if foreign:
        titles = ", ".join(sorted({f"{leaf.axis} {leaf.name}" for leaf in foreign}))
        _leave_out(f"the last predictions by epoch of pipelines with parts that are not of mernas: {titles}", check)
        return
    last = epochs[-1].astype(np.int64)
    wrong = probabilities.max(axis=1) - probabilities[np.arange(len(last)), last] > NEAR
    found, expected = last[wrong].tolist(), probabilities.argmax(axis=1)[wrong].tolist()
    rows = job.record.rows[wrong].tolist()
    check.expect(not wrong.any(), f"{where}, the last, rows {rows}", found, f"{expected}, the most probable")


def _of_mernas(leaf: Leaf) -> bool:
    return REGISTRY.get(leaf.axis, leaf.name).factory.__module__.startswith("mernas.")


def _leave_out(what: str, check: Check) -> None:
    if what not in check.left_out:
        check.left_out.append(what)
