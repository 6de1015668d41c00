"""Presets: published methods as YAML genotypes, with their source, their published figures and an honest label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from mernas.space.errors import Problem, UnknownNameError, nearest
from mernas.space.genotype import Genotype, from_plain
from mernas.space.yaml_text import load_yaml


@dataclass(frozen=True)
class Preset:
    """A published method.

    Attributes:
        name: What the command line calls it.
        title: The method as its authors call it, and after a colon what it is.
        year: Of the paper.
        source: The paper, and the released code if there is any.
        label: `faithful` (layers read from released code or the paper) or `approximation`.
        notes: What differs, and why.
        published: Published figures by name. `parameters` are as the paper states them, `parameters_of_release` as the
            released layers have them; `uf1` and `uar` are those on MEGC2019. `chosen_on_test_subjects` says whether the
            epoch was chosen by the score of the very subjects that were tested: `yes`, `no` or `unknown`.
        genotype: The pipeline.
    """

    name: str
    title: str
    year: int
    source: str
    label: str
    notes: str
    genotype: Genotype
    published: Mapping[str, Any] = field(default_factory=dict)


def preset_names() -> tuple[str, ...]:
    """Return the names of the presets, sorted."""
    folder = resources.files("mernas.space").joinpath("methods")
    return tuple(sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml")))


def load_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        UnknownNameError: If there is none of that name, with the nearest known ones.
        SpaceError: If its genotype does not fit this installation.

    Example:
        >>> import mernas.components
        >>> load_preset("ststnet").label
        'faithful'
    """
    if name not in preset_names():
        raise UnknownNameError(Problem(f'preset "{name}"', "is not known", "", nearest(name, preset_names())))
    text = resources.files("mernas.space").joinpath("methods", f"{name}.yaml").read_text(encoding="utf-8")
    data = load_yaml(text, f"{name}.yaml")
    return Preset(
        name=name,
        title=data["title"],
        year=data["year"],
        source=data["source"],
        label=data["label"],
        notes=data.get("notes", ""),
        published=data.get("published", {}),
        genotype=from_plain(data["genotype"], f"{name}.yaml"),
    )
