"""Composites: clips of several datasets in one, told apart, offering what all of them offer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest

from mernas.components.datasets.clip import Dataset
from mernas.components.datasets.composite import join
from mernas.components.datasets.synthetic import Synthetic
from mernas.space.errors import DataError
from mernas.space.taxonomy import GIVEN_FLOW, SOURCE


def test_a_composite_holds_every_clip_with_its_own_label_and_the_common_capabilities(
    toy: Callable[..., Dataset],
) -> None:
    made_up = Synthetic(subjects=3, clips=3).load()
    own = replace(toy(), provides=frozenset({GIVEN_FLOW, *made_up.provides}))
    both = join([own, made_up])
    assert len(both) == len(own) + len(made_up)
    labels = {**own.annotations["emotion"], **made_up.annotations["emotion"]}
    assert dict(both.annotations["emotion"]) == labels
    assert both.provides == made_up.provides - {SOURCE}  # the toy has no source, whatever it says
    assert both.source is None
    assert set(both.subjects) == set(own.subjects) | set(made_up.subjects)
    assert both.name == join([made_up, own]).name == "synthetic+toy"
    assert both.fingerprint == join([made_up, own]).fingerprint


def test_a_clip_that_occurs_twice_and_other_classes_are_told_together(toy: Callable[..., Dataset]) -> None:
    other = replace(toy(), classes=("surprise", "positive", "negative"))
    with pytest.raises(DataError) as error:
        join([toy(), other])
    assert len(error.value.problems) == 2


def test_sources_are_joined_only_if_every_part_has_one(toy: Callable[..., Dataset]) -> None:
    made_up = Synthetic(subjects=2, clips=2, macro_subjects=2, macro_clips=2).load()
    assert made_up.source is not None
    strangers = toy(subjects=1, clips=3, seed=1)
    renamed = [replace(clip, key=f"other/{clip.key}", subject=f"other/{clip.subject}") for clip in strangers]
    rows = strangers.annotations.set_index(pd.Index([clip.key for clip in renamed], name="clip"))
    other_source = replace(strangers, name="other", clips=tuple(renamed), annotations=rows)
    both = join([replace(toy(), source=other_source, provides=frozenset({GIVEN_FLOW, SOURCE})), made_up])
    assert both.provides == {SOURCE}
    assert both.source is not None
    assert {clip.key for clip in both.source} == {clip.key for clip in (*other_source, *made_up.source)}
    assert SOURCE not in both.source.provides
    emotions = {**other_source.annotations["emotion"], **made_up.source.annotations["emotion"]}
    assert dict(both.source.annotations["emotion"]) == emotions

    without = join([replace(toy(), provides=frozenset({GIVEN_FLOW})), made_up])
    assert without.source is None
    assert SOURCE not in without.provides


def test_a_source_that_shows_people_of_another_part_is_refused(toy: Callable[..., Dataset]) -> None:
    made_up = Synthetic(subjects=2, clips=2, macro_subjects=1, macro_clips=1).load()
    assert made_up.source is not None
    own_source = replace(made_up.source, name="twin")
    with pytest.raises(DataError, match="other people"):
        join([replace(made_up.source, source=toy()), replace(toy(), name="third", source=own_source)])


def test_a_recording_under_two_subjects_is_refused_for_it_would_be_trained_on_and_tested(
    toy: Callable[..., Dataset],
) -> None:
    data = toy(subjects=2, clips=3)
    again = [replace(clip, key=f"twin/{clip.key}", subject=f"twin/{clip.subject}") for clip in data.clips]
    rows = data.annotations.set_index(pd.Index([clip.key for clip in again], name="clip"))
    twin = replace(data, name="twin", clips=tuple(again), annotations=rows)
    with pytest.raises(DataError) as error:
        join([data, twin])
    assert "one recording must belong to one subject" in str(error.value)
    assert f"{data.clips[0].key} and {again[0].key}" in str(error.value)
    assert "and 3 more" in str(error.value)

    learned = [
        replace(clip, fingerprint=f"{number}", recording=data.clips[0].fingerprint)
        for number, clip in enumerate(again[:1])
    ]
    source = replace(twin, clips=tuple(learned), annotations=rows.iloc[:1])
    with pytest.raises(DataError, match="must be of other recordings"):
        replace(data, source=source)


def test_two_datasets_of_one_name_must_have_different_people(toy: Callable[..., Dataset]) -> None:
    def named(seed: int, clip_name: str, name: str) -> Dataset:
        data = toy(subjects=1, clips=3, seed=seed)
        clips = [replace(clip, key=f"{clip.key}{clip_name}", dataset="toy0") for clip in data.clips]
        rows = data.annotations.set_index(pd.Index([clip.key for clip in clips], name="clip"))
        return replace(data, name=name, clips=tuple(clips), annotations=rows)

    with pytest.raises(DataError, match="two datasets are called toy0"):
        join([named(0, "a", "toy0"), named(1, "b", "toy0")])
    assert len(join([named(0, "a", "one"), named(1, "b", "one")])) == 6  # their clips name the dataset themselves


def test_clips_of_a_dataset_called_all_are_refused_whoever_made_them() -> None:
    data = Synthetic(subjects=2, clips=2, macro_subjects=0).load()
    with pytest.raises(DataError, match=r'dataset: must not be "all", .* found all in 4 clips'):
        replace(data, clips=tuple(replace(clip, dataset="all") for clip in data))
