"""Executors: where jobs run. The serial one runs them in this process, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.fitting import run_job
from mernas.evaluation.jobs import Job, Outcome


class Interrupted(Exception):  # noqa: N818  # it is no error: the user asked the run to stop
    """The user asked the run to stop; what is finished is in the ledger."""


class Executor(Protocol):
    """Runs jobs and hands back every outcome as it arrives."""

    def run(
        self,
        jobs: Sequence[Job],
        store: FeatureStore,
        on_outcome: Callable[[Job, Outcome], None],
        stopping: Callable[[], bool],
    ) -> None:
        """Run all jobs.

        Args:
            jobs: What to do.
            store: The maps.
            on_outcome: Called once for each job, in the caller's process.
            stopping: Whether the user wants to stop; asked between jobs.

        Raises:
            Interrupted: If `stopping` said so before all jobs were done.
        """


class SerialExecutor:
    """Runs jobs in this process, in order, with one thread: the numeric path of every executor."""

    def run(
        self,
        jobs: Sequence[Job],
        store: FeatureStore,
        on_outcome: Callable[[Job, Outcome], None],
        stopping: Callable[[], bool],
    ) -> None:
        """Run all jobs; see `Executor.run`."""
        for job in jobs:
            if stopping():
                raise Interrupted
            on_outcome(job, run_job(job, store))
        if stopping():
            raise Interrupted
