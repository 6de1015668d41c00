"""SVG as text: elements whose attributes and texts are always escaped, short numbers, and words broken into lines."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape


def element(tag: str, *children: str | Markup, **attributes: str | float | None) -> Markup:
    """Return one element.

    Args:
        tag: Its name.
        children: Texts, which are escaped, and other elements.
        attributes: In attribute names an underscore stands for a hyphen, and one at the end for nothing (`class_`);
            None leaves an attribute out.

    Example:
        >>> element("text", "a < b", x=1.50, class_="label", id=None)
        Markup('<text x="1.5" class="label">a &lt; b</text>')
    """
    said = "".join(
        f' {_attribute(name)}="{escape(number(value) if isinstance(value, (int, float)) else value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    inside = "".join(str(escape(child)) for child in children)
    body = f"<{tag}{said}>{inside}</{tag}>" if inside else f"<{tag}{said}/>"
    return Markup(body)  # noqa: S704  # every part was escaped above


def group(children: Iterable[Markup], **attributes: str | float | None) -> Markup:
    """Return a `g` element around others."""
    return element("g", *children, **attributes)


def number(value: float) -> str:
    """Return a coordinate with at most one decimal: a tenth of a pixel is finer than any eye.

    Example:
        >>> number(3.0), number(2.449), number(-0.01)
        ('3', '2.4', '0')
    """
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def wrap(text: str, width: int) -> list[str]:
    """Break a text into lines of at most `width` characters, between words where there are any.

    Example:
        >>> wrap("batch norm, ReLU, incomprehensibilities", 12)
        ['batch norm,', 'ReLU,', 'incomprehens', 'ibilities']
    """
    lines: list[str] = []
    for word in text.split():
        rest = word
        if lines and len(lines[-1]) + 1 + len(rest) <= width:
            lines[-1] += f" {rest}"
            continue
        while len(rest) > width:
            lines.append(rest[:width])
            rest = rest[width:]
        lines.append(rest)
    return lines


def _attribute(name: str) -> str:
    return name.removesuffix("_").replace("_", "-") if name not in ("viewBox",) else name
