"""Small clips for checks: two that have everything a clip can have, the same without, and two classes of toy clips."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip, content_hash
from mernas.components.datasets.synthetic import Synthetic
from mernas.space.genotype import Leaf
from mernas.space.parameters import Choices
from mernas.space.registry import Registry
from mernas.space.taxonomy import APEX, FRAME_RATE, FRAMES, GIVEN_FLOW, GIVEN_STRAIN, LANDMARKS, OFFSET, ONSET

FIELDS = {
    FRAMES: "frames",
    ONSET: "onset",
    APEX: "apex",
    OFFSET: "offset",
    FRAME_RATE: "fps",
    LANDMARKS: "landmarks",
}
GIVEN = {GIVEN_FLOW: "flow", GIVEN_STRAIN: "strain"}

REMOVABLE = (*FIELDS, *GIVEN)
"""What a clip has or lacks; the other capabilities are those of its values, or no matter of clips."""

WIDER = 12
"""Pixels by which the frames of the second clip are wider than high."""


def sample_clips() -> list[Clip]:
    """Return two clips that have everything: one grey and square, one in colour and wider than high.

    Every call returns arrays of its own, which can be written to.

    Example:
        >>> [clip.frames[0].shape for clip in sample_clips()]
        [(48, 48), (48, 60, 3)]
    """
    grey, coloured = (_with_arrays(clip, frames, points, flow) for clip, frames, points, flow in _rendered()[::2])
    frames = np.pad(np.asarray(coloured.frames), ((0, 0), (0, 0), (0, WIDER)), mode="edge")
    frames = np.stack([frames, frames // 2 + 40, 255 - frames // 3], axis=-1)
    given = {
        name: np.pad(make(), (*[(0, 0)] * (make().ndim - 1), (0, WIDER)), mode="edge")
        for name, make in coloured.given.items()
    }
    return [grey, replace(coloured, frames=frames, given=_given(given))]


def without(clip: Clip, capability: str) -> Clip:
    """Return a clip that lacks one of `REMOVABLE`.

    Example:
        >>> without(sample_clips()[0], "apex").apex is None
        True
    """
    if capability in GIVEN:
        return replace(clip, given={key: make for key, make in clip.given.items() if key != GIVEN[capability]})
    changes: dict[str, Any] = {FIELDS[capability]: None}
    return replace(clip, **changes)


def has(clip: Clip, capability: str) -> bool:
    """Return whether a clip has one of `REMOVABLE`."""
    return GIVEN[capability] in clip.given if capability in GIVEN else getattr(clip, FIELDS[capability]) is not None


def own_needs(leaf: Leaf, registry: Registry) -> frozenset[str]:
    """Return what a component needs of the data by its declaration and by the values that it has."""
    declaration = registry.get(leaf.axis, leaf.name)
    needs = set(declaration.needs)
    for name, parameter in declaration.parameters.items():
        if isinstance(parameter.domain, Choices):
            needs |= parameter.needs.get(leaf[name], frozenset())
    return frozenset(needs)


def all_needs(leaf: Leaf, registry: Registry) -> frozenset[str]:
    """Return what a component and those in its slots need of the data."""
    return frozenset().union(*(own_needs(part, registry) for part in leaf.walk()))


def digest(clip: Clip) -> str:
    """Return a hash of everything that a clip holds, frames and landmarks included."""
    parts = [repr((clip.key, clip.subject, clip.fps, clip.onset, clip.apex, clip.offset)).encode()]
    for several in (clip.frames, clip.landmarks):
        parts += [b"none"] if several is None else [np.asarray(several[n]).tobytes() for n in range(len(several))]
    parts += [name.encode() + make().tobytes() for name, make in sorted(clip.given.items())]
    return content_hash(parts)


@functools.cache
def toy_clips(number: int = 12) -> tuple[tuple[Clip, int], ...]:
    """Return clips of two classes, with the class of each, that everything in them tells apart.

    The same faces move and brighten in their upper half (class 0), or move otherwise and darken in their lower half
    (class 1): smoothly, up to an apex and back. Landmarks go along, and the true motion is given as flow.
    """
    made = []
    times, apex = 9, 4
    strength = np.sin(np.linspace(0, np.pi, times)) ** 2
    rendered = _rendered()
    for place in range(number):
        clip, frames, points, _ = rendered[place % len(rendered)]
        face = frames[0].astype(np.float32)
        noise = np.random.default_rng(place)
        height, width = face.shape
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        label = place % 2
        centre, motion, light = [(0.3, (0.0, -2.0), 50.0), (0.75, (2.0, 1.0), -50.0)][label]
        bump = np.exp(-(((y - centre * height) / (0.2 * height)) ** 2)).astype(np.float32)
        flow = np.stack([bump * motion[0], bump * motion[1]]) * noise.uniform(0.8, 1.2)
        there = np.rint(points[0]).astype(int).clip(0, [width - 1, height - 1])
        moved = flow[:, there[:, 1], there[:, 0]].T
        shown = []
        for share in strength:
            seen = cv2.remap(
                face,
                (x - share * flow[0]).astype(np.float32),
                (y - share * flow[1]).astype(np.float32),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REPLICATE,
            )
            seen = seen + share * light * bump + noise.normal(0, 1, seen.shape)
            shown.append(np.clip(np.rint(seen), 0, 255).astype(np.uint8))
        landmarks = np.stack([points[0] + share * moved for share in strength]).astype(np.float32)
        toy = replace(clip, key=f"toy/{place % 3}/{place}", fps=100.0, onset=0, apex=apex, offset=times - 1)
        toy = replace(toy, frames=np.stack(shown), landmarks=landmarks, given=_given(_flow_and_strain(flow)))
        made.append((toy, label))
    return tuple(made)


def _given(arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    return {name: functools.partial(_same, array) for name, array in arrays.items()}


def _same(array: NDArray[Any]) -> NDArray[Any]:
    return array


def _flow_and_strain(flow: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    strain = np.sqrt(sum(part**2 for plane in flow for part in np.gradient(plane)))
    return {"flow": flow.astype(np.float32), "strain": np.asarray(strain, np.float32)}


@functools.cache
def _rendered() -> tuple[tuple[Clip, NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]], ...]:
    """Clips of the embedded dataset with their frames, landmarks and true flow."""
    made = []
    for clip in Synthetic(subjects=2, clips=2, size=48, fps=50, macro_subjects=0).load():
        frames: Any = clip.frames
        points: Any = clip.landmarks
        shown = np.stack([frames[number] for number in range(len(frames))])
        places = np.stack([points[number] for number in range(len(frames))])
        made.append((clip, shown, places, frames.true_flow(clip.onset, clip.apex)))
    return tuple(made)


def _with_arrays(clip: Clip, frames: NDArray[np.uint8], points: NDArray[np.float32], flow: NDArray[np.float32]) -> Clip:
    return replace(clip, frames=frames.copy(), landmarks=points.copy(), given=_given(_flow_and_strain(flow)))
