"""Checks of what works on clips: inputs, steps of pre-processing, flow estimators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mernas.components.datasets.clip import Clip
from mernas.components.testing.clips import REMOVABLE, all_needs, digest, has, own_needs, sample_clips, without
from mernas.components.testing.subject import Subject
from mernas.components.testing.verdict import ConformanceError, demand, telling
from mernas.space.errors import DataError
from mernas.space.genotype import instantiate
from mernas.space.taxonomy import BRIGHTNESS, CAPABILITIES, GRAPH, IMAGE, PIXELS, SEQUENCE, TRUE_FLOW, VECTOR, VIDEO

RANKS = {IMAGE: 3, VIDEO: 4, GRAPH: 2, SEQUENCE: 2, VECTOR: 1}
"""How many numbers the shape of a kind has, without the batch."""

NAMED = {IMAGE: 0, VIDEO: 0, GRAPH: 1, SEQUENCE: 1}
"""Which axis of a map the channel names belong to; those of a vector are one for all."""


def announced_maps(subject: Subject) -> None:
    """Maps are finite float32 of the shape and with the channels that are announced, whatever the frames are."""
    (kind,) = set(subject.declaration.maps.values())
    for title, component in subject.settings():
        shape, channels = tuple(component.shape), component.channels
        demand(len(shape) == RANKS[kind] and min(shape) > 0, title, f"its shape is that of one {kind}", shape)
        demand(isinstance(channels, tuple) and all(channels), title, "its channels are a tuple of names", channels)
        number = shape[NAMED[kind]] if kind in NAMED else 1
        demand(len(channels) == number, title, f"it has {number} channel names", channels)
        for facts in (frozenset[str](), frozenset(CAPABILITIES)):
            provided = component.provides(facts)
            demand(provided <= set(CAPABILITIES), title, "what it provides is known", provided)
            demand(PIXELS not in provided or kind in (IMAGE, VIDEO), title, "only maps have pixels", kind)
        for clip in sample_clips():
            map_ = component.prepare(clip)
            sized = isinstance(map_, np.ndarray) and map_.shape == shape and map_.dtype == np.float32
            frames: Any = clip.frames
            found = f"{getattr(map_, 'dtype', type(map_))} {np.shape(map_)} of frames {frames[0].shape}"
            demand(sized, title, f"its maps are float32 of shape {shape}", found)
            demand(bool(np.isfinite(map_).all()), title, "its maps are finite")
            if BRIGHTNESS in component.provides(frozenset()):
                low, high = float(map_.min()), float(map_.max())
                demand(-1 <= low <= high <= 1, title, "grey values and their differences lie in [-1, 1]", (low, high))


def announced_clip(subject: Subject) -> None:
    """What comes out is the clip of the same person, whole: nothing that it had is lost or out of range."""
    for title, component in subject.settings():
        for clip in sample_clips():
            changed = component.apply(clip)
            demand(isinstance(changed, Clip), title, "it makes a clip of a clip", type(changed).__name__)
            names = (changed.key, changed.dataset, changed.subject)
            demand(names == (clip.key, clip.dataset, clip.subject), title, "a clip keeps its names", names)
            lost = [name for name in REMOVABLE if not has(changed, name)]
            demand(not lost, title, "a clip keeps what it has", f"no {', '.join(lost)}")
            frames: Any = changed.frames
            shown = [frames[number] for number in range(len(frames))]
            demand(bool(shown), title, "a clip keeps frames", "none")
            kinds = {(frame.dtype.name, frame.shape) for frame in shown}
            fits = len(kinds) == 1 and shown[0].dtype == np.uint8
            fits = fits and (shown[0].ndim == 2 or (shown[0].ndim == 3 and shown[0].shape[2] == 3))
            demand(fits, title, "frames are uint8, (H, W) or (H, W, 3), and all alike", kinds)
            landmarks: Any = changed.landmarks
            demand(len(landmarks) == len(frames), title, "there are landmarks for every frame", len(landmarks))
            points = np.stack([landmarks[number] for number in range(len(landmarks))])
            fits = points.dtype == np.float32 and points.shape[1:] == (68, 2) and bool(np.isfinite(points).all())
            demand(fits, title, "landmarks are finite float32 (68, 2)", f"{points.dtype} {points.shape[1:]}")
            moments = (changed.onset, changed.apex, changed.offset)
            fits = all(moment is not None and 0 <= moment < len(frames) for moment in moments)
            demand(fits, title, f"onset, apex and offset are among its {len(frames)} frames", moments)
            fits = moments == tuple(sorted(moments))
            demand(fits, title, "onset, apex and offset come in this order", moments)
            demand(changed.fps is not None and changed.fps > 0, title, "a clip keeps a frame rate", changed.fps)


def announced_flow(subject: Subject) -> None:
    """Flow and strain are finite float32 of the size of the frames; true flow points where things go, in pixels."""
    for title, component in subject.settings():
        for clip in sample_clips():
            frames: Any = clip.frames
            size = frames[0].shape[:2]
            flow = component.flow(clip)
            before = flow.copy()
            strain = component.strain(clip, flow)
            demand(np.array_equal(flow, before), title, "the strain leaves the flow as it is")
            for name, map_, shape in (("flow", flow, (2, *size)), ("strain", strain, size)):
                sized = map_.shape == shape and map_.dtype == np.float32
                demand(sized, title, f"its {name} is float32 of shape {shape}", f"{map_.dtype} {map_.shape}")
                demand(bool(np.isfinite(map_).all()), title, f"its {name} is finite")
        if TRUE_FLOW in subject.declaration.provides:
            demand(component.zero_is_known, title, "the zero of true flow is known", component.zero_is_known)
            clip, moved = _shifted(sample_clips()[0], 0.0, 0.0), _shifted(sample_clips()[0], 1.0, -1.0)
            still = float(np.abs(component.flow(clip)).max())
            demand(still < 0.1, title, "nothing moves between equal frames", f"{still:.3g} pixels")
            u, v = (float(np.median(plane[12:-12, 12:-12])) for plane in component.flow(moved))
            near = abs(u - 1) < 0.5 and abs(v + 1) < 0.5
            demand(near, title, "what moves (1, -1) pixels right and down has that flow", f"({u:.2f}, {v:.2f})")


def repeatable(subject: Subject) -> None:
    """Equal clips give equal results to the bit, whatever was asked before."""
    for title, component in subject.settings():
        first, other = sample_clips()
        before = _result(subject, component, first)
        _result(subject, component, other)
        after = _result(subject, component, first)
        demand(_same(before, after), title, "the same clip gives the same twice", "another result")
        fresh = _result(subject, component, sample_clips()[0])
        demand(_same(before, fresh), title, "an equal clip gives the same", "another result")


def clip_as_it_was(subject: Subject) -> None:
    """The clip, its frames and its landmarks are left as they are."""
    for title, component in subject.settings():
        for clip in sample_clips():
            before = digest(clip)
            _result(subject, component, clip)
            demand(digest(clip) == before, title, "the clip that is given is not written to", "a changed clip")


def honest_needs(subject: Subject) -> None:
    """It works without everything that it does not declare to need, and says so where it lacks what it needs."""
    for leaf in subject.leaves:
        title, component = subject.called(leaf), instantiate(leaf, subject.registry)
        own, needed = own_needs(leaf, subject.registry), all_needs(leaf, subject.registry)
        full = sample_clips()[0]
        bare = full
        for capability in REMOVABLE:
            lacking = without(full, capability)
            if capability not in needed:
                bare = without(bare, capability)
                with telling(title, f"works without {capability}, which it does not declare to need"):
                    _result(subject, component, lacking)
            else:
                _refused(subject, component, lacking, title, capability, must=capability in own)
        with telling(title, f"works with nothing but {', '.join(sorted(needed)) or 'a key'}"):
            _result(subject, component, bare)


def _refused(subject: Subject, component: Any, clip: Clip, title: str, capability: str, must: bool) -> None:
    """Without what it needs it raises a `DataError`; where only a part of it needs that, it may do without."""
    rule = f"raises DataError where a clip lacks {capability}"
    try:
        _result(subject, component, clip)
    except DataError as error:
        demand(bool(error.problems), title, f"{rule}, with a problem in it", "none")
    except Exception as error:  # whatever else it raises is what is wrong
        raise ConformanceError(f"{title}: {rule}; found {type(error).__name__}: {error}") from error
    else:
        demand(not must, title, rule, "a result: do not declare the need")


def _result(subject: Subject, component: Any, clip: Clip) -> list[NDArray[Any]]:
    """All that a component makes of a clip, as arrays."""
    if subject.declaration.axis == "input":
        return [np.array(component.prepare(clip))]
    if subject.declaration.axis == "flow_estimator":
        flow = component.flow(clip)
        return [np.array(flow), np.array(component.strain(clip, flow))]
    changed = component.apply(clip)
    arrays = [np.array([-1.0 if value is None else value for value in _moments(changed)])]
    for several in (changed.frames, changed.landmarks):
        arrays += [] if several is None else [np.array(several[number]) for number in range(len(several))]
    return arrays


def _moments(clip: Clip) -> tuple[float | None, ...]:
    return (clip.fps, clip.onset, clip.apex, clip.offset)


def _same(some: list[NDArray[Any]], others: list[NDArray[Any]]) -> bool:
    make: Callable[[NDArray[Any], NDArray[Any]], bool] = np.array_equal
    return len(some) == len(others) and all(make(one, other) for one, other in zip(some, others, strict=True))


def _shifted(clip: Clip, right: float, down: float) -> Clip:
    """The onset frame, and the same frame moved, as a clip."""
    frames: Any = clip.frames
    onset = cv2.GaussianBlur(frames[0], (0, 0), 1.0)
    rows, columns = onset.shape
    moved = cv2.warpAffine(
        onset, np.array([[1, 0, right], [0, 1, down]], np.float64), (columns, rows), borderMode=cv2.BORDER_REPLICATE
    )
    return replace(clip, frames=np.stack([onset, moved]), onset=0, apex=1, offset=1)
