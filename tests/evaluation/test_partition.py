"""Groups that cover the subjects once, follow from the clips alone, and refuse data that cannot be judged."""

import itertools
import re
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import sklearn
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from mernas.evaluation.partition import (
    Partition,
    check_classes,
    make_partition,
    partition_from_plain,
    read_partition,
)
from mernas.space.errors import DataError, PlanError, UnknownNameError
from mernas.space.yaml_text import dump_yaml

CLASSES = ("negative", "positive", "surprise")
FLOW = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "megc2019_flow" / "norm_u_v_os"


def composite(seed=0, counts=(("casme2", 24), ("samm", 28), ("smic", 16))):
    """Clips like those of a composite: subjects with 1 to 12 clips, more negative ones than others."""
    rng = np.random.default_rng(seed)
    keys, subjects, datasets, labels = [], [], [], []
    for dataset, count in counts:
        for subject in range(count):
            for clip in range(int(rng.integers(1, 13))):
                keys.append(f"{dataset}/{subject:02}/{clip:02}")
                subjects.append(f"{dataset}/{subject:02}")
                datasets.append(dataset)
                labels.append(int(rng.choice(3, p=[0.55, 0.25, 0.2])))
    return keys, subjects, datasets, np.array(labels, dtype=np.int64)


def groups_of(partition, subjects):
    """The number of the group of each clip."""
    return np.array([partition.group_of(subject) for subject in subjects])


@given(st.integers(0, 50), st.integers(3, 7), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_every_subject_is_in_one_group_and_no_group_is_empty(data_seed, groups, seed):
    keys, subjects, datasets, labels = composite(data_seed)
    partition = make_partition(keys, subjects, datasets, labels, CLASSES, groups, seed)
    assert len(partition) == groups
    assert all(partition.groups)
    assert sorted(itertools.chain(*partition.groups)) == sorted(set(subjects)) == list(partition.subjects)
    for number, group in enumerate(partition.groups):
        assert list(group) == sorted(group)
        assert all(partition.group_of(subject) == number for subject in group)
    for label in range(3):
        assert len(set(groups_of(partition, subjects)[labels == label].tolist())) >= 3


@given(st.integers(0, 20), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=15)
def test_the_groups_follow_from_the_clips_and_not_from_their_order(seed, random):
    keys, subjects, datasets, labels = composite(seed)
    order = list(range(len(keys)))
    random.shuffle(order)
    turned = [[column[row] for row in order] for column in (keys, subjects, datasets)]
    first = make_partition(keys, subjects, datasets, labels, CLASSES, 5, seed)
    assert make_partition(*turned, labels[order], CLASSES, 5, seed) == first


SHUFFLE_WORKS = tuple(map(int, sklearn.__version__.split(".")[:2])) >= (1, 8)


@pytest.mark.skipif(not SHUFFLE_WORKS, reason="StratifiedGroupKFold(shuffle=True) does not stratify before 1.8")
@pytest.mark.parametrize("seed", [0, 11, 4_000_000_000])
def test_the_groups_are_those_of_scikit_learn_on_sorted_clips(seed):
    keys, subjects, datasets, labels = composite(3)
    assert keys == sorted(keys)
    strata = [f"{dataset} {label}" for dataset, label in zip(datasets, labels, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        splits = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(keys, strata, subjects)
        wanted = tuple(tuple(sorted({subjects[row] for row in test})) for _, test in splits)
    assert make_partition(keys, subjects, datasets, labels, CLASSES, 5, seed).groups == wanted


def test_the_seed_decides_the_groups():
    data = composite(1)
    found = {make_partition(*data, CLASSES, 5, seed) for seed in range(10)}
    assert len(found) > 1


@pytest.mark.parametrize("seed", range(5))
def test_classes_and_datasets_are_spread_evenly(seed):
    keys, subjects, datasets, labels = composite(seed)
    numbers = groups_of(make_partition(keys, subjects, datasets, labels, CLASSES, 5, seed), subjects)
    for stratum, total in Counter(zip(datasets, labels.tolist(), strict=True)).items():
        dataset, label = stratum
        chosen = (np.array(datasets) == dataset) & (labels == label)
        shares = np.bincount(numbers[chosen], minlength=5) / total
        # Twice to half of its fair fifth at the outside, for subjects of up to 12 clips.
        assert shares.max() <= 0.45
        assert (np.bincount(numbers[labels == label], minlength=5) > 0).all()


def test_one_subject_per_group_is_the_textbook_case():
    keys, subjects, datasets, labels = composite(2)
    partition = make_partition(keys, subjects, datasets, labels, CLASSES, "subjects", seed=5)
    assert partition.groups == tuple((subject,) for subject in sorted(set(subjects)))
    assert make_partition(keys, subjects, datasets, labels, CLASSES, len(partition), seed=9) == partition


def test_subjects_with_a_single_clip_are_normal():
    subjects = [f"s/{i:02}" for i in range(12)]
    labels = np.array([0, 1] * 6)
    partition = make_partition(subjects, subjects, ["s"] * 12, labels, CLASSES[:2], 3, seed=0)
    numbers = groups_of(partition, subjects)
    assert np.bincount(numbers[labels == 0]).tolist() == [2, 2, 2]
    assert np.bincount(numbers[labels == 1]).tolist() == [2, 2, 2]


def test_scikit_learn_never_warns_through():
    keys = [f"s/{i}/{j}" for i in range(8) for j in range(3)]
    subjects = [key[:3] for key in keys]
    labels = np.array([0] * 21 + [1] * 3)
    labels[[0, 3]] = 1  # class 1 in three subjects
    datasets = ["s"] * 24
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_partition(keys, subjects, datasets, labels, CLASSES[:2], 6, seed=0)


def test_all_mistakes_are_told_at_once():
    with pytest.raises(PlanError) as caught:
        make_partition(["s/1/a", "s/1/a"], ["s/1", "s/1"], ["s", "s"], np.array([0, 1]), CLASSES, groups=2, seed=-1)
    text = str(caught.value)
    assert "keys must be unique, found s/1/a" in text
    assert "--groups: must be at least 3, found 2" in text
    assert "found 2 groups and 1 subjects" in text
    assert "--seed: must be from 0 to 4294967295, found -1" in text
    assert re.search(r'class "negative": must occur in at least 3 groups.*found it in s/1', text)
    assert re.search(r'class "surprise": must occur in at least 3 groups.*found no clip of it', text)
    assert len(caught.value.problems) == 7


def test_groups_without_a_class_big_enough_to_spread_are_refused_in_our_words():
    subjects = [f"{dataset}/{i}" for dataset in "abc" for i in range(4)]
    labels = np.array([0, 0, 1, 1] * 3)  # two clips of each class in each dataset
    datasets = [subject[0] for subject in subjects]
    with pytest.raises(PlanError, match="--groups: needs a class that has a clip per group within one dataset"):
        make_partition(subjects, subjects, datasets, labels, CLASSES[:2], 5, seed=0)
    assert len(make_partition(subjects, subjects, datasets, labels, CLASSES[:2], "subjects", seed=0)) == 12


def test_a_class_in_two_groups_is_refused_with_where_it_occurs():
    partition = Partition((("s/1", "s/4"), ("s/2",), ("s/3",)))
    subjects, labels = ["s/1", "s/2", "s/3", "s/1", "s/2", "s/4"], np.array([0, 0, 0, 1, 1, 1])
    with pytest.raises(PlanError) as caught:
        check_classes(partition, subjects, labels, CLASSES[:2])
    (problem,) = caught.value.problems
    assert str(problem).startswith(
        'class "positive": must occur in at least 3 groups, or no study is started, '
        'found it in group "0", "1" alone (s/1, s/2, s/4).'
    )


@given(st.lists(st.integers(0, 2), min_size=9, max_size=30), st.integers(3, 5), st.integers(0, 10))
@settings(deadline=None, max_examples=60)
def test_either_every_class_is_in_three_groups_or_the_plan_is_refused(labels, groups, seed):
    subjects = [f"s/{row // 2:02}" for row in range(len(labels))]
    keys = [f"{subject}/{row}" for row, subject in enumerate(subjects)]
    numbers = np.array(labels, dtype=np.int64)
    assume(len(set(subjects)) >= groups)
    try:
        partition = make_partition(keys, subjects, ["s"] * len(keys), numbers, CLASSES, groups, seed)
    except PlanError:
        return
    for label in range(3):
        homes = {subject for subject, own in zip(subjects, labels, strict=True) if own == label}
        assert sum(bool(homes & set(group)) for group in partition.groups) >= 3


def test_labels_without_a_class_and_columns_of_another_length_are_refused():
    with pytest.raises(DataError, match="labels: must be class numbers from 0 to 2"):
        make_partition(["a"], ["a"], ["a"], np.array([3]), CLASSES, 3, seed=0)
    with pytest.raises(DataError, match="datasets: must be 1, one per clip, found 0"):
        make_partition(["a"], ["a"], [], np.array([0]), CLASSES, 3, seed=0)


def test_an_unknown_subject_has_no_group():
    with pytest.raises(UnknownNameError, match='Did you mean "s/10"'):
        Partition((("s/10",), ("s/2",))).group_of("s/100")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((("a",), ()), 'group "1": must have a subject'),
        ((("b", "a"),), 'group "0": must be sorted, found b, a'),
        ((("a",), ("a", "b")), 'subject a: must stand in one group once, found it in group "0", "1"'),
        ((("a", "a"),), 'found it in group "0", "0"'),
    ],
)
def test_groups_that_are_no_partition_are_refused(groups, message):
    with pytest.raises(PlanError, match=message):
        Partition(groups)


SUBJECTS, LABELS = ["s/1", "s/2", "s/3", "s/4"] * 2, np.array([0, 0, 0, 0, 1, 1, 1, 1])


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_partition_survives_its_file(tmp_path, wrapped):
    partition = Partition((("s/2", "s/4"), ("s/3",), ("s/1",)))
    plain = partition.to_plain()
    path = tmp_path / "plan.yaml"
    path.write_text(dump_yaml({"seed": 3, "partition": plain} if wrapped else plain), encoding="utf-8")
    assert read_partition(path, SUBJECTS, LABELS, CLASSES[:2]) == partition


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path):
    path = tmp_path / "groups.yaml"
    path.write_text("- [s/1, s/2]\n- [s/2, s/9]\n- []\n", encoding="utf-8")
    with pytest.raises(PlanError) as caught:
        read_partition(path, SUBJECTS, LABELS, CLASSES[:2])
    text = str(caught.value)
    assert "must hold every subject of the data, found none of s/3, s/4" in text
    assert "must hold subjects of the data only, found s/9" in text
    assert 'subject s/2: must stand in one group once, found it in group "0", "1"' in text
    assert 'group "2": must have a subject' in text
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups: 3", "must be a list of groups, each a list of subjects, found dict"),
        ("- s/1\n- s/2", "must be a list of groups"),
        ("- [1, 2]", "must be a list of groups"),
        ("- [s/1, s/2]\n- [s/3, s/4]", "must have at least 3 groups, found 2"),
        ("- [s/1", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_partition_is_refused(tmp_path, text, message):
    path = tmp_path / "groups.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PlanError, match=message):
        read_partition(path, SUBJECTS, LABELS, CLASSES[:2])


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(PlanError, match="cannot be read"):
        read_partition(tmp_path / "none.yaml", SUBJECTS, LABELS, CLASSES[:2])


def test_a_file_whose_groups_lack_a_class_is_refused():
    with pytest.raises(PlanError, match=r'class "positive".*found it in group "0", "1" alone'):
        partition_from_plain(
            [["s/1", "s/4"], ["s/2"], ["s/3"]],
            [*SUBJECTS[:4], "s/1", "s/2", "s/4"],
            np.array([0, 0, 0, 0, 1, 1, 1]),
            CLASSES[:2],
        )


@pytest.mark.skipif(not FLOW.is_dir(), reason="the public flow images of MEGC2019 are not beside the project")
def test_the_default_groups_of_the_megc2019_composite_hold_every_class_of_every_dataset():
    keys, subjects, datasets, labels = [], [], [], []
    for path in sorted(FLOW.glob("*/u_test/*/*")):
        name = path.relative_to(FLOW).parts[0]
        dataset = "casme2" if name.startswith("sub") else "smic" if name.startswith("s") else "samm"
        keys.append(f"{dataset}/{name}/{path.name}")
        subjects.append(f"{dataset}/{name}")
        datasets.append(dataset)
        labels.append(int(path.parent.name))
    assert (len(keys), len(set(subjects))) == (442, 68)
    numbers = groups_of(make_partition(keys, subjects, datasets, np.array(labels), CLASSES, 5, seed=0), subjects)
    found = Counter(zip(datasets, labels, numbers.tolist(), strict=True))
    assert len(found) == 3 * 3 * 5
