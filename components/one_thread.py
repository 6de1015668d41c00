"""One thread for linear algebra, whose last bits depend on how many share the work."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


def one_thread(user_api: str | None = None) -> AbstractContextManager[object]:
    """Return a context in which the numeric libraries of this process use one thread.

    Args:
        user_api: `blas` for linear algebra alone; by default all that threadpoolctl knows, OpenMP included.

    Example:
        >>> import numpy as np
        >>> with one_thread("blas"):
        ...     round(float(np.ones(3) @ np.ones(3)))
        3
    """
    limits: AbstractContextManager[object] = _libraries(len(sys.modules)).limit(limits=1, user_api=user_api)
    return limits


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """Look for the libraries, which takes milliseconds, as often as a fit of a small classifier.

    A library comes with a module, so it is enough to look again when there are more of them.
    """
    return ThreadpoolController()
