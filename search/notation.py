"""How figures are written, on the screen and in papers."""

from __future__ import annotations

import math

ABSENT = "–"
"""What stands where there is no figure."""


def figure(value: float | None, digits: int = 3) -> str:
    """Return a score as papers print it, without the zero before the point.

    Example:
        >>> figure(0.6925), figure(1.0), figure(-0.03), figure(float("nan"))
        ('.693', '1.000', '−.030', '–')
    """
    if value is None or math.isnan(value):
        return ABSENT
    text = f"{abs(value):.{digits}f}"
    text = text.removeprefix("0") if text.startswith("0.") else text
    return f"−{text}" if value < 0 and float(f"{value:.{digits}f}") != 0 else text


def signed(value: float | None, digits: int = 3) -> str:
    """Return a difference with its sign.

    Example:
        >>> signed(0.046), signed(-0.046), signed(0.0)
        ('+.046', '−.046', '.000')
    """
    text = figure(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(f"{value:.{digits}f}") != 0 else text


def span(low: float, high: float) -> str:
    """Return an interval.

    Example:
        >>> span(0.6261, 0.7494), span(-0.07, 0.005)
        ('[.626, .749]', '[−.070, .005]')
    """
    return f"[{figure(low)}, {figure(high)}]"


def difference_span(low: float, high: float) -> str:
    """Return the interval of a difference, with as many digits as it takes to show on which side of zero an end lies.

    What is nothing to nine digits is rounding, and zero.

    Example:
        >>> difference_span(-0.151, 0.005), difference_span(-0.151, -0.0003), difference_span(1e-17, 0.2)
        ('[−.151, .005]', '[−.1510, −.0003]', '[.000, .200]')
    """
    least = min((abs(end) for end in (low, high) if round(end, 9)), default=1.0)
    digits = next(digits for digits in range(3, 10) if round(least, digits))
    return f"[{figure(low, digits)}, {figure(high, digits)}]"


def points(value: float | None) -> str:
    """Return a difference of two scores in points, hundredths of the scale from 0 to 1.

    Example:
        >>> points(0.0305), points(-0.01), points(None)
        ('+3.0', '−1.0', '–')
    """
    if value is None or math.isnan(value):
        return ABSENT
    text = f"{abs(value) * 100:.1f}"
    return text if float(text) == 0 else f"{'−' if value < 0 else '+'}{text}"


def thousands(value: float | None) -> str:
    """Return a count.

    Example:
        >>> thousands(43547), thousands(None)
        ('43,547', '–')
    """
    return ABSENT if value is None else f"{value:,.0f}"


def share(value: float) -> str:
    """Return a share in per cent.

    Example:
        >>> share(0.125), share(0.004), share(0.0)
        ('12%', '0.4%', '0%')
    """
    hundredths = value * 100
    return f"{hundredths:.1f}%" if 0 < hundredths < 1 else f"{hundredths:.0f}%"


def rule_title(text: str) -> str:
    """Return the title of a row as people read it.

    Example:
        >>> rule_title("<=2k = <=10k"), rule_title("rbf_svm")
        ('≤2k = ≤10k', 'RBF SVM')
    """
    known = {"rbf_svm": "RBF SVM"}
    return known.get(text, text.replace("<=", "≤").replace("_", " "))
