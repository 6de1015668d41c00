"""Folds that a plain evaluation keeps, so that one of many hours goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mernas.components.datasets.clip import Dataset
from mernas.evaluation.jobs import ENGINE_VERSION, JobKey, numeric_path
from mernas.search.belonging import check_kept
from mernas.search.ledger import JobRecord, Ledger
from mernas.search.lock import sole_driver
from mernas.search.plan import learned_beside, plain_hash
from mernas.search.run import make_folder
from mernas.space.errors import PlanError, Problem
from mernas.space.genotype import Genotype


@contextmanager
def kept_folds(
    folder: Path | None,
    genotype: Genotype,
    data: Dataset,
    protocol: str,
    seed: int,
    device: str,
    together: bool = False,
) -> Iterator[Ledger | None]:
    """Open the ledger of one evaluation; nothing is kept where no folder is given.

    Args:
        folder: Where the ledger lies; made if it does not exist.
        genotype: The pipeline.
        data: The clips, known by content and labels, and by what pipelines may learn from beside these.
        protocol: The protocol's name.
        seed: The evaluation's seed.
        device: Where its folds are trained.
        together: Whether they train as one.

    Raises:
        PlanError: If the folder belongs to another evaluation, or to a search.
        LedgerError: If another process uses it, or its ledger is damaged.
    """
    if folder is None:
        yield None
        return
    path = numeric_path(device, together)
    stated = {
        "evaluation": genotype.hash,
        "protocol": protocol,
        "content": data.fingerprint,
        "labels": data.label_fingerprint,
        "seed": seed,
        "engine": ENGINE_VERSION,
        "numeric_path": path,
        **learned_beside(data),
    }
    if (folder / "plan.yaml").exists():
        raise PlanError(Problem(str(folder), "belongs to a search", "", "choose another folder with --keep"))
    check_kept(folder, plain_hash(stated), genotype.hash, path)
    make_folder(folder, "--keep")
    with ExitStack() as held:
        held.enter_context(sole_driver(folder, "--keep"))
        ledger = Ledger(folder / "ledger.sqlite", plain_hash(stated))
        held.callback(ledger.close)
        ledger.add_genotypes([(genotype, None)])
        yield ledger


def kept(ledger: Ledger | None, key: JobKey) -> JobRecord | None:
    """Return a fold that was finished before, or None."""
    return None if ledger is None else ledger.job(key)
