"""Scores against scikit-learn, which has its own formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, recall_score

from mernas.evaluation.metrics import (
    MISSING,
    accuracy,
    check_lengths,
    count,
    score,
    score_parts,
    uar,
    uf1,
)
from mernas.space.errors import DataError


@st.composite
def predicted_clips(draw, missing=True, least=1):
    classes = draw(st.integers(least, 5))
    clips = draw(st.integers(1, 40))
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=clips, max_size=clips))
    lowest = MISSING if missing else 0
    predictions = draw(st.lists(st.integers(lowest, classes - 1), min_size=clips, max_size=clips))
    return np.array(labels, dtype=np.int64), np.array(predictions, dtype=np.int64), classes


def as_a_class_of_its_own(predictions, classes):
    """Missing predictions as a class beyond the last one, which scikit-learn is not asked about."""
    return np.where(predictions == MISSING, classes, predictions)


@given(predicted_clips())
@settings(deadline=None)
def test_scores_equal_those_of_scikit_learn_with_all_labels_passed(clips):
    labels, predictions, classes = clips
    theirs = as_a_class_of_its_own(predictions, classes)
    options = {"labels": list(range(classes)), "zero_division": 0}
    assert count(labels, predictions, classes).f1() == pytest.approx(f1_score(labels, theirs, average=None, **options))
    assert uf1(labels, predictions, classes) == pytest.approx(f1_score(labels, theirs, average="macro", **options))
    assert uar(labels, predictions, classes) == pytest.approx(recall_score(labels, theirs, average="macro", **options))
    assert accuracy(labels, predictions, classes) == pytest.approx(accuracy_score(labels, theirs))


@given(predicted_clips())
@settings(deadline=None)
def test_counts_are_those_of_the_confusion_matrix(clips):
    labels, predictions, classes = clips
    theirs = as_a_class_of_its_own(predictions, classes)
    matrix = confusion_matrix(labels, theirs, labels=list(range(classes + 1)))
    counts = count(labels, predictions, classes)
    assert counts.hits.tolist() == np.diag(matrix)[:classes].tolist()
    assert counts.predicted.tolist() == matrix.sum(axis=0)[:classes].tolist()
    assert counts.actual.tolist() == matrix.sum(axis=1)[:classes].tolist()


@given(predicted_clips(missing=False, least=2))
@settings(deadline=None)
def test_uar_is_balanced_accuracy_where_every_class_occurs(clips):
    labels, predictions, classes = clips
    labels = np.concatenate([labels, np.arange(classes)])
    predictions = np.concatenate([predictions, np.zeros(classes, dtype=np.int64)])
    assert uar(labels, predictions, classes) == pytest.approx(balanced_accuracy_score(labels, predictions))


def test_a_failed_subject_is_a_miss_of_its_class_and_a_false_alarm_of_none():
    labels = np.array([0, 0, 1, 1])
    scores = score(labels, np.array([0, MISSING, 1, 1]), classes=2)
    # Class 0: one hit, one miss, no false alarm, F1 = 2 / 3; class 1 is untouched, though its clips could have been
    # falsely predicted.
    assert scores.f1 == pytest.approx((2 / 3, 1.0))
    assert scores.uf1 == pytest.approx(5 / 6)
    assert scores.uar == pytest.approx(0.75)
    assert scores.accuracy == 0.75
    assert (scores.clips, scores.failed) == (4, 1)


def test_uf1_pools_and_does_not_average_over_folds():
    # Each subject has one class, so that a mean over subjects would give a UF1 of 1/2 to perfect predictions.
    assert uf1(np.array([0, 1]), np.array([0, 1]), classes=2) == 1.0


def test_a_class_that_a_part_lacks_counts_as_zero_in_its_mean():
    scores = score(np.array([0, 1]), np.array([0, 1]), classes=3)
    assert scores.uf1 == pytest.approx(2 / 3)
    assert scores.uar == pytest.approx(2 / 3)
    assert scores.f1[2] == 0.0


@given(predicted_clips(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_parts_are_the_scores_of_their_own_clips(clips, random):
    labels, predictions, classes = clips
    groups = [random.choice(["smic", "casme2", "samm"]) for _ in labels]
    parts = score_parts(labels, predictions, groups, classes)
    assert list(parts) == sorted(set(groups))
    assert sum(part.clips for part in parts.values()) == len(labels)
    for name, part in parts.items():
        rows = [row for row, group in enumerate(groups) if group == name]
        theirs = as_a_class_of_its_own(predictions, classes)[rows]
        wanted = f1_score(labels[rows], theirs, labels=list(range(classes)), average="macro", zero_division=0)
        assert part.uf1 == pytest.approx(wanted)
        assert part.failed == (predictions[rows] == MISSING).sum()


def test_all_mistakes_in_labels_and_predictions_are_told_at_once():
    with pytest.raises(DataError) as caught:
        score(np.array([0, 3]), np.array([-2]), classes=3)
    text = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "shape (1,)" in text
    assert "found 0 to 3" in text
    assert "found -2 to -2" in text


@pytest.mark.parametrize(
    ("labels", "predictions", "rule"),
    [
        (np.array([], dtype=np.int64), np.array([], dtype=np.int64), "at least one clip"),
        (np.array([-1, 0]), np.array([0, 0]), "from 0 to 2"),
        (np.array([0, 1]), np.array([0, 3]), "from -1 to 2"),
        (np.array([0, 1]), np.array([0.0, 1.0]), "whole numbers"),
        (np.array([0, 1]), np.array([[0, 1]]), "one per clip"),
    ],
)
def test_what_is_no_label_or_prediction_is_refused(labels, predictions, rule):
    with pytest.raises(DataError, match=rule):
        score(labels, predictions, classes=3)


def test_columns_of_another_length_are_refused_by_name():
    with pytest.raises(DataError) as caught:
        check_lengths(2, subjects=["a"], datasets=["a", "b"], keys=[])
    assert [problem.subject for problem in caught.value.problems] == ["subjects", "keys"]


def test_an_unknown_statistic_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match="uf1, uar, accuracy"):
        count(np.array([0]), np.array([0]), 1).statistic("f1")
