"""Composites: clips of several datasets in one, told apart, offering what all of them offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.composite import join
from mernas.components.datasets.synthetic import Synthetic
from mernas.space.errors import DataError
from mernas.space.taxonomy import GIVEN_FLOW


def test_a_composite_holds_every_clip_with_its_own_label_and_the_common_capabilities(
    toy: Callable[..., Dataset],
) -> None:
    made_up = Synthetic(subjects=3, clips=3).load()
    own = replace(toy(), provides=frozenset({GIVEN_FLOW, *made_up.provides}))
    both = join([own, made_up])
    assert len(both) == len(own) + len(made_up)
    labels = {**own.annotations["emotion"], **made_up.annotations["emotion"]}
    assert dict(both.annotations["emotion"]) == labels
    assert both.provides == made_up.provides
    assert set(both.subjects) == set(own.subjects) | set(made_up.subjects)
    assert both.name == join([made_up, own]).name == "synthetic+toy"
    assert both.fingerprint == join([made_up, own]).fingerprint


def test_a_clip_that_occurs_twice_and_other_classes_are_told_together(toy: Callable[..., Dataset]) -> None:
    other = replace(toy(), classes=("surprise", "positive", "negative"))
    with pytest.raises(DataError) as error:
        join([toy(), other])
    assert len(error.value.problems) == 2
