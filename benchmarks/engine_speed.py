"""Speed on a processor: fold-epochs per second of the engine against a plain PyTorch loop, in one run.

    python benchmarks/engine_speed.py

The plain loop is what a user would write, without DataLoader: the network of the same genotype with torch's own layers,
an index of shuffled rows, AdamW, one thread. Each side trains in processes of its own, because the engine changes how
its process keeps memory; they take turns, so that a noisy machine is noisy for both. Before that, both sides train the
same network on the same batches without dropout, whose masks would differ, and their losses are compared.

Goal: twice the fold-epochs per second with the same losses; four times as a stretch. 442 clips of 28x28, as many as the
released flow images have, of which a fold trains on 434.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import mernas.components  # noqa: F401
from mernas.components.topologies.network import Network, build_network, count_parameters
from mernas.components.training.adamw import AdamW
from mernas.evaluation.custody import chosen
from mernas.evaluation.preparation import recipe_of
from mernas.evaluation.quickening import Quickening, keep_memory, laid_out
from mernas.space.genotype import Genotype, instantiate, parse_genotype
from mernas.space.presets import load_preset

CLIPS, CLASSES, TURNS = 434, 3, 5
TEXT = """
streams:
  - input: {{optical_flow: {{estimator: given, size: 28}}}}
    backbone: [{{convolution: {{width: {width}, dropout: 0.2}}}}, {{convolution: {{width: {width}, dropout: 0.2}}}}]
    readout: {{average: {{grid: 2}}}}
tasks: [{{emotion: {{head: linear}}}}]
training: {{scratch: {{epochs: 10, batch: 64}}}}
loss: cross_entropy
"""
CASES: dict[str, tuple[Callable[[], Genotype], int]] = {
    "STSTNet, full batch": (lambda: load_preset("ststnet").genotype, CLIPS),
    "STSTNet, batch 64": (lambda: load_preset("ststnet").genotype, 64),
    "2 blocks of 4, batch 64": (lambda: parse_genotype(TEXT.format(width=4)), 64),
    "2 blocks of 8, batch 64": (lambda: parse_genotype(TEXT.format(width=8)), 64),
    "2 blocks of 16, batch 64": (lambda: parse_genotype(TEXT.format(width=16)), 64),
    "2 blocks of 32, batch 64": (lambda: parse_genotype(TEXT.format(width=32)), 64),
    "RCN-W, batch 64": (lambda: load_preset("rcn_w").genotype, 64),
}


class Side:
    """A network that trains on random maps, as the engine does it or plainly.

    Args:
        case: Which network and batch.
        quick: Whether as the engine does it.
        dropout: Whether with its dropout.
    """

    def __init__(self, case: str, *, quick: bool, dropout: bool = True) -> None:
        make, self.batch = CASES[case]
        genotype = make()
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
        torch.manual_seed(0)
        self.network: Network = build_network(genotype, CLASSES)
        if not dropout:
            for module in self.network.modules():
                if isinstance(module, nn.modules.dropout._DropoutNd):
                    module.p = 0.0
        recipes = [recipe_of(stream).hash for stream in genotype.streams]
        shapes = {
            recipe: instantiate(stream["input"]).shape for recipe, stream in zip(recipes, genotype.streams, strict=True)
        }
        drawn = {recipe: torch.randn(CLIPS, *shape) for recipe, shape in sorted(shapes.items())}
        if quick:
            drawn = {recipe: laid_out(maps, "cpu") for recipe, maps in drawn.items()}
        self.maps: list[Tensor] = [drawn[recipe] for recipe in recipes]
        self.labels = torch.randint(0, CLASSES, (CLIPS,))
        self.quick = quick
        parameters = list(self.network.parameters())
        self.optimizer = AdamW(lr=1e-3).build(parameters) if quick else torch.optim.AdamW(parameters, lr=1e-3)
        if quick:
            keep_memory()
            Quickening(self.network).on()

    def epoch(self) -> float:
        """Train for one epoch and return the mean loss."""
        total = 0.0
        for rows in torch.split(torch.randperm(CLIPS), self.batch):
            self.optimizer.zero_grad()
            found = {id(maps): chosen(maps, rows) if self.quick else maps[rows] for maps in self.maps}
            batch = [found[id(maps)] for maps in self.maps]
            loss = nn.functional.cross_entropy(self.network(batch), self.labels[rows])
            torch.autograd.backward(loss)
            self.optimizer.step()
            total += loss.item() * len(rows)
        return total / CLIPS

    def seconds(self, epochs: int) -> float:
        """Return the seconds per epoch after one that warms up."""
        self.epoch()
        clock = time.perf_counter()
        for _ in range(epochs):
            self.epoch()
        return (time.perf_counter() - clock) / epochs


def measured(case: str, *, quick: bool, epochs: int) -> float:
    """Return the seconds per epoch of one side, in a process of its own."""
    command = [sys.executable, __file__, "--case", case, "--epochs", str(epochs), *(["--quick"] if quick else [])]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def main() -> int:
    """Print both sides and their ratio for every network; exit 1 if the first is under the goal."""
    parser = argparse.ArgumentParser(description="Speed of the engine against a plain loop.")
    parser.add_argument("--case", choices=CASES)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.case:
        print(Side(given.case, quick=given.quick).seconds(given.epochs))
        return 0
    ratios = {}
    for case, (make, _) in CASES.items():
        losses = []
        for quick in (False, True):
            side = Side(case, quick=quick, dropout=False)
            losses.append([side.epoch() for _ in range(3)])
        apart = max(abs(one - other) / one for one, other in zip(*losses, strict=True))
        first = measured(case, quick=False, epochs=1)
        epochs = max(2, round(2.0 / first))
        turns = [[measured(case, quick=quick, epochs=epochs) for quick in (False, True)] for _ in range(TURNS)]
        plain, quick_seconds = (statistics.median(turn[side] for turn in turns) for side in (0, 1))
        ratios[case] = statistics.median(turn[0] / turn[1] for turn in turns)
        print(
            f"{case} ({count_parameters(make(), CLASSES):,} parameters): plain {1e3 * plain:.0f} ms, engine "
            f"{1e3 * quick_seconds:.0f} ms per fold-epoch, ratio {ratios[case]:.2f}; losses of 3 epochs differ by at "
            f"most {apart:.1e}",
            flush=True,
        )
    return int(ratios[next(iter(CASES))] < 2)


if __name__ == "__main__":
    sys.exit(main())
