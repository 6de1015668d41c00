"""What inputs are worth on the synthetic dataset: one small network for each, plain LOSO, paired over subjects.

    python benchmarks/synthetic_inputs.py [WORKERS]

Every pipeline was fixed beforehand and has the same epochs. Goals: flow with strain is ahead of the apex frame; so is a
sequence of flows, which knows no apex; and that is ahead of the same network on the same frames in a random order, so
that it does use time. Each with a paired 95% interval over subjects above zero.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.evaluation.bootstrap import difference_interval, draw_resamples
from mernas.search.evaluate import run_evaluation
from mernas.search.run import load_data
from mernas.space.genotype import parse_genotype
from mernas.space.registry import register
from mernas.space.taxonomy import CLIP, FRAMES, OFFSET, ONSET

REST = """
tasks: [{emotion: {head: linear}}]
training: {scratch: {epochs: 30, batch: 16, optimizer: {adamw: {lr: 0.005}}}}
loss: cross_entropy
"""
IMAGE = """
    backbone: [{convolution: {width: 8, pool: max2}}, {convolution: {width: 16, pool: max2}}]
    readout: {average: {grid: 3}}
"""
VIDEO = """
    backbone: [{convolution: {width: 8, pool: max2}}, {convolution: {width: 16, pool: max2}}]
    readout: {frames: {grid: 3}}
    cascade: {gru: {hidden: 16, read: mean}}
"""
FLOWS = "  - input: {flow_sequence: {frames: 8, quantities: u+v, size: 28}}"
PIPELINES = {
    "apex frame": "  - input: {apex_frame: {size: 28}}" + IMAGE,
    "onset and apex frame": "  - input: {onset_apex: {size: 28}}" + IMAGE,
    "dynamic image": "  - input: {dynamic_image: {size: 28}}" + IMAGE,
    "flow u, v": "  - input: {optical_flow: {quantities: u+v, size: 28}}" + IMAGE,
    "flow u, v, strain": "  - input: {optical_flow: {quantities: u+v+strain, size: 28}}" + IMAGE,
    "sequence of 8 grey frames": "  - input: {sequence: {frames: 8, minus: onset, size: 28}}" + VIDEO,
    "sequence of 8 flows": FLOWS + VIDEO,
    "8 flows, frames shuffled": FLOWS + "\n    preprocessing: [shuffled]" + VIDEO,
}
GOALS = (
    ("flow u, v, strain", "apex frame"),
    ("sequence of 8 flows", "apex frame"),
    ("sequence of 8 flows", "8 flows, frames shuffled"),
)


@dataclass(frozen=True)
class Reordered:
    """The frames of a clip in another order."""

    frames: object
    order: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, frame: int) -> NDArray[np.uint8]:
        return self.frames[self.order[frame]]  # type: ignore[index]  # frames are indexed by number


@register("preprocessing", "shuffled", section="-", source="-", needs={FRAMES, ONSET, OFFSET}, maps={CLIP: CLIP})
@dataclass(frozen=True)
class Shuffled:
    """Frames from onset to offset in an order that is random, and another one in every clip: time is gone."""

    def apply(self, clip: Clip) -> Clip:
        """Return the clip with its frames reordered; the fingerprint seeds the order."""
        assert clip.frames is not None
        assert clip.onset is not None
        assert clip.offset is not None
        generator = np.random.default_rng(int(clip.fingerprint, 16))
        middle = clip.onset + generator.permutation(clip.offset - clip.onset + 1)
        order = [*range(clip.onset), *middle.tolist(), *range(clip.offset + 1, len(clip.frames))]
        return replace(clip, frames=Reordered(clip.frames, tuple(order)))


def main(workers: int) -> int:
    """Print every score and the differences of the goals; exit 1 if a goal is missed."""
    data = load_data("synthetic")
    labels, subjects = data.labels, [clip.subject for clip in data]
    drawn = draw_resamples(subjects, ["synthetic"] * len(data), labels, len(data.classes), 0)
    numbers = {name: number for number, name in enumerate(data.classes)}
    predicted: dict[str, NDArray[np.int64]] = {}
    for name, streams in PIPELINES.items():
        genotype = parse_genotype(f"streams:\n{streams}\n{REST}")
        kind = "serial" if workers == 1 or "shuffled" in name else "ray"  # workers know nothing of `shuffled`
        found = run_evaluation(genotype, data, executor=kind, workers=1 if kind == "serial" else workers)
        predicted[name] = found.predictions["prediction"].map(numbers).to_numpy()
        told = f"UF1 {found.scores.uf1:.3f} ({found.ci_low:.3f} to {found.ci_high:.3f}), UAR {found.scores.uar:.3f}"
        print(f"{name:>26}: {found.parameters:6,} parameters, {told}", flush=True)
    missed = 0
    for ahead, behind in GOALS:
        one, other = (predicted[name][np.newaxis] for name in (ahead, behind))
        low, high = difference_interval("uf1", labels, one, other, subjects, drawn)
        print(f"{ahead} minus {behind}: paired 95% interval {low:+.3f} to {high:+.3f}")
        missed += low <= 0
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1))
