"""Which sampler earns its place: searches replayed on the table of tabular_make.py, in seconds each.

    python benchmarks/samplers.py --plot samplers.png
    python benchmarks/samplers.py my-tabular.parquet --space my-space.yaml

Every sampler of mernas and successive halving search the same landscapes (table, surrogate and noise, see
tabular/surrogate.py) over the same seeds, by the very code that proposes in a search (tabular/replay.py). They are
compared by hypervolume: UF1 times log10 of the parameters, up to a UF1 of 0 and the parameter limit. "seen" takes the
scores that the search saw; "expected" asks what the front that it saw is worth without its luck. The verdict on the
default goes by "seen". A name with `+chance` starts from a first batch that draws inputs instead of dealing them.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tabular.comparison import Comparison, compare, expected, seen
from tabular.measuring import Measure
from tabular.replay import CHANCE, REPLAYED, Landscape, Tried, replay
from tabular.surrogate import DEFAULT_MODEL, MODELS, Surrogate, fit_surrogate
from tabular.table import FOLDS, read_table

import mernas.components  # noqa: F401  # registers every component
from mernas.search.plan import plain_hash
from mernas.space.restriction import load_space
from mernas.space.tree import SearchSpace

TABLE = Path(__file__).parent / "tabular" / "flow_images.parquet"
SPACE = Path(__file__).with_name("tabular_space.yaml")
RANDOM = "random"
MEASURES = {"seen": seen, "expected": expected}


@dataclass(frozen=True)
class Replays:
    """What is replayed.

    Attributes:
        names: Who searches.
        trials: How many proposals at most.
        batch: Proposals of a batch.
        limit: The parameter limit.
        classes: How many classes the networks tell apart.
    """

    names: tuple[str, ...]
    trials: int
    batch: int
    limit: int
    classes: int


@dataclass(frozen=True)
class OneSeed:
    """All replays of one seed.

    Attributes:
        seed: Which.
        tried: What each sampler tried.
        seconds: How long each took.
    """

    seed: int
    tried: dict[str, list[Tried]]
    seconds: dict[str, float]


def replay_seed(surrogate: Surrogate, space: SearchSpace, what: Replays, seed: int) -> OneSeed:
    """Return what every sampler tries on the landscape of one seed."""
    measure = Measure(what.classes)
    tried: dict[str, list[Tried]] = {}
    seconds: dict[str, float] = {}
    for name in what.names:
        clock = time.perf_counter()
        # Every sampler asks a landscape of its own, so none is faster for what another one has asked before.
        landscape = Landscape(surrogate, space, seed)
        tried[name] = replay(name, landscape, seed, what.trials, what.batch, what.limit, measure)
        seconds[name] = time.perf_counter() - clock
    return OneSeed(seed, tried, seconds)


_worker: tuple[Surrogate, SearchSpace, Replays] | None = None


def _begin(surrogate: Surrogate, space: Path, facts: frozenset[str], what: Replays) -> None:
    global _worker
    _worker = surrogate, load_space(space, facts), what


def _work(seed: int) -> OneSeed:
    assert _worker is not None
    surrogate, space, what = _worker
    return replay_seed(surrogate, space, what, seed)


def curves(
    done: Sequence[OneSeed], names: Sequence[str], spent: Sequence[int], limit: int, measure: str
) -> dict[str, NDArray[np.float64]]:
    """Return the hypervolume of every sampler, (seeds, costs)."""
    of = MEASURES[measure]
    return {name: np.array([[of(one.tried[name], cost, limit) for cost in spent] for one in done]) for name in names}


def pairs_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return who is compared with whom: all with random, and what starts otherwise with what starts as it does today.

    Example:
        >>> pairs_of(["random", "tpe", "tpe+chance"])
        [('tpe', 'random'), ('tpe+chance', 'random'), ('tpe+chance', 'tpe')]
    """
    pairs = [(name, RANDOM) for name in names if name != RANDOM and RANDOM in names]
    bases = [(name, name.removesuffix(CHANCE)) for name in names if name.endswith(CHANCE)]
    return list(dict.fromkeys([*pairs, *(pair for pair in bases if pair[1] in names)]))


def table_of(values: dict[str, NDArray[np.float64]], compared: Sequence[Comparison], seconds: dict[str, float]) -> str:
    """Return the figures of one number of trials as text."""
    frame = pd.DataFrame(
        [
            {
                "sampler": one.name,
                "median": np.median(values[one.name]),
                "against": one.against,
                "difference": one.difference,
                "95% low": one.low,
                "95% high": one.high,
                "wins": f"{one.wins}/{one.seeds}",
                "p (Holm)": f"{one.p:.2g}",
                "verdict": one.verdict,
                "s a replay": f"{seconds[one.name]:.1f}",
            }
            for one in compared
        ]
    )
    return frame.to_string(index=False, float_format=lambda number: f"{number:.4f}")


def verdict(compared: Sequence[Comparison], trials: int) -> str:
    """Return one line: who beats random, the best of them first."""
    better = [one for one in compared if one.against == RANDOM and one.verdict.startswith("better")]
    if not better:
        return f"At {trials} trials no sampler beats random with significance."
    ranked = sorted(better, key=lambda one: -one.difference)
    listed = ", ".join(f"{one.name} ({one.difference:+.4f})" for one in ranked)
    return f"At {trials} trials these beat random with significance: {listed}."


def plot(path: Path, values: dict[str, NDArray[np.float64]], trials: Sequence[int], limit: int) -> None:
    """Draw the median hypervolume over trials, with the middle half of the seeds."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for name, curve in values.items():
        (line,) = axes.plot(trials, np.median(curve, axis=0), label=name, linestyle="--" if CHANCE in name else "-")
        low, high = np.percentile(curve, [25, 75], axis=0)
        axes.fill_between(trials, low, high, color=line.get_color(), alpha=0.1)
    axes.set(xlabel=f"trials ({FOLDS} fold trainings each)", ylabel=f"hypervolume up to {limit:,} parameters")
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main(arguments: list[str]) -> int:
    """Replay, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, nargs="?", default=TABLE, help="of tabular_make.py; by default ours")
    parser.add_argument("--space", type=Path, default=SPACE, help="the space that the table was made of")
    parser.add_argument("--samplers", nargs="+", default=list(REPLAYED), metavar="NAME")
    parser.add_argument("--trials", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--surrogate", choices=sorted(MODELS), default=DEFAULT_MODEL)
    parser.add_argument("--plot", type=Path, default=None, metavar="PNG")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.samplers if name.removesuffix(CHANCE) not in REPLAYED]:
        parser.error(f"no sampler {', '.join(unknown)}: known are {', '.join(REPLAYED)}, and these with {CHANCE}")
    if f"grid{CHANCE}" in asked.samplers:
        parser.error("the grid draws no first batch")
    if uneven := [number for number in asked.trials if number % asked.batch]:
        parser.error(f"--trials must be whole batches of {asked.batch}, found {uneven}")
    frame = read_table(asked.table)
    space = load_space(asked.space, frozenset(frame.attrs["facts"]))
    if plain_hash(space.describe()) != frame.attrs["space"]:
        parser.error(f"{asked.table} was made of another space than {asked.space} is today")
    names, limit = tuple(dict.fromkeys(asked.samplers)), int(frame.attrs["max_parameters"])
    what = Replays(names, max(asked.trials), asked.batch, limit, int(frame.attrs["classes"]))
    surrogate = fit_surrogate(frame, space, asked.surrogate)
    print(surrogate.quality, flush=True)
    done: list[OneSeed] = []
    if asked.workers == 1:
        for seed in range(asked.seeds):
            done.append(replay_seed(surrogate, space, what, seed))
            print(f"seed {seed} done", file=sys.stderr, flush=True)
    else:
        begin = (surrogate, asked.space, space.facts, what)
        with ProcessPoolExecutor(asked.workers, get_context("spawn"), _begin, begin) as pool:
            for future in as_completed([pool.submit(_work, seed) for seed in range(asked.seeds)]):
                done.append(future.result())
                print(f"seed {done[-1].seed} done", file=sys.stderr, flush=True)
        done.sort(key=lambda one: one.seed)
    seconds = {name: float(np.mean([one.seconds[name] for one in done])) for name in names}
    print(f"{asked.seeds} seeds; a replay of {what.trials} trials takes {max(seconds.values()):.1f} s at most")
    pairs = pairs_of(names)
    for trials in sorted(asked.trials):
        for kind in MEASURES:
            at = {name: curve[:, 0] for name, curve in curves(done, names, [FOLDS * trials], limit, kind).items()}
            compared = compare(at, pairs)
            print(f"\n{trials} trials, hypervolume {kind}; random: median {np.median(at[RANDOM]):.4f}"
                  if RANDOM in at else f"\n{trials} trials, hypervolume {kind}")  # fmt: skip
            print(table_of(at, compared, seconds))
            if kind == "seen":
                print(verdict(compared, trials))
    if asked.plot is not None:
        steps = list(range(asked.batch, what.trials + 1, asked.batch))
        plot(asked.plot, curves(done, names, [FOLDS * step for step in steps], limit, "seen"), steps, limit)
        print(f"wrote {asked.plot}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
