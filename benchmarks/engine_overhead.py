"""Engine overhead: jobs through executor and ledger against a bare PyTorch loop with the same mathematics, in one run.

    python benchmarks/engine_overhead.py

The bare loop is what a user would write: slice the tensors, build the network, shuffle, step, predict. Both sides train
the same jobs (pair jobs, and outer jobs with watched epochs) on one thread, one after the other and alternately, so
that a noisy machine is noisy for both. The goal is a ratio of at most 1.10.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

import mernas.components  # noqa: F401
from mernas.components.topologies.network import build_network, count_parameters
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.jobs import Job, JobKey, Outcome, make_job
from mernas.evaluation.preparation import recipe_of
from mernas.evaluation.rows import RowBook
from mernas.search.executor import Block, SerialExecutor, feed_of
from mernas.search.ledger import Ledger
from mernas.space.genotype import Genotype, parse_genotype

CLIPS, SUBJECTS, CLASSES, ROUNDS = 442, 68, 3, 5
EPOCHS, BATCH, RATE, DECAY = 10, 64, 0.003, 0.01
TEXT = """
streams:
  - input: {{optical_flow: {{estimator: given, size: 28}}}}
    backbone: [{{convolution: {{width: {width}, pool: max2}}}}, {{convolution: {{width: {width}, pool: max2}}}}]
    readout: {{average: {{grid: 2}}}}
tasks: [{{emotion: {{head: linear}}}}]
training: {{scratch: {{epochs: {epochs}, batch: {batch}, optimizer: {{adamw: {{lr: {rate}, weight_decay: {decay}}}}},
                      schedule: constant}}}}
loss: {{cross_entropy: {{weighting: none}}}}
"""


def bare(job: Job, maps: torch.Tensor) -> np.ndarray:
    """The same training without an engine; the normaliser is fitted as the engine does."""
    torch.manual_seed(job.seed)
    train, labels = maps[torch.from_numpy(job.train_rows)], torch.from_numpy(job.train_labels)
    network = build_network(job.genotype, CLASSES)
    normaliser = network.streams[0][0]  # type: ignore[index]  # a stream is an nn.Sequential
    mean, std = train.mean(dim=(0, 2, 3), keepdim=True)[0], train.std(dim=(0, 2, 3), keepdim=True)[0]
    for (_, buffer), value in zip(normaliser.named_buffers(), (mean, std), strict=True):
        buffer.copy_(value.reshape(buffer.shape))
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    loss = nn.CrossEntropyLoss()
    network.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(labels))
        for start in range(0, len(labels), BATCH):
            rows = order[start : start + BATCH]
            optimizer.zero_grad()
            loss(network([train[rows]]), labels[rows]).backward()
            optimizer.step()
    network.eval()
    with torch.inference_mode():
        return torch.softmax(network([maps[torch.from_numpy(job.predict_rows)]]), dim=1).numpy()


def measure(genotype: Genotype) -> tuple[float, float, float]:
    """Return the median seconds of both sides over some rounds, and the median of their ratios."""
    generator = np.random.default_rng(0)
    maps = torch.from_numpy(generator.normal(size=(CLIPS, 3, 28, 28)).astype(np.float32))
    subjects = tuple(f"d/{row % SUBJECTS:02d}" for row in range(CLIPS))
    book = RowBook(np.arange(CLIPS), subjects, ("d",) * CLIPS, generator.integers(0, CLASSES, CLIPS))
    store = FeatureStore({recipe_of(genotype.streams[0]).hash: maps})
    every = sorted(set(subjects))
    left_out = [tuple(every[start : start + 27]) for start in (0, 20, 40)] + [(subject,) for subject in every[:3]]
    pairs = [make_job(genotype, subjects_out, book, CLASSES, 0) for subjects_out in left_out]
    keys: dict[str, JobKey] = {job.key: key for key, job in pairs}
    jobs = [job for _, job in pairs]
    torch.set_num_threads(1)
    sides: dict[str, list[float]] = {"engine": [], "bare": []}
    for turn in range(ROUNDS + 1):
        with tempfile.TemporaryDirectory() as folder:
            ledger = Ledger(Path(folder) / "ledger.sqlite", "benchmark")

            def arrived(job: Job, outcome: Outcome, ledger: Ledger = ledger) -> None:
                assert outcome.failure == "", outcome.failure
                ledger.add_job(keys[job.key], outcome, job.predict_rows, [subjects[row] for row in job.train_rows])

            clock = time.perf_counter()
            SerialExecutor().run(feed_of([Block(tuple(jobs), store)]), arrived, lambda: False)
            engine = time.perf_counter() - clock
            ledger.close()
        torch.set_flush_denormal(True)  # as in every job of the engine, which resets it
        clock = time.perf_counter()
        for job in jobs:
            bare(job, maps)
        plain = time.perf_counter() - clock
        if turn:  # the first turn warms up
            sides["engine"].append(engine)
            sides["bare"].append(plain)
    ratios = [engine / plain for engine, plain in zip(sides["engine"], sides["bare"], strict=True)]
    return statistics.median(sides["engine"]), statistics.median(sides["bare"]), statistics.median(ratios)


def main() -> int:
    """Print the ratio for a small and a larger network; exit 1 if one is over the goal."""
    missed = False
    for width in (4, 16):
        genotype = parse_genotype(TEXT.format(width=width, epochs=EPOCHS, batch=BATCH, rate=RATE, decay=DECAY))
        engine, plain, ratio = measure(genotype)
        size = count_parameters(genotype, CLASSES)
        print(f"{size:>6} parameters: engine {engine:.2f} s, bare loop {plain:.2f} s, ratio {ratio:.3f} (goal 1.10)")
        missed = missed or ratio > 1.10
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
