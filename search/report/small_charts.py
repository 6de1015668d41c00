"""Small drawings: reliability, optimism, shares and effects."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from mernas.evaluation.calibration import Reliability
from mernas.search.notation import figure, share
from mernas.search.report.drawing import element


def draw_reliability(before: Reliability, after: Reliability, title: str) -> Markup:
    """Return a reliability diagram: accuracy against confidence, before and after temperature scaling.

    Args:
        before: By bins of confidence, as the networks give it.
        after: The same with the studies' temperatures.
        title: What it is of, for screen readers.
    """
    size, left, top = 220.0, 50.0, 10.0

    def at(confidence: float, accuracy: float) -> tuple[float, float]:
        return left + confidence * size, top + (1 - accuracy) * size

    drawn: list[Markup] = []
    for quarter in range(5):
        value = quarter / 4
        (x, low), (start, y) = at(value, 0), at(0, value)
        drawn.append(element("line", x1=x, x2=x, y1=top, y2=low, class_="grid"))
        drawn.append(element("line", x1=start, x2=start + size, y1=y, y2=y, class_="grid"))
        drawn.append(element("text", f"{value:g}", x=x, y=low + 15, class_="tick", text_anchor="middle"))
        drawn.append(element("text", f"{value:g}", x=start - 6, y=y + 4, class_="tick", text_anchor="end"))
    (x1, y1), (x2, y2) = at(0, 0), at(1, 1)
    drawn.append(element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_="diagonal"))
    for name, one in (("before", before), ("after", after)):
        total = max(sum(one.counts), 1)
        full = [place for place, count in enumerate(one.counts) if count]
        line = "".join(
            f"{'L' if number else 'M'}{x:.1f} {y:.1f}"
            for number, (x, y) in enumerate(at(one.confidence[place], one.accuracy[place]) for place in full)
        )
        drawn.append(element("path", d=line or "M0 0", class_=f"reliability-line {name}"))
        for place in full:
            x, y = at(one.confidence[place], one.accuracy[place])
            radius = 2.5 + 7 * math.sqrt(one.counts[place] / total)
            drawn.append(element("circle", cx=x, cy=y, r=radius, class_=f"reliability-dot {name}"))
    middle = left + size / 2
    drawn.append(
        element("text", "confidence of the prediction", x=middle, y=top + size + 34, class_="axis-title",
                text_anchor="middle")
    )  # fmt: skip
    drawn.append(
        element("text", "share that is right", x=-(top + size / 2), y=9, class_="axis-title", text_anchor="middle",
                transform="rotate(-90)")
    )  # fmt: skip
    return element(
        "svg", element("title", title), *drawn, role="img", class_="chart reliability",
        viewBox=f"-6 0 {left + size + 18:.0f} {top + size + 44:.0f}",
    )  # fmt: skip


def draw_optimism(
    rows: Sequence[tuple[str, float, float, float, float, float | None, float | None]], narrow: bool = False
) -> Markup:
    """Return, row by row, the estimate with its interval and the three figures that are none.

    Args:
        rows: (title, nested, low, high, inner, best common epoch, best epoch of every subject).
        narrow: Whether it is for a narrow screen.
    """
    values = [value for row in rows for value in row[1:] if value is not None]
    low, high = math.floor(min(values) * 20 - 0.5) / 20, math.ceil(max(values) * 20 + 0.5) / 20
    width, left, each = (360.0, 14.0, 54.0) if narrow else (820.0, 190.0, 40.0)
    right, top = width - 20, 8.0
    bottom = top + each * len(rows)

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    drawn: list[Markup] = []
    step = 2 if high - low > (0.3 if narrow else 0.5) else 1
    for twentieth in range(round(low * 20), round(high * 20) + 1, step):
        at = x(twentieth / 20)
        drawn.append(element("line", x1=at, x2=at, y1=top, y2=bottom, class_="grid"))
        drawn.append(element("text", figure(twentieth / 20, 2), x=at, y=bottom + 17, class_="tick",
                             text_anchor="middle"))  # fmt: skip
    for number, (title, nested, lower, upper, inner, common, each_best) in enumerate(rows):
        y = top + each * (number + (0.72 if narrow else 0.5))
        place = {"x": left, "y": y - 20} if narrow else {"x": left - 14, "y": y + 4, "text_anchor": "end"}
        drawn.append(element("text", title, class_="mark-name", **place))
        extremes = [value for value in (nested, inner, common, each_best) if value is not None]
        drawn.append(element("line", x1=x(min(extremes)), x2=x(max(extremes)), y1=y, y2=y, class_="optimism-line"))
        drawn.append(element("line", x1=x(lower), x2=x(upper), y1=y, y2=y, class_="whisker nested-whisker"))
        drawn.append(element("circle", cx=x(nested), cy=y, r=6, class_="nested-mark"))
        drawn.append(element("circle", cx=x(inner), cy=y, r=5, class_="inner-mark"))
        if common is not None:
            at = x(common)
            drawn.append(element("path", d=f"M{at:.1f} {y - 6:.1f}l6 11h-12z", class_="audit-mark"))
        if each_best is not None:
            at = x(each_best)
            drawn.append(element("path", d=f"M{at - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10", class_="audit-cross"))
    drawn.append(element("text", "UF1", x=right, y=bottom + 34, class_="axis-title", text_anchor="end"))
    return element(
        "svg", element("title", "The estimate of every row, and the figures that are not results"), *drawn,
        role="img", class_=f"chart optimism {'narrow' if narrow else 'wide'}",
        viewBox=f"0 0 {width:.0f} {bottom + 40:.0f}",
    )  # fmt: skip


def draw_share(value: float) -> Markup:
    """Return a bar for a share; decoration of a number beside it."""
    return element(
        "svg",
        element("rect", x=0, y=2, width=100, height=8, class_="bar-back"),
        element("rect", x=0, y=2, width=max(value * 100, 0.5 if value else 0), height=8, class_="bar"),
        class_="spark", viewBox="0 0 100 12", role="img", aria_label=share(value),
    )  # fmt: skip


def draw_effect(value: float, error: float, largest: float) -> Markup:
    """Return a difference with two standard errors on a common scale from -largest to largest."""
    largest = largest or 1.0

    def x(figure_: float) -> float:
        return 60 + max(min(figure_ / largest, 1.0), -1.0) * 56

    drawn = [element("line", x1=60, x2=60, y1=0, y2=14, class_="axis")]
    if not math.isnan(error):
        drawn.append(element("line", x1=x(value - 2 * error), x2=x(value + 2 * error), y1=7, y2=7, class_="whisker"))
    drawn.append(element("circle", cx=x(value), cy=7, r=3.5, class_="effect-mark"))
    return element("svg", *drawn, class_="spark effect", viewBox="0 0 120 14", aria_hidden="true")
