"""Two thousand random pipelines of a space: well typed, seldom refused, and every one that builds runs both ways.

    python benchmarks/genotypes.py [standard|quick|full] [HOW MANY]

Half of them for data that offer everything, half for released flow images. Goal for `standard` and `quick`: at most one
in twenty is refused when it is built without memory for its weights. In `full` most are, and the reasons are counted.
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
LARGEST = 5_000_000
"""Networks above so many parameters are counted, but not run."""


def runs(genotype: Genotype) -> bool:
    """Whether logits and the gradients of all parameters are finite, for a batch of two."""
    torch.manual_seed(0)
    network = build_network(genotype, classes=3)
    maps = [torch.rand(2, *instantiate(stream["input"]).shape) for stream in genotype.streams]
    logits = network(maps)
    torch.autograd.backward(logits.square().sum())
    whole = all(parameter.grad is not None for parameter in network.parameters())
    return whole and bool(torch.isfinite(logits).all())


def main(name: str, count: int) -> int:
    """Print what became of the pipelines; exit 1 if one is ill typed, does not run, or too many are refused."""
    torch.set_num_threads(1)
    faults, refused = 0, 0
    for title, facts in DATA.items():
        space = load_space(name, facts)
        reasons: Counter[str] = Counter()
        ran, large, started = 0, 0, time.perf_counter()
        for seed in range(count // len(DATA)):
            genotype = space.suggest(RandomTrial(seed))
            typed = genotype in space and from_complete(genotype.complete()) == genotype
            faults += not (typed and parse_genotype(genotype.to_yaml()) == genotype)
            try:
                size = count_parameters(genotype, classes=3)
            except SpaceError as error:
                reasons[str(error.problems[0]).partition(",")[0]] += 1
                continue
            if size > LARGEST:
                large += 1
            elif runs(genotype):
                ran += 1
            else:
                faults += 1
                print(f"does not run:\n{genotype.to_yaml()}")
        refused += sum(reasons.values())
        seconds = time.perf_counter() - started
        told = f"{ran} ran, {large} above {LARGEST:,} parameters, {sum(reasons.values())} refused"
        print(f"{name}, {title}: {told}, {seconds:.0f} s", flush=True)
        for reason, times in reasons.most_common(5):
            print(f"    {times:4} {reason}")
    print(f"{refused} of {count} refused ({refused / count:.1%}; goal 5%), {faults} faults")
    return int(faults > 0 or (name != "full" and refused > count / 20))


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "standard"
    sys.exit(main(chosen, int(sys.argv[2]) if len(sys.argv) > 2 else 2000))
