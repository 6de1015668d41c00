"""Durations as people write them: `90s`, `30m`, `1.5h`, `2d`."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from mernas.space.errors import PlanError, Problem

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(text: str | float, option: str = "--time") -> float:
    """Return seconds.

    Args:
        text: A number with a unit, or a plain number of seconds.
        option: What to call it in messages.

    Raises:
        PlanError: If it is not a duration above 0.

    Example:
        >>> parse_duration("30m"), parse_duration("1.5h"), parse_duration(20)
        (1800.0, 5400.0, 20.0)
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([smhd]?)\s*", str(text).lower())
    seconds = float(found[1]) * UNITS[found[2] or "s"] if found else 0.0
    if not 0 < seconds < math.inf:
        remedy = "write e.g. 90s, 30m, 1.5h or 2d"
        raise PlanError(Problem(option, "must be a duration above 0", str(text), remedy))
    return seconds


def format_duration(seconds: float) -> str:
    """Return seconds as a person reads them.

    Example:
        >>> format_duration(42), format_duration(400), format_duration(9000)
        ('42 s', '6.7 min', '2.5 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def exact_duration(seconds: float) -> str:
    """Return the text that `parse_duration` takes for exactly so many seconds.

    Example:
        >>> exact_duration(3600.0), exact_duration(90.25), parse_duration(exact_duration(0.1 + 0.2)) == 0.1 + 0.2
        ('3600s', '90.25s', True)
    """
    return format(Decimal(repr(float(seconds))), "f").removesuffix(".0") + "s"
