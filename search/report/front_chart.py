"""The front as a drawing: parameters on a logarithmic axis, UF1, intervals, baselines, presets and all inner trials.

It is drawn in two shapes, a wide one and one for narrow screens, of which the style sheet shows one. Trials are dots of
a few paths, not an element each, so that five thousand of them cost some hundred kilobytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mernas.evaluation.picking import format_size
from mernas.search.notation import figure, thousands
from mernas.search.report.drawing import element, group
from mernas.search.report.estimates import Estimate, Preset, distinct, told

LAYERS = 12
"""The dots are spread over so many paths: where dots of different paths lie on each other, they look darker."""


@dataclass(frozen=True)
class Frame:
    """Where things lie in a drawing.

    Attributes:
        width, height: Of the drawing, in its own pixels.
        left, right, top, bottom: Sides of the plane of parameters and UF1.
        low_x, high_x: Decimal logarithms of the parameter counts at the sides.
        low_y, high_y: UF1 at bottom and top.
    """

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    low_x: float
    high_x: float
    low_y: float
    high_y: float

    def x(self, parameters: float) -> float:
        """Return where a parameter count stands."""
        place = (math.log10(max(parameters, 1)) - self.low_x) / (self.high_x - self.low_x)
        return self.left + place * (self.right - self.left)

    def y(self, score: float) -> float:
        """Return where a score stands."""
        return self.bottom - (score - self.low_y) / (self.high_y - self.low_y) * (self.bottom - self.top)


def make_frame(parameters: Sequence[float], scores: Sequence[float], strip: int, narrow: bool) -> Frame:
    """Return a frame around some points.

    Args:
        parameters: Parameter counts that must be seen.
        scores: Scores that must be seen.
        strip: How many columns stand to the right of the plane, for what has no parameter count.
        narrow: Whether it is for a narrow screen.
    """
    sizes = [math.log10(max(one, 1)) for one in parameters] or [3.0]
    low_x, high_x = min(sizes) - 0.12, max(sizes) + 0.12
    if high_x - low_x < 1:
        middle = (low_x + high_x) / 2
        low_x, high_x = middle - 0.5, middle + 0.5
    low_y = max(math.floor(min(scores, default=0.0) * 10 - 0.2) / 10, 0.0)
    high_y = min(math.ceil(max(scores, default=1.0) * 10 + 0.1) / 10, 1.0)
    width, height = (360.0, 420.0) if narrow else (960.0, 470.0)
    left, margin, each = (38.0, 8.0, 16.0) if narrow else (58.0, 150.0 if strip else 20.0, 26.0)
    right = width - margin - (strip * each + 10 if strip else 0)
    return Frame(width, height, left, right, 30.0, height - 52.0, low_x, high_x, low_y, high_y)


def draw_front_chart(
    estimates: Sequence[Estimate],
    baselines: Sequence[Estimate],
    presets: Sequence[Preset],
    trials: Sequence[tuple[float, float]],
    shorts: dict[str, str],
    narrow: bool = False,
) -> Markup:
    """Return the SVG of the front of one run.

    Args:
        estimates: Rows of the front and the rules; those of equal choices are drawn once.
        baselines: Rows of the baselines.
        presets: Published methods that were proposed.
        trials: (parameters, inner UF1) of the final study's completed proposals.
        shorts: Pipelines in words by genotype hash.
        narrow: Whether it is for a narrow screen.
    """
    rows = distinct(estimates)
    parameters: list[float] = [
        one for estimate, _ in rows for one in (estimate.params, estimate.params_min, estimate.params_max)
    ]
    parameters += [preset.params for preset in presets] + [size for size, _ in trials]
    scores = [value for one, _ in rows for value in (one.low, one.high, one.inner)]
    scores += [value for one in baselines for value in (one.low, one.high)]
    scores += [preset.inner for preset in presets] + [score for _, score in trials]
    frame = make_frame(parameters, scores, len(baselines), narrow)
    drawn = [*axes(frame, narrow), _dots(frame, trials)]
    drawn += _baselines(frame, baselines, shorts, narrow)
    drawn += [_preset(frame, preset) for preset in presets]
    drawn += _rows(frame, rows, shorts, narrow)
    label = f"UF1 against parameters: {len(rows)} rows, {len(baselines)} baselines, {len(trials)} inner trials"
    return element(
        "svg", *drawn, role="group", aria_label=label, viewBox=f"0 0 {frame.width:.0f} {frame.height:.0f}",
        class_=f"chart front-chart {'narrow' if narrow else 'wide'}", data_left=frame.left, data_right=frame.right,
        data_top=frame.top, data_bottom=frame.bottom, data_low_x=f"{frame.low_x:.6f}",
        data_high_x=f"{frame.high_x:.6f}", data_low_y=f"{frame.low_y:.1f}", data_high_y=f"{frame.high_y:.1f}",
    )  # fmt: skip


def axes(frame: Frame, narrow: bool) -> Iterator[Markup]:
    """Yield the grid, the ticks and the titles of the axes."""
    tenths = round(frame.low_y * 10), round(frame.high_y * 10)
    for tenth in range(tenths[0], tenths[1] + 1):
        y = frame.y(tenth / 10)
        yield element("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="grid")
        yield element("text", figure(tenth / 10, 1), x=frame.left - 8, y=y + 4, class_="tick", text_anchor="end")
    for size, named in _sizes(frame, narrow):
        x = frame.x(size)
        yield element("line", x1=x, x2=x, y1=frame.top, y2=frame.bottom, class_="grid" if named else "grid minor")
        if named:
            text = format_size(size)
            yield element("text", text, x=x, y=frame.bottom + 18, class_="tick", text_anchor="middle")
    yield element("line", x1=frame.left, x2=frame.right, y1=frame.bottom, y2=frame.bottom, class_="axis")
    middle = (frame.left + frame.right) / 2
    yield element(
        "text", "parameters (log scale)", x=middle, y=frame.bottom + 40, class_="axis-title", text_anchor="middle"
    )
    yield element("text", "UF1 (macro F1)", x=frame.left - 28 if narrow else 14, y=16, class_="axis-title")


def _sizes(frame: Frame, narrow: bool) -> Iterator[tuple[int, bool]]:
    """Yield (parameter count, whether it is named) of the grid's lines."""
    few = frame.high_x - frame.low_x < (1.6 if narrow else 2.6)
    for exponent in range(max(math.floor(frame.low_x), 0), math.ceil(frame.high_x) + 1):
        for digit in range(1, 10):
            size = digit * 10**exponent
            if frame.low_x <= math.log10(size) <= frame.high_x:
                yield size, digit == 1 or (few and digit in (2, 5))


def _dots(frame: Frame, trials: Sequence[tuple[float, float]]) -> Markup:
    layers: list[list[str]] = [[] for _ in range(min(LAYERS, len(trials)))]
    for number, (size, score) in enumerate(trials):
        layers[number % LAYERS].append(f"M{frame.x(size):.1f} {frame.y(score):.1f}h0")
    kind = "dots many" if len(trials) > 500 else "dots"
    return group((element("path", d="".join(dots), class_=kind) for dots in layers), class_="trials")


def mark(tip: str, *drawn: Markup, kind: str) -> Markup:
    """Return a mark that can be hovered over and focused, with what is said of it then."""
    return element(
        "g", *drawn, class_=f"mark {kind}", tabindex="0", role="img", aria_label=tip.replace("\n", ". "), data_tip=tip
    )


def whisker(x: float, low: float, high: float, cap: float = 4) -> Markup:
    """Return an interval with caps."""
    path = f"M{x - cap:.1f} {low:.1f}h{2 * cap:g}M{x:.1f} {low:.1f}V{high:.1f}M{x - cap:.1f} {high:.1f}h{2 * cap:g}"
    return element("path", d=path, class_="whisker")


def _rows(frame: Frame, rows: Sequence[tuple[Estimate, str]], shorts: dict[str, str], narrow: bool) -> Iterator[Markup]:
    taken: list[tuple[float, float, float]] = []
    last = -math.inf
    marks: list[Markup] = []
    for estimate, title in sorted(rows, key=lambda row: (row[0].params, row[1])):
        x = min(max(frame.x(estimate.params), last + 18), frame.right - 4)
        last = x
        y, inner = frame.y(estimate.nested), frame.y(estimate.inner)
        tip = told(estimate, title, shorts.get(estimate.row.final.genotype, ""))
        half = len(title) * (3.4 if narrow else 3.6)
        centre = min(max(x, frame.left + half), frame.right - half + (0 if narrow else 20))
        above = frame.y(estimate.high) - 8
        while any(abs(above - other) < 13 and abs(centre - at) < half + wide + 4 for at, other, wide in taken):
            above -= 13
        taken.append((centre, above, half))
        yield element(
            "line", x1=frame.x(estimate.params_min), x2=frame.x(estimate.params_max), y1=y, y2=y, class_="reach"
        )
        marks.append(
            mark(
                tip,
                element("circle", cx=x, cy=y, r=12, class_="halo"),
                whisker(x, frame.y(estimate.low), frame.y(estimate.high)),
                element("circle", cx=x, cy=inner, r=4.5, class_="inner-mark"),
                element("circle", cx=x, cy=y, r=5.5, class_="nested-mark"),
                element("text", title, x=centre, y=above, class_="mark-name", text_anchor="middle"),
                kind="nested",
            )
        )
    yield from marks


def _baselines(frame: Frame, baselines: Sequence[Estimate], shorts: dict[str, str], narrow: bool) -> Iterator[Markup]:
    each = 16 if narrow else 26
    names: list[float] = []
    for number, one in enumerate(sorted(baselines, key=lambda one: -one.nested)):
        x = frame.right + 10 + each * (number + 0.5)
        y = frame.y(one.nested)
        label = max(y + 4, names[-1] + 30 if names else y + 4)
        names.append(label)
        end = frame.right + 10 + each * len(baselines)
        text: list[Markup] = []
        if not narrow:
            text = [
                element("text", one.title, x=end + 8, y=label, class_="mark-name"),
                element("text", f"{figure(one.nested)} {one.interval}", x=end + 8, y=label + 13, class_="tick"),
            ]
        yield element("line", x1=frame.left, x2=x, y1=y, y2=y, class_="baseline-line")
        yield mark(
            told(one, one.title, shorts.get(one.row.final.genotype, "")),
            element("circle", cx=x, cy=y, r=11, class_="halo"),
            whisker(x, frame.y(one.low), frame.y(one.high), 3),
            element("rect", x=x - 4.5, y=y - 4.5, width=9, height=9, class_="baseline-mark"),
            *text,
            kind="baseline",
        )


def _preset(frame: Frame, preset: Preset) -> Markup:
    x, y = frame.x(preset.params), frame.y(preset.inner)
    tip = "\n".join([
        f"Preset {preset.name}",
        f"inner UF1 {figure(preset.inner)} in the final study, a selection score and no estimate",
        f"{thousands(preset.params)} parameters",
        preset.short,
    ])  # fmt: skip
    return mark(
        tip,
        element("circle", cx=x, cy=y, r=11, class_="halo"),
        element("path", d=f"M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z", class_="preset-mark"),
        element("text", preset.name, x=x, y=y + 20, class_="mark-name", text_anchor="middle"),
        kind="preset",
    )
