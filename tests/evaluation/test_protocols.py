"""Folds that cannot leak, and LOSO against scikit-learn's LeaveOneGroupOut."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import LeaveOneGroupOut

from mernas.evaluation.protocols import PROTOCOLS, Fold, loso, protocol
from mernas.space.errors import CustodyError, DataError, UnknownNameError


@given(st.lists(st.sampled_from(["a/1", "a/2", "b/1", "b/10", "b/2"]), min_size=2, max_size=30))
@settings(deadline=None)
def test_loso_equals_leave_one_group_out(subjects):
    if len(set(subjects)) < 2:
        with pytest.raises(DataError, match="at least two subjects, found 1"):
            loso(subjects)
        return
    folds = loso(subjects)
    theirs = list(LeaveOneGroupOut().split(np.zeros(len(subjects)), groups=subjects))
    assert [fold.name for fold in folds] == sorted(set(subjects))
    for fold, (train, test) in zip(folds, theirs, strict=True):
        assert fold.train.tolist() == train.tolist()
        assert fold.test.tolist() == test.tolist()


def test_a_fold_that_tests_a_training_subject_is_refused_by_name():
    with pytest.raises(CustodyError, match="found a/1"):
        Fold("x", np.array([0]), np.array([1]), ["a/1", "a/1"])


def test_a_fold_that_tests_a_training_clip_is_refused_with_the_clip_and_its_subject():
    with pytest.raises(CustodyError, match=r"clip that it tests, found \[1\](.|\n)*subject that it tests, found a/2"):
        Fold("x", np.array([0, 1]), np.array([1]), ["a/1", "a/2"])


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([], [1], "needs a training clip"),
        ([0], [], "needs a test clip"),
        ([1, 0], [2], "ascending numbers of training clips from 0 to 2"),
        ([0, 0], [2], "ascending numbers of training clips"),
        ([0], [3], "ascending numbers of test clips"),
        ([-1, 0], [2], "ascending numbers of training clips"),
    ],
)
def test_rows_that_cannot_be_a_fold_are_refused(train, test, message):
    with pytest.raises(DataError, match=message):
        Fold("x", np.array(train, dtype=np.int64), np.array(test, dtype=np.int64), ["a/1", "a/2", "a/3"])


def test_a_protocol_is_found_by_name_and_an_unknown_one_answered_with_the_nearest():
    assert protocol("loso") is PROTOCOLS["loso"] is loso
    with pytest.raises(UnknownNameError, match='Did you mean "loso"'):
        protocol("losso")
