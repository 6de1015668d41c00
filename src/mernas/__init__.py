"""mernas: finds the best micro-expression recognition pipeline for your data and proves that the score is honest.

This package is the front door. The house behind it is four folders at the top of the repository: `space` (what can be
built), `components` (how each leaf is built), `evaluation` (whether it works) and `search` (which is best).

Example:
    >>> import mernas
    >>> data = mernas.load_data("synthetic")
    >>> data.classes
    ('negative', 'positive', 'surprise')
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mernas.search.evaluate import EvaluationResult, run_evaluation
    from mernas.search.run import SearchResult, load_data, run_search
    from mernas.space.errors import MernasError
    from mernas.space.genotype import Genotype, parse_genotype

__version__ = "0.1.0"

# Loaded when first asked for (PEP 562): `import mernas` must stay fast and import neither torch nor optuna.
_HOMES = {
    "EvaluationResult": "mernas.search.evaluate",
    "Genotype": "mernas.space.genotype",
    "MernasError": "mernas.space.errors",
    "SearchResult": "mernas.search.run",
    "load_data": "mernas.search.run",
    "parse_genotype": "mernas.space.genotype",
    "run_evaluation": "mernas.search.evaluate",
    "run_search": "mernas.search.run",
}

__all__ = [
    "EvaluationResult",
    "Genotype",
    "MernasError",
    "SearchResult",
    "__version__",
    "load_data",
    "parse_genotype",
    "run_evaluation",
    "run_search",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mernas' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
