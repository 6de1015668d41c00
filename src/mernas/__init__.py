"""mernas: finds the best micro-expression recognition pipeline for your data and proves that the score is honest.

This package is the front door. The house behind it is four folders at the top of the repository: `space` (what can be
built), `components` (how each leaf is built), `evaluation` (whether it works) and `search` (which is best).
"""

from __future__ import annotations

__version__ = "0.1.0"
