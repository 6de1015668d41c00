"""Templates to text: everything is escaped, and nothing in a report can ask anything of a server or run foreign code.

The content security policy allows exactly one style sheet and one script, by their hashes, and nothing else: no style
attribute, no event handler, no picture from outside.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

import mernas
from mernas.search.notation import difference_span, figure, points, share, signed, span, thousands
from mernas.search.report.small_charts import draw_effect, draw_share


def render(template: str, **values: Any) -> str:
    """Return a whole page.

    Args:
        template: Name of a template of this package.
        values: What it shows.
    """
    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        figure=figure, signed=signed, span=span, difference_span=difference_span, points=points, thousands=thousands,
        share=share, tally=tally, seconds=lambda value: f"{value:,.1f}", draw_share=draw_share,
    )  # fmt: skip
    environment.globals.update(draw_effect=draw_effect)
    style, script = _source("style.css"), _source("script.js")
    return environment.get_template(template).render(
        version=mernas.__version__,
        style=Markup(style),  # noqa: S704  # this package's own file
        script=Markup(script),  # noqa: S704  # this package's own file
        style_hash=_hashed(style),
        script_hash=_hashed(script),
        **values,
    )


def embed(data: Mapping[str, Any]) -> Markup:
    r"""Return plain data as JSON that no name in it can end, for an element `script` of type application/json.

    Example:
        >>> print(embed({"name": "</script>"}))
        {"name":"\u003c/script\u003e"}
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704  # what could end the element was escaped above


def tally(value: float) -> str:
    """Return a number of clips that may be a mean over repetitions.

    Example:
        >>> tally(3.0), tally(2.5)
        ('3', '2.5')
    """
    return f"{value:.1f}".removesuffix(".0")


def _source(name: str) -> str:
    return resources.files("mernas.search.report").joinpath("templates", name).read_text(encoding="utf-8")


def _hashed(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
