"""The tree-structured Parzen estimator: Bergstra et al. 2011, as Optuna has it for conditional spaces and two aims."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import optuna

from mernas.search.samplers import Moment


def make_tpe(moment: Moment, settings: Mapping[str, Any]) -> optuna.samplers.TPESampler:
    """Return the sampler of one batch, its own random start-up switched off by the settings."""
    with warnings.catch_warnings():
        # `group` has been marked experimental since Optuna 2.8; the version is pinned and its behaviour tested.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=moment.seed, **settings)
