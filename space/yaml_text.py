"""YAML 1.2 in and out: `1e-3` is a number, `off` a string, duplicate keys an error, and nothing can run code."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mernas.space.errors import Problem, SpaceError


def load_yaml(text: str, subject: str = "YAML") -> Any:
    """Return the plain data of one YAML document.

    Args:
        text: The document.
        subject: What messages call it, usually the file's name.

    Raises:
        SpaceError: If it is not YAML; the message has line and column.

    Example:
        >>> load_yaml("{rate: 1e-3, schedule: off}")
        {'rate': 0.001, 'schedule': 'off'}
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        raise SpaceError(Problem(subject, "is nested too deeply", "", "correct the file")) from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        detail = getattr(error, "problem", None) or str(error).strip().partition("\n")[0]
        raise SpaceError(Problem(subject, "is not valid YAML", f"{where}{detail}", "correct the file")) from None


def is_file(name: str | Path) -> bool:
    """Return whether a name is that of a file; a name that no file can have is none.

    Example:
        >>> is_file("x" * 5000)
        False
    """
    try:
        return Path(name).is_file()
    except (OSError, ValueError):
        return False


def read_yaml(path: Path) -> Any:
    """Return the plain data of a YAML file.

    Raises:
        SpaceError: If the file cannot be read or is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SpaceError(Problem(str(path), "cannot be read", reason or type(error).__name__)) from None
    return load_yaml(text, str(path))


def dump_yaml(data: Any) -> str:
    """Return block-style YAML of plain data, keys in the order given.

    Example:
        >>> print(dump_yaml({"flip": {}, "hidden": [64]}), end="")
        flip: {}
        hidden:
        - 64
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel types it as None
    yaml.width = 110
    stream = io.StringIO()
    yaml.dump(data, stream)
    return stream.getvalue()
