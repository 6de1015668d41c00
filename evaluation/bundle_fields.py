"""The fields of a manifest, and what each must be.

A seal says that a manifest is as it was written; whoever writes one anew can write anything into it. So every field is
checked before it is used.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from mernas.space.errors import Problem

ROUNDING = 1e-9
"""Means of ones may exceed one by so much."""

COLDEST, HOTTEST = 1e-3, 1e3
"""Temperatures far outside of what any fit gives."""

ABSENT = object()


def is_text(value: Any) -> bool:
    """Whether a value is a text that says something."""
    return isinstance(value, str) and bool(value.strip())


def is_digest(value: Any) -> bool:
    """Whether a value is a SHA-256 in hexadecimal digits."""
    return isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) is not None


def is_whole(value: Any, least: int = 0) -> bool:
    """Whether a value is a whole number of at least so much."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _is_score(value: Any) -> bool:
    return _is_number(value, -ROUNDING, 1 + ROUNDING)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_text, value)) and len(set(value)) == len(value)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(is_whole(n, 1) for n in value) and value == sorted(value)


def _are_frames(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict) and all(_are_sizes(value.get(side)) for side in ("height", "width"))
    )


def _are_reasons(value: Any) -> bool:
    return isinstance(value, dict) and all(map(is_text, value.values()))


FIELDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "mernas": ("a version", is_text),
    "engine": ("a whole number from 1 on", lambda value: is_whole(value, 1)),
    "classes": ("two or more names, all different", lambda value: _are_names(value) and len(value) > 1),
    "facts": ("names, all different", _are_names),
    "parameters": ("a whole number", is_whole),
    "temperature": (f"a number from {COLDEST:g} to {HOTTEST:g}", lambda value: _is_number(value, COLDEST, HOTTEST)),
    "abstention.threshold": ("a number from 0 to 1", _is_score),
    "abstention.coverage": ("a number from 0 to 1", _is_score),
    "frames": ("null, or three sizes in order for height and for width", _are_frames),
    "data.name": ("a text", lambda value: isinstance(value, str)),
    "data.content": ("a text", lambda value: isinstance(value, str)),
    "data.labels": ("a text", lambda value: isinstance(value, str)),
    "data.clips": ("a whole number from 1 on", lambda value: is_whole(value, 1)),
    "data.subjects": ("a whole number from 1 on", lambda value: is_whole(value, 1)),
    "data.licence": ("a text", lambda value: isinstance(value, str)),
    "rule": ("a name", is_text),
    "estimate.protocol": ("a name", is_text),
    "estimate.uf1": ("a number from 0 to 1", _is_score),
    "estimate.low": ("a number from 0 to 1", _is_score),
    "estimate.high": ("a number from 0 to 1", _is_score),
    "estimate.uar": ("a number from 0 to 1", _is_score),
    "plan": ("a name", is_text),
    "seed": ("a whole number", is_whole),
    "streams": ("a list", lambda value: isinstance(value, list)),
    "unavailable": ("reasons by file name", _are_reasons),
}
"""What every field of a manifest must be: in words, and as a test."""


def field_problems(plain: Mapping[str, Any], subject: str, manifest: str, remedy: str) -> list[Problem | str]:
    """Return what is wrong with the fields of a manifest.

    Args:
        plain: The manifest.
        subject: What messages call the model.
        manifest: What they call the manifest.
        remedy: What they advise.
    """
    problems: list[Problem | str] = []
    for path, (words, holds) in FIELDS.items():
        value: Any = plain
        for key in path.split("."):
            value = value.get(key, ABSENT) if isinstance(value, Mapping) else ABSENT
        if not holds(value):
            where = path.replace(".", ", ")
            problems.append(Problem(subject, f"{manifest}, {where} must be {words}", shown(value), remedy))
    return problems


def shown(value: Any) -> str:
    """A value as messages show it."""
    return "nothing" if value is ABSENT else textwrap.shorten(json.dumps(value, ensure_ascii=False), 60)
