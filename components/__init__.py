"""How each leaf of the taxonomy is built: one file per leaf, in folders that follow the survey's sections.

Importing this package registers every component: a new leaf is one new file in the right folder.
"""

from __future__ import annotations

import importlib
import pkgutil

# In the survey's order. `__path__` of a sub-package is the place to walk: an editable install hides the folders from
# a walk over `mernas.__path__`.
SECTIONS = ("datasets", "preprocessing", "inputs", "blocks", "topologies", "training", "losses", "classifiers")


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


load_all()
