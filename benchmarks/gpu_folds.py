"""Folds together on a GPU: fold-epochs per second against one fold after another on the same GPU, in one run.

    python benchmarks/gpu_folds.py
    python benchmarks/gpu_folds.py --device cpu --folds 3 --alone 2 --epochs 1 --networks 1.7k

442 clips of random maps, 68 people, one fold for each. Both sides are the jobs of the engine: `run_job` for a few folds
one after the other, `run_together` for all of them; all that a job costs counts, from building its network to its
predictions. The two small networks train for 40 epochs, as is the default of the space, the large one for 10. Goals: 20
times the fold-epochs per second for a network of 1.7k parameters, 10 times for one of about 50k, twice for one of about
11M. How far the probabilities of both sides are apart is printed: convolutions multiply in the short format of the
accelerator, as torch has it by default, so that rounding shows.

What bounds a fold-epoch is estimated from two figures of the device that are measured first, a product of large
matrices and a copy of large tensors: the arithmetic of forward and backward pass, and the traffic of every module's
output, written once, read once, and both again for its gradient.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import mernas.components  # noqa: F401
from mernas.components.topologies.network import build_network, count_parameters
from mernas.evaluation.custody import FeatureStore
from mernas.evaluation.fitting import run_job
from mernas.evaluation.folds_together import run_together
from mernas.evaluation.jobs import Job, Outcome
from mernas.evaluation.preparation import recipe_of
from mernas.evaluation.together_or_apart import why_apart
from mernas.search.shared_batches import fold_batches
from mernas.space.genotype import Genotype, instantiate, parse_genotype

CLIPS, CLASSES = 442, 3
FLOW = "input: {optical_flow: {estimator: given, quantities: u+v+strain, size: 28}}"
REST = """
tasks: [{{emotion: {{head: linear}}}}]
loss: cross_entropy
training: {{scratch: {{epochs: {epochs}, batch: {batch}}}}}
"""


@dataclass(frozen=True)
class Case:
    """A network that is measured.

    Attributes:
        streams: Its streams, as YAML.
        batch: Clips per batch.
        epochs: How many.
        goal: How many times faster together.
    """

    streams: str
    batch: int
    epochs: int
    goal: float

    def genotype(self, epochs: int) -> Genotype:
        """Return the pipeline of so many epochs."""
        return parse_genotype(f"streams: [{self.streams}]{REST.format(epochs=epochs, batch=self.batch)}")


def _stream(*blocks: str, grid: int = 1) -> str:
    backbone = ", ".join(f"{{{block}}}" for block in blocks)
    return f"{{{FLOW}, backbone: [{backbone}], readout: {{average: {{grid: {grid}}}}}}}"


CASES = {
    "1.7k": Case(
        ", ".join(_stream(f"convolution: {{width: {width}, pool: max3}}", grid=5) for width in (3, 5, 8)), 256, 40, 20.0
    ),
    "50k": Case(_stream(*[f"convolution: {{width: {width}}}" for width in (16, 48, 96)], grid=2), 64, 40, 10.0),
    "11M": Case(
        _stream(
            *[f"residual: {{width: {width}, stride: {stride}}}" for width, stride in ((64, 1), (128, 2), (256, 2))],
            *["residual: {width: 512, stride: 2}", "residual: {width: 512, stride: 1}", "residual: {width: 256}"],
        ),
        64,
        10,
        2.0,
    ),
}


def make_jobs(genotype: Genotype, folds: int, device: str) -> list[Job]:
    """Return one job for each of the first people of 68, who have six or seven clips each."""
    generator = np.random.default_rng(0)
    subject = np.sort(np.arange(CLIPS) % 68)
    labels = generator.integers(0, CLASSES, CLIPS)
    rows = np.arange(CLIPS)
    return [
        Job(
            key=f"{one:016x}",
            genotype=genotype,
            train_rows=rows[subject != one],
            train_labels=labels[subject != one],
            predict_rows=rows[subject == one],
            classes=CLASSES,
            seed=one,
            device=device,
        )
        for one in range(folds)
    ]


def make_store(genotype: Genotype) -> FeatureStore:
    """Return random maps of the right shapes."""
    torch.manual_seed(0)
    shapes = {recipe_of(stream).hash: instantiate(stream["input"]).shape for stream in genotype.streams}
    return FeatureStore({recipe: torch.randn(CLIPS, *shape) for recipe, shape in shapes.items()})


def timed(work: Callable[[], list[Outcome]], device: str) -> tuple[float, list[Outcome]]:
    """Return the seconds that some jobs take, and their outcomes; stop if one failed."""
    if device == "cuda":
        torch.cuda.synchronize()
    clock = time.perf_counter()
    outcomes = work()
    seconds = time.perf_counter() - clock
    for outcome in outcomes:
        if outcome.failure:
            raise SystemExit(f"a job failed: {outcome.failure}")
    return seconds, outcomes


def roofs(device: str) -> tuple[float, float]:
    """Return what a device can do: floating-point operations and bytes per second, in single precision."""
    side, count = (8192, 1 << 28) if device == "cuda" else (1024, 1 << 24)
    matrix, line = torch.randn(side, side, device=device), torch.zeros(count, device=device)

    def per_second(work: Callable[[], Tensor], amount: float) -> float:
        work()
        best = 0.0
        for _ in range(5):
            if device == "cuda":
                torch.cuda.synchronize()
            clock = time.perf_counter()
            work()
            if device == "cuda":
                torch.cuda.synchronize()
            best = max(best, amount / (time.perf_counter() - clock))
        return best

    return per_second(lambda: matrix @ matrix, 2.0 * side**3), per_second(lambda: line.clone(), 8.0 * count)


def bound(genotype: Genotype, arithmetic: float, traffic: float) -> tuple[float, float]:
    """Return the least seconds of a fold-epoch by arithmetic and by memory traffic; counted on the processor."""
    network = build_network(genotype, CLASSES)
    rows = 8
    maps = [torch.randn(rows, *instantiate(stream["input"]).shape) for stream in genotype.streams]
    written = 0

    def count(module: nn.Module, given: object, output: object) -> None:
        nonlocal written
        if isinstance(output, Tensor) and not list(module.children()):
            written += output.numel() * output.element_size()

    for module in network.modules():
        module.register_forward_hook(count)
    with FlopCounterMode(display=False) as counter:
        network(maps).sum().backward()
    clips = CLIPS * 67 / 68
    return counter.get_total_flops() / rows * clips / arithmetic, 4 * written / rows * clips / traffic


def measure(name: str, asked: argparse.Namespace, roof: tuple[float, float]) -> float:
    """Print both sides of a network and return their ratio."""
    case = CASES[name]
    epochs = asked.epochs or case.epochs
    genotype = case.genotype(epochs)
    if why := why_apart(genotype):
        raise SystemExit(f"{name}: {why}")
    parameters, store = count_parameters(genotype, CLASSES), make_store(genotype)
    jobs = make_jobs(genotype, asked.folds, asked.device)
    batches = fold_batches(jobs, parameters)

    def alone() -> list[Outcome]:
        return [run_job(job, store) for job in jobs[: asked.alone]]

    def together() -> list[Outcome]:
        return [outcome for batch in batches for outcome in run_together(batch, store)]

    warm = case.genotype(1)
    timed(lambda: [run_job(replace(jobs[0], genotype=warm), store)], asked.device)
    timed(lambda: run_together([replace(job, genotype=warm) for job in batches[0]], store), asked.device)
    apart_seconds, apart = timed(alone, asked.device)
    joint_seconds, joint = timed(together, asked.device)
    apart_rate = asked.alone * epochs / apart_seconds
    joint_rate = asked.folds * epochs / joint_seconds
    off = max(
        float(np.abs(one.probabilities - other.probabilities).max())
        for one, other in zip(apart, joint, strict=False)
        if one.probabilities is not None and other.probabilities is not None
    )
    arithmetic, traffic = (seconds * joint_rate for seconds in bound(genotype, *roof))
    peak = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB" if asked.device == "cuda" else ""
    title = f"{name} ({parameters:,} parameters, {epochs} epochs, batch {case.batch})"
    print(
        f"{title}: {apart_rate:.1f} fold-epochs per second one after another ({asked.alone} folds), {joint_rate:.1f} "
        f"together ({asked.folds}, {len(batches)} batches{peak}), ratio {joint_rate / apart_rate:.2f} (goal "
        f"{case.goal:g}); of the bound by arithmetic {arithmetic:.1%}, by memory traffic {traffic:.1%}; probabilities "
        f"differ by at most {off:.1e}",
        flush=True,
    )
    return joint_rate / apart_rate / case.goal


def main() -> int:
    """Print every network; exit 1 if one is under its goal."""
    parser = argparse.ArgumentParser(description="Folds together against one after another.")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--folds", type=int, default=68)
    parser.add_argument("--alone", type=int, default=4, help="how many folds are timed one after another")
    parser.add_argument("--epochs", type=int, help="instead of each network's own number")
    parser.add_argument("--networks", nargs="+", choices=CASES, default=list(CASES))
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "unavailable: needs a GPU; `--device cpu --folds 3 --alone 2 --epochs 1` tries the same path without one"
        )
    roof = roofs(asked.device)
    name = torch.cuda.get_device_name() if asked.device == "cuda" else "processor, one thread"
    print(f"{name}, torch {torch.__version__}: {roof[0] / 1e12:.2f} TFLOP/s, {roof[1] / 1e9:.0f} GB/s", flush=True)
    shares = [measure(each, asked, roof) for each in asked.networks]
    return int(min(shares) < 1)


if __name__ == "__main__":
    sys.exit(main())
