"""Composites: several datasets as one, as the field's common benchmark joins three (survey section 2)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pandas as pd

from mernas.components.datasets.clip import Dataset
from mernas.space.errors import DataError, Problem, raise_all
from mernas.space.taxonomy import SOURCE


def join(datasets: Sequence[Dataset]) -> Dataset:
    """Return one dataset with the clips of several, which offers what all of them offer.

    Subjects and clips are told apart by the dataset in their keys, so datasets of one name must not share a subject. A
    single dataset is returned as it is. Sources are joined likewise, if every dataset has one; otherwise there is none.

    Args:
        datasets: At least one; each clip key once, and the same classes in all.

    Raises:
        DataError: If classes differ, a clip occurs twice, or datasets of one name share a subject; with all mistakes.

    Example:
        >>> from mernas.components.datasets.synthetic import Synthetic
        >>> data = Synthetic(subjects=2, clips=2).load()
        >>> join([data]) is data
        True
    """
    if len(datasets) == 1:
        return datasets[0]
    datasets = sorted(datasets, key=lambda data: data.name)  # the order in which they were named changes nothing
    problems: list[Problem | str] = []
    first = datasets[0]
    for other in datasets[1:]:
        if other.classes != first.classes:
            found = f"{', '.join(other.classes)} and {', '.join(first.classes)} of {first.name}"
            problems.append(Problem(f"dataset {other.name}", "must have the classes of the others", found))
    clips = sorted((clip for data in datasets for clip in data), key=lambda clip: clip.key)
    keys = [clip.key for clip in clips]
    doubled = sorted({key for key, again in itertools.pairwise(keys) if key == again})
    if doubled:
        remedy = "name each dataset once"
        problems.append(Problem("composite", "each clip must occur once", ", ".join(doubled[:3]), remedy))
    else:
        problems += _namesakes(datasets)
    raise_all(DataError, problems)
    sources = [data.source for data in datasets if data.source is not None]
    source = join(sources) if len(sources) == len(datasets) else None
    common = frozenset.intersection(*(data.provides for data in datasets))
    return Dataset(
        name="+".join(data.name for data in datasets),
        clips=tuple(clips),
        annotations=pd.concat([data.annotations for data in datasets]).loc[keys],
        classes=first.classes,
        provides=common - {SOURCE} if source is None else common,
        licence="; ".join(data.licence for data in datasets),
        source=source,
    )


def _namesakes(datasets: Sequence[Dataset]) -> list[Problem]:
    """Two manifests of one file name in two folders: their subject 01 need not be one person."""
    problems = []
    for one, other in itertools.combinations(datasets, 2):
        if one.name != other.name:
            continue
        shared = sorted({clip.subject for clip in one if clip.dataset == one.name} & set(other.subjects))
        if shared:
            rule = f"two datasets are called {one.name}, so they must have different people"
            remedy = "rename one file, or name its dataset in the column dataset"
            problems.append(Problem("composite", rule, f"{', '.join(shared[:3])} in both", remedy))
    return problems
