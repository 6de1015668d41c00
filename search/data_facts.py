"""What there is to say of data before anything is searched: counts, sizes, what is there and what is missing."""

from __future__ import annotations

import difflib
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mernas.components.datasets.action_units import unit_table
from mernas.components.datasets.clip import Clip, Dataset
from mernas.search.named_data import wants_a_path
from mernas.search.run import load_data
from mernas.space.errors import DataError, Problem
from mernas.space.registry import REGISTRY
from mernas.space.taxonomy import (
    ACTION_UNITS,
    APEX,
    CAPABILITIES,
    FRAME_RATE,
    FRAMES,
    GIVEN_FLOW,
    GIVEN_STRAIN,
    LANDMARKS,
    OFFSET,
    ONSET,
)

FEWEST_SUBJECTS = 3
"""A search divides people into three groups at least, and every class must occur in three of them."""

Facts = dict[str, Any]


def datasets() -> list[Facts]:
    """Return every registered dataset: its name, how `--data` names it, what it is, and what must be installed for it.

    Example:
        >>> [entry["data"] for entry in datasets() if entry["name"] in ("manifest", "synthetic")]
        ['FILE.csv', 'synthetic']
    """
    found = []
    for name in REGISTRY.names("dataset"):
        declaration = REGISTRY.get("dataset", name)
        path = wants_a_path(declaration.factory())
        spelt = "FILE.csv" if name == "manifest" else f"{name}=PATH" if path else name
        needs = "a CSV file that lists your clips" if name == "manifest" else "its files" if path else "nothing"
        found.append(
            {
                "name": name,
                "data": spelt,
                "needs": needs,
                "summary": declaration.summary,
                "source": declaration.source,
                "install": list(declaration.missing),
            }
        )
    return found


def examine_data(texts: Sequence[str]) -> Facts:
    """Return what was found in some data, as plain data.

    Args:
        texts: As `load_data` takes them.

    Raises:
        UnknownNameError: If no dataset has that name.
        DataError: If the data are not what they should be, with every mistake.
    """
    notes: list[str] = []
    data = load_data(*texts, say=notes.append)
    return {**facts_of(data), "notes": notes}


def facts_of(data: Dataset) -> Facts:
    """Return the facts of a dataset.

    Example:
        >>> from mernas.components.datasets.synthetic import Synthetic
        >>> facts = facts_of(Synthetic(subjects=2, clips=3, macro_subjects=0).load())
        >>> facts["clips"], facts["subjects"], facts["sizes"], facts["clips_per_subject"]
        (6, 2, {'64 x 64': 6}, {'min': 3, 'median': 3, 'max': 3})
    """
    emotions = list(data.annotations["emotion"])
    people = {name: {c.subject for c, emotion in zip(data, emotions, strict=True) if emotion == name}
              for name in data.classes}  # fmt: skip
    lengths = [len(clip.frames) for clip in data if clip.frames is not None]
    spans = [clip.offset - clip.onset + 1 for clip in data if clip.onset is not None and clip.offset is not None]
    lacking = {name: count for name, count in _lacking(data).items() if count}
    if GIVEN_FLOW in data.provides and FRAMES not in data.provides:
        lacking = {name: count for name, count in lacking.items() if name not in (ONSET, APEX, OFFSET, FRAME_RATE)}
    return {
        "name": data.name,
        "clips": len(data),
        "subjects": len(data.subjects),
        "datasets": dict(sorted(Counter(clip.dataset for clip in data).items())),
        "classes": {name: {"clips": emotions.count(name), "subjects": len(people[name])} for name in data.classes},
        "clips_per_subject": _spread(list(Counter(clip.subject for clip in data).values())),
        "fps": _counts(data, lambda clip: "not stated" if clip.fps is None else f"{clip.fps:g}"),
        "frames": _spread(lengths),
        "frames_onset_to_offset": _spread(spans),
        "sizes": _counts(data, _size),
        "has": sorted(data.provides),
        "lacks": lacking,
        "annotations": [str(column) for column in data.annotations.columns],
        "fingerprint": data.fingerprint,
        "labels": data.label_fingerprint,
        "licence": data.licence,
        "warnings": _warnings(len(data.subjects), {name: len(own) for name, own in people.items()}),
    }


def clip_facts(data: Dataset, clip: Clip) -> Facts:
    """Return the facts of one clip, none of which shows a face.

    Example:
        >>> from mernas.components.datasets.synthetic import Synthetic
        >>> data = Synthetic(subjects=1, clips=1, macro_subjects=0).load()
        >>> clip_facts(data, data.clips[0])["size"]
        '64 x 64'
    """
    frames = None if clip.frames is None else len(clip.frames)
    annotated = {str(column): str(value) for column, value in data.annotations.loc[clip.key].items()}
    return {
        "clip": clip.key,
        "subject": clip.subject,
        "emotion": annotated.pop("emotion"),
        "frames": frames,
        "size": _size(clip),
        "fps": clip.fps,
        "seconds": None if frames is None or clip.fps is None else round(frames / clip.fps, 4),
        "onset": clip.onset,
        "apex": clip.apex,
        "offset": clip.offset,
        "landmarks": clip.landmarks is not None,
        "maps": sorted(clip.given),
        "annotations": {name: text for name, text in annotated.items() if name != "dataset"},
        "fingerprint": clip.fingerprint,
    }


def clip_of(data: Dataset, name: str) -> Clip:
    """Return a clip by its key, or by the end of it where that says which.

    Args:
        data: The dataset.
        name: `dataset/subject/clip`, `subject/clip` or `clip`.

    Raises:
        DataError: If no clip is called so, with the nearest, or several are.
    """
    found = [clip for clip in data if clip.key == name] or [clip for clip in data if clip.key.endswith(f"/{name}")]
    if len(found) == 1:
        return found[0]
    subject = f'clip "{name}"'
    if found:
        listed = ", ".join(clip.key for clip in found[:5])
        raise DataError(
            Problem(subject, "must say which clip", f"{len(found)} of that name: {listed}", "add its subject")
        )
    keys = [clip.key for clip in data]
    names = {**{key.rpartition("/")[2]: key for key in keys}, **{key: key for key in keys}}
    close = [names[near] for near in difflib.get_close_matches(name, names, n=3, cutoff=0.5)] or keys[:3]
    raise DataError(Problem(subject, f"is not in {data.name}", "", f"there are, for example, {', '.join(close)}"))


def _lacking(data: Dataset) -> dict[str, int]:
    """How many clips lack what a pipeline may need."""
    units = unit_table(data.annotations, [1])
    maps = {GIVEN_FLOW: "flow", GIVEN_STRAIN: "strain"}
    found = {
        FRAMES: sum(clip.frames is None for clip in data),
        ONSET: sum(clip.onset is None for clip in data),
        APEX: sum(clip.apex is None for clip in data),
        OFFSET: sum(clip.offset is None for clip in data),
        FRAME_RATE: sum(clip.fps is None for clip in data),
        LANDMARKS: sum(clip.landmarks is None for clip in data),
        ACTION_UNITS: int(np.isnan(units).sum()),
    }
    if any(clip.given for clip in data):
        found |= {capability: sum(name not in clip.given for clip in data) for capability, name in maps.items()}
    return {name: count for name, count in found.items() if name in CAPABILITIES}


def _size(clip: Clip) -> str:
    """Height and width in pixels; of maps where there are no frames."""
    if clip.frames is not None:
        shape = clip.frames[0].shape[:2]
    elif clip.given:
        shape = clip.given[min(clip.given)]().shape[-2:]
    else:
        return "unknown"
    return f"{shape[0]} x {shape[1]}"


def _counts(data: Dataset, what: Any) -> dict[str, int]:
    """How often something is so, the most frequent first."""
    return dict(sorted(Counter(what(clip) for clip in data).items(), key=lambda item: (-item[1], item[0])))


def _spread(values: Sequence[int]) -> dict[str, float] | None:
    """Least, median and most; None of nothing."""
    if not values:
        return None
    middle = statistics.median(values)
    return {"min": min(values), "median": int(middle) if middle == int(middle) else middle, "max": max(values)}


def _warnings(subjects: int, people: dict[str, int]) -> list[str]:
    """What a search will refuse, told before it is begun."""
    found = []
    if subjects < FEWEST_SUBJECTS:
        found.append(f"a search needs {FEWEST_SUBJECTS} subjects or more; there are {subjects}")
    few = [f"{name} ({count})" for name, count in people.items() if count < FEWEST_SUBJECTS]
    if few:
        found.append(
            f"a search needs every class shown by {FEWEST_SUBJECTS} subjects or more; too few: {', '.join(few)}"
        )
    return found
