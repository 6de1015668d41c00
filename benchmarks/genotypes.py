"""Two thousand random pipelines of a space: well typed, seldom refused, and every one that builds runs both ways.

    python benchmarks/genotypes.py [standard|quick|full] [HOW MANY]

Half of them for data that offer everything, half for released flow images. Goal: at most one in twenty is refused when
it is built without memory for its weights. The largest networks of `full` have billions of parameters, or keep many
gigabytes for the way back: above `MOST` they run both ways without memory for their numbers.
"""

from __future__ import annotations

import sys
import time
from collections import Counter

import torch

import mernas.components  # noqa: F401  # registers every component
from mernas.components.topologies.network import build_network, count_parameters
from mernas.space.errors import SpaceError
from mernas.space.genotype import Genotype, from_complete, instantiate, parse_genotype
from mernas.space.restriction import load_space
from mernas.space.suggestion import RandomTrial
from mernas.space.taxonomy import CAPABILITIES, FROM_WITHIN, GIVEN_FLOW, GIVEN_STRAIN

SHIPPED = frozenset({GIVEN_FLOW, GIVEN_STRAIN})
DATA = {"everything": frozenset(CAPABILITIES) - FROM_WITHIN - SHIPPED, "flow images": SHIPPED}


MOST = 4e9
"""Bytes of parameters, their gradients and what is kept for these, up to which a network is run."""


def runs(genotype: Genotype, device: str) -> tuple[bool, int]:
    """Whether logits are finite and all parameters have gradients, for a batch of two; and how many bytes it takes."""
    torch.manual_seed(0)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.device(device):
        network = build_network(genotype, classes=3)
        maps = [torch.rand(2, *instantiate(stream["input"]).shape) for stream in genotype.streams]
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = network(maps)
        torch.autograd.backward(logits.square().sum())
    whole = all(parameter.grad is not None for parameter in network.parameters())
    finite = device == "meta" or bool(torch.isfinite(logits).all())
    return whole and finite, sum(kept.values()) + 8 * sum(parameter.numel() for parameter in network.parameters())


def main(name: str, count: int) -> int:
    """Print what became of the pipelines; exit 1 if one is ill typed, does not run, or too many are refused."""
    torch.set_num_threads(1)
    faults, refused = 0, 0
    for title, facts in DATA.items():
        space = load_space(name, facts)
        reasons: Counter[str] = Counter()
        ran, unreal, largest, started = 0, 0, 0, time.perf_counter()
        for seed in range(count // len(DATA)):
            genotype = space.suggest(RandomTrial(seed))
            typed = genotype in space and from_complete(genotype.complete()) == genotype
            faults += not (typed and parse_genotype(genotype.to_yaml()) == genotype)
            try:
                size = count_parameters(genotype, classes=3)
            except SpaceError as error:
                reasons[str(error.problems[0]).partition(",")[0]] += 1
                continue
            largest = max(largest, size)
            sound, memory = runs(genotype, "meta")
            if memory <= MOST:
                sound, _ = runs(genotype, "cpu")
            if sound:
                ran += memory <= MOST
                unreal += memory > MOST
            else:
                faults += 1
                print(f"does not run:\n{genotype.to_yaml()}")
        refused += sum(reasons.values())
        seconds = time.perf_counter() - started
        told = f"{ran} ran, {unreal} above {MOST / 1e9:g} GB ran without numbers, {sum(reasons.values())} refused"
        told += f", the largest has {largest:,} parameters"
        print(f"{name}, {title}: {told}, {seconds:.0f} s", flush=True)
        for reason, times in reasons.most_common(5):
            print(f"    {times:4} {reason}")
    print(f"{refused} of {count} refused ({refused / count:.1%}; goal 5%), {faults} faults")
    return int(faults > 0 or refused > count / 20)


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "standard"
    sys.exit(main(chosen, int(sys.argv[2]) if len(sys.argv) > 2 else 2000))
