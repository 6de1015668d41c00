"""How each leaf of the taxonomy is built: one file per leaf, in folders that follow the survey's sections.

Importing this package registers every component, at the first question to the registry and not before, because that
imports torch. A new leaf is one new file in the right folder.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil

from mernas.space.errors import Problem, UnavailableError, raise_all
from mernas.space.registry import REGISTRY

# In the survey's order. `__path__` of a sub-package is the place to walk: an editable install hides the folders from
# a walk over `mernas.__path__`.
SECTIONS = ("datasets", "preprocessing", "inputs", "blocks", "topologies", "training", "losses", "classifiers")


ENTRY_POINTS = "mernas.components"
"""Packages of third parties name the modules that register their components under this group of entry points."""


def load_third_parties() -> tuple[str, ...]:
    """Import what installed packages name as modules of components; return their names, sorted.

    Raises:
        UnavailableError: If one of them cannot be imported: a search without it would be another search.
    """
    problems: list[Problem | str] = []
    points = sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda point: point.name)
    for point in points:
        try:
            point.load()
        except Exception as error:  # whatever a stranger's module does wrong is told, and in whose name
            package = point.dist.name if point.dist is not None else "an unknown package"
            rule = f"its components ({point.value}) cannot be loaded"
            found = f"{type(error).__name__}: {error}"
            problems.append(Problem(f'package "{package}"', rule, found, "repair it or uninstall it"))
    raise_all(UnavailableError, problems)
    return tuple(point.name for point in points)


def load_all() -> tuple[str, ...]:
    """Import every leaf and return the module names, sorted.

    Example:
        >>> "mernas.components.blocks.convolution" in load_all()
        True
    """
    names: list[str] = []
    for section in SECTIONS:
        package = importlib.import_module(f"mernas.components.{section}")
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
            names.append(module.name)
    return tuple(sorted(names))


def _register_all() -> None:
    load_all()
    load_third_parties()


REGISTRY.fill_from(_register_all)
