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
    from mernas.evaluation.estimator import MernasClassifier
    from mernas.evaluation.model import Model
    from mernas.evaluation.model import load_model as load
    from mernas.search.audit import make_audit
    from mernas.search.evaluate import EvaluationResult, run_evaluation
    from mernas.search.export import export_model
    from mernas.search.finished import FinishedRun, open_run
    from mernas.search.run import SearchResult, load_data, run_search, write_report
    from mernas.space.errors import MernasError
    from mernas.space.genotype import Genotype, parse_genotype

__version__ = "0.1.0"

# Loaded when first asked for (PEP 562): `import mernas` must stay fast and import neither torch nor optuna.
_HOMES = {
    "EvaluationResult": "mernas.search.evaluate",
    "FinishedRun": "mernas.search.finished",
    "Genotype": "mernas.space.genotype",
    "MernasClassifier": "mernas.evaluation.estimator",
    "MernasError": "mernas.space.errors",
    "Model": "mernas.evaluation.model",
    "SearchResult": "mernas.search.run",
    "export_model": "mernas.search.export",
    "load": "mernas.evaluation.model",
    "load_data": "mernas.search.run",
    "make_audit": "mernas.search.audit",
    "open_run": "mernas.search.finished",
    "parse_genotype": "mernas.space.genotype",
    "run_evaluation": "mernas.search.evaluate",
    "run_search": "mernas.search.run",
    "write_report": "mernas.search.run",
}
_NAMES = {"load": "load_model"}

__all__ = [
    "EvaluationResult",
    "FinishedRun",
    "Genotype",
    "MernasClassifier",
    "MernasError",
    "Model",
    "SearchResult",
    "__version__",
    "export_model",
    "load",
    "load_data",
    "make_audit",
    "open_run",
    "parse_genotype",
    "run_evaluation",
    "run_search",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mernas' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), _NAMES.get(name, name))


def __dir__() -> list[str]:
    return sorted(__all__)
