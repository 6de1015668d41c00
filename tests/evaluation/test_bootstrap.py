"""The bootstrap against a naive loop written from the module's description, and against cases with known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, recall_score

from mernas.evaluation.bootstrap import (
    deviation,
    difference_interval,
    draw_resamples,
    interval,
    resampled,
)
from mernas.evaluation.metrics import MISSING
from mernas.space.errors import DataError


def outside_resamples(rng, subjects, datasets, labels, classes, resamples):
    """What somebody writes who has read the description only: lists of clips, no counts, no matrices."""
    members = {}
    for subject, dataset in zip(subjects, datasets, strict=True):
        members.setdefault(dataset, set()).add(subject)
    drawn, redrawn = [], 0
    while len(drawn) < resamples:
        clips = []
        for dataset in sorted(members):
            known = sorted(members[dataset])
            for place in rng.integers(0, len(known), size=len(known)):
                clips += [row for row, subject in enumerate(subjects) if subject == known[place]]
        if len({labels[row] for row in clips}) == classes:
            drawn.append(clips)
        else:
            redrawn += 1
    return drawn, redrawn


def outside_figure(statistic, labels, predictions, classes):
    theirs = np.where(predictions == MISSING, classes, predictions)
    options = {"labels": list(range(classes)), "average": "macro", "zero_division": 0}
    if statistic == "accuracy":
        return accuracy_score(labels, theirs)
    return (f1_score if statistic == "uf1" else recall_score)(labels, theirs, **options)


def small_data(seed, classes=3):
    """Two datasets whose names sort otherwise than their subjects would by themselves, and uneven subjects."""
    rng = np.random.default_rng(seed)
    subjects, datasets = [], []
    for dataset, count in (("flow", 4), ("flow-2", 3)):
        for subject in range(count):
            clips = int(rng.integers(1, 4))
            subjects += [f"{dataset}/{subject}"] * clips
            datasets += [dataset] * clips
    labels = rng.integers(0, classes, size=len(subjects))
    labels[:classes] = range(classes)
    predictions = np.where(rng.random(len(labels)) < 0.6, labels, rng.integers(MISSING, classes, size=len(labels)))
    order = rng.permutation(len(labels))
    return labels[order], predictions[order], [subjects[i] for i in order], [datasets[i] for i in order]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("statistic", ["uf1", "uar", "accuracy"])
def test_intervals_equal_those_of_an_outside_script(seed, statistic):
    labels, predictions, subjects, datasets = small_data(seed)
    wanted, redrawn = outside_resamples(np.random.default_rng([seed, 4]), subjects, datasets, labels, 3, 60)
    figures = [outside_figure(statistic, labels[clips], predictions[clips], 3) for clips in wanted]
    drawn = draw_resamples(subjects, datasets, labels, 3, seed, resamples=60)
    assert drawn.redrawn == redrawn
    assert resampled(statistic, labels, predictions, subjects, drawn) == pytest.approx(figures)
    ordered = sorted(figures)  # linear interpolation between order statistics, by hand
    for end, share in zip(interval(statistic, labels, predictions, subjects, drawn), (0.025, 0.975), strict=True):
        place = share * 59
        low = int(place)
        assert end == pytest.approx(ordered[low] + (place - low) * (ordered[low + 1] - ordered[low]))


@pytest.mark.parametrize("study", [0, 3])
def test_the_deviation_of_a_study_equals_that_of_an_outside_script(study):
    labels, predictions, subjects, datasets = small_data(11)
    rng = np.random.default_rng([7, 5, study])
    wanted, _ = outside_resamples(rng, subjects, datasets, labels, 3, 80)
    figures = [outside_figure("uf1", labels[clips], predictions[clips], 3) for clips in wanted]
    mean = sum(figures) / 80
    by_hand = (sum((figure - mean) ** 2 for figure in figures) / 79) ** 0.5
    ours = deviation(labels, predictions, subjects, datasets, 3, seed=7, study=study, resamples=80)
    assert ours == pytest.approx(by_hand)
    assert ours > 0


def test_studies_and_seeds_draw_different_resamples():
    labels, predictions, subjects, datasets = small_data(11)
    found = {
        deviation(labels, predictions, subjects, datasets, 3, seed, study, resamples=50)
        for seed in range(3)
        for study in range(3)
    }
    assert len(found) == 9


def test_each_dataset_keeps_its_number_of_subjects():
    labels, _, subjects, datasets = small_data(5)
    drawn = draw_resamples(subjects, datasets, labels, 3, seed=1, resamples=200)
    assert drawn.subjects == tuple(f"flow/{i}" for i in range(4)) + tuple(f"flow-2/{i}" for i in range(3))
    assert (drawn.multiplicity[:, :4].sum(axis=1) == 4).all()
    assert (drawn.multiplicity[:, 4:].sum(axis=1) == 3).all()


def test_a_resample_without_some_class_is_redrawn_and_counted():
    subjects, datasets = ["s/1", "s/2", "s/3"], ["s"] * 3
    drawn = draw_resamples(subjects, datasets, np.array([0, 1, 2]), 3, seed=3, resamples=300)
    # All three subjects are needed: 6 of 27 draws have them, so 3.5 redraws are expected per resample.
    assert (drawn.multiplicity == 1).all()
    assert 850 < drawn.redrawn < 1250
    common = draw_resamples(subjects * 3, datasets * 3, np.repeat([0, 1, 2], 3), 3, seed=3, resamples=300)
    assert common.redrawn == 0


def test_one_subject_leaves_nothing_to_resample():
    labels, predictions, subjects = np.array([0, 1, 1]), np.array([0, 1, 0]), ["s/1"] * 3
    drawn = draw_resamples(subjects, ["s"] * 3, labels, 2, seed=0)
    assert interval("accuracy", labels, predictions, subjects, drawn) == pytest.approx((2 / 3, 2 / 3))
    spread = deviation(labels, predictions, subjects, ["s"] * 3, 2, seed=0, study=1)
    assert spread == pytest.approx(0.0, abs=1e-12)  # the mean of 1,000 equal figures is rounded


@pytest.mark.parametrize("statistic", ["uf1", "uar", "accuracy"])
def test_perfect_predictions_have_an_interval_of_one_to_one(statistic):
    labels, _, subjects, datasets = small_data(2)
    drawn = draw_resamples(subjects, datasets, labels, 3, seed=0)
    assert interval(statistic, labels, labels, subjects, drawn) == (1.0, 1.0)
    assert interval(statistic, labels, np.full(len(labels), MISSING), subjects, drawn) == (0.0, 0.0)


def test_the_interval_of_many_alike_subjects_is_the_normal_one():
    # 400 subjects of one clip, 70% right: the interval of a proportion, 0.7 -+ 1.96 sqrt(0.7 * 0.3 / 400).
    labels = np.zeros(400, dtype=np.int64)
    predictions = np.where(np.arange(400) < 280, 0, MISSING)
    subjects = [f"s/{i:03}" for i in range(400)]
    drawn = draw_resamples(subjects, ["s"] * 400, labels, 1, seed=0)
    assert interval("accuracy", labels, predictions, subjects, drawn) == pytest.approx((0.6551, 0.7449), abs=0.008)
    # F1 of the only class is 2p / (1 + p) for a recall of p: the delta method gives its standard error.
    spread = deviation(labels, predictions, subjects, ["s"] * 400, 1, seed=0, study=0)
    assert spread == pytest.approx(2 / 1.7**2 * (0.7 * 0.3 / 400) ** 0.5, rel=0.08)


@given(st.integers(0, 1000), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=25)
def test_the_order_of_the_clips_does_not_matter(seed, random):
    labels, predictions, subjects, datasets = small_data(seed)
    order = list(range(len(labels)))
    random.shuffle(order)
    turned = [subjects[i] for i in order], [datasets[i] for i in order]
    first = draw_resamples(subjects, datasets, labels, 3, seed, resamples=30)
    second = draw_resamples(*turned, labels[order], 3, seed, resamples=30)
    assert first.subjects == second.subjects
    assert (first.multiplicity == second.multiplicity).all()
    assert interval("uf1", labels, predictions, subjects, first) == interval(
        "uf1", labels[order], predictions[order], turned[0], second
    )


def test_a_difference_is_taken_within_each_resample():
    labels, predictions, subjects, datasets = small_data(4)
    other = np.roll(predictions, 1)
    drawn = draw_resamples(subjects, datasets, labels, 3, seed=9, resamples=50)
    clips = []
    for multiplicity in drawn.multiplicity.tolist():
        times = dict(zip(drawn.subjects, multiplicity, strict=True))
        clips.append([row for row, subject in enumerate(subjects) for _ in range(times[subject])])
    gaps = [
        outside_figure("uf1", labels[rows], predictions[rows], 3) - outside_figure("uf1", labels[rows], other[rows], 3)
        for rows in clips
    ]
    wanted = tuple(np.quantile(gaps, [0.025, 0.975]))
    assert difference_interval("uf1", labels, predictions, other, subjects, drawn) == pytest.approx(wanted)
    assert difference_interval("uf1", labels, predictions, predictions, subjects, drawn) == (0.0, 0.0)


def test_repetitions_are_averaged_in_each_resample_and_never_pooled():
    labels, predictions, subjects, datasets = small_data(6)
    other = np.where(predictions == MISSING, 0, predictions)
    drawn = draw_resamples(subjects, datasets, labels, 3, seed=2, resamples=40)
    both = resampled("uf1", labels, np.stack([predictions, other]), subjects, drawn)
    single = [resampled("uf1", labels, each, subjects, drawn) for each in (predictions, other)]
    assert both == pytest.approx((single[0] + single[1]) / 2)
    assert (single[0] != single[1]).any()


def test_the_resamples_of_a_run_cannot_be_changed():
    drawn = draw_resamples(["s/1", "s/2"], ["s"] * 2, np.array([0, 0]), 1, seed=0)
    assert drawn.multiplicity.shape == (2000, 2)
    with pytest.raises(ValueError, match="read-only"):
        drawn.multiplicity[0, 0] = 5


def test_a_class_without_clips_and_a_subject_of_two_datasets_are_refused_together():
    with pytest.raises(DataError) as caught:
        draw_resamples(["s/1", "s/1", "s/2"], ["s", "t", "s"], np.array([0, 2, 0]), 3, seed=0)
    assert len(caught.value.problems) == 2
    assert "s/1" in str(caught.value)
    assert "none of class 1" in str(caught.value)


def test_resamples_of_other_subjects_are_refused():
    drawn = draw_resamples(["s/1", "s/2"], ["s"] * 2, np.array([0, 0]), 1, seed=0)
    with pytest.raises(DataError) as caught:
        interval("uf1", np.array([0, 0]), np.array([0, 0]), ["s/1", "s/3"], drawn)
    assert "none of s/3" in str(caught.value)
    assert "none of s/2" in str(caught.value)


def test_wrong_lengths_are_refused():
    with pytest.raises(DataError, match="subjects: must be 2"):
        draw_resamples(["s/1"], ["s", "s"], np.array([0, 0]), 1, seed=0)
