"""Racing against a naive loop written from the module's description, and against cases with known answers."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from mernas.evaluation.racing import RACE_RESAMPLES, Look, beaten, may_judge, race_resamples
from mernas.space.errors import DataError

LOOK = Look(seed=7, study=2, genotype="0123456789abcdef", folds=3)


def outside_resamples(look, labels, subjects, datasets, classes):
    """What somebody writes who has read the description only: lists of clips, no counts, no matrices."""
    rng = np.random.default_rng([look.seed, 6, look.study, look.folds, int(look.genotype, 16)])
    members = {}
    for subject, dataset in zip(subjects, datasets, strict=True):
        members.setdefault(dataset, set()).add(subject)
    resamples, wanting = [None] * 1000, list(range(1000))
    while wanting:
        clips = {number: [] for number in wanting}
        for dataset in sorted(members):
            known = sorted(members[dataset])
            positions = rng.integers(0, len(known), size=(len(wanting), len(known)))
            for number, drawn in zip(wanting, positions, strict=True):
                for place in drawn:
                    clips[number] += [row for row, subject in enumerate(subjects) if subject == known[place]]
        for number in wanting:
            resamples[number] = clips[number]
        wanting = [number for number in wanting if len({labels[row] for row in clips[number]}) < classes]
    return resamples


def clips_of(seed, subjects=12, classes=3):
    """Two datasets whose names sort otherwise than their subjects would by themselves, clips in a random order."""
    rng = np.random.default_rng(seed)
    names, datasets = [], []
    for subject in range(subjects):
        dataset = ("flow", "flow-2")[subject % 2]
        clips = int(rng.integers(1, 5))
        names += [f"{dataset}/{subject:02d}"] * clips
        datasets += [dataset] * clips
    labels = rng.integers(0, classes, size=len(names))
    labels[:classes] = range(classes)
    order = rng.permutation(len(labels))
    return labels[order], [names[i] for i in order], [datasets[i] for i in order]


def guesses(seed, labels, right, classes=3):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(labels)) < right, labels, rng.integers(0, classes, size=len(labels)))


def test_resamples_and_decisions_equal_those_of_an_outside_script():
    options = {"labels": [0, 1, 2], "average": "macro", "zero_division": 0}
    answers = set()
    for seed, (right, wrong) in enumerate([(0.9, 0.3), (0.55, 0.5)]):
        labels, subjects, datasets = clips_of(seed, subjects=14)
        look = Look(seed, seed % 3, f"{seed + 1:016x}", seed % 2 + 1)
        drawn = race_resamples(labels, subjects, datasets, 3, look)
        wanted = outside_resamples(look, labels, subjects, datasets, 3)
        for multiplicity, clips in zip(drawn.multiplicity, wanted, strict=True):
            taken = Counter(subjects[row] for row in clips)
            assert multiplicity.tolist() == [taken[name] // subjects.count(name) for name in drawn.subjects]
        candidate, member = guesses(seed, labels, wrong), guesses(seed + 50, labels, right)
        better = sum(
            f1_score(labels[clips], member[clips], **options) - f1_score(labels[clips], candidate[clips], **options)
            > 1e-9
            for clips in wanted
        )
        found = beaten(labels, candidate, member[None], subjects, datasets, 3, look)
        assert found == (better >= 990)
        answers.add(found)
    assert answers == {True, False}


def test_a_clearly_bad_candidate_is_beaten_and_its_equal_is_not():
    labels, subjects, datasets = clips_of(1)
    good = guesses(3, labels, 0.9)
    assert beaten(labels, np.zeros_like(labels), good[None], subjects, datasets, 3, LOOK)
    assert not beaten(labels, good, good[None], subjects, datasets, 3, LOOK)
    assert not beaten(labels, good, np.zeros_like(labels)[None], subjects, datasets, 3, LOOK)


def test_one_member_is_enough_and_none_beats_nobody():
    labels, subjects, datasets = clips_of(1)
    bad = np.zeros_like(labels)
    assert beaten(labels, bad, np.stack([bad, bad, labels]), subjects, datasets, 3, LOOK)
    assert not beaten(labels, bad, np.empty((0, len(labels)), dtype=np.int64), subjects, datasets, 3, LOOK)


def test_nobody_is_beaten_on_fewer_than_ten_subjects():
    for subjects_in_all, expected in ((9, False), (10, True)):
        labels, subjects, datasets = clips_of(5, subjects=subjects_in_all)
        assert may_judge(labels, subjects, 3) == expected
        assert beaten(labels, np.zeros_like(labels), labels[None], subjects, datasets, 3, LOOK) == expected


def test_nobody_is_beaten_before_every_class_is_scored():
    labels, subjects, datasets = clips_of(5)
    assert beaten(labels, np.zeros_like(labels), labels[None], subjects, datasets, 3, LOOK)
    assert not may_judge(labels, subjects, 4)
    assert not beaten(labels, np.zeros_like(labels), labels[None], subjects, datasets, 4, LOOK)


def test_equal_scores_that_were_added_up_in_another_order_are_equal():
    """Two predictors with the same three F1 in another order, equal in every resample but for the last bit."""
    subjects = [f"s/{number:02d}" for number in range(10) for _ in range(21)]
    labels = np.tile(np.repeat([0, 1, 2], 7), 10)
    differing = 0
    for seed in range(12):
        pattern = np.random.default_rng(seed).integers(0, 3, size=21)  # of every subject
        one = np.tile(pattern, 10)
        other = np.tile((np.roll(pattern, 7) + 1) % 3, 10)  # the same, of every class what was the one's before it
        figures = [float(np.mean(f1_score(labels, said, average=None, zero_division=0))) for said in (one, other)]
        differing += figures[0] != figures[1]
        assert not beaten(labels, one, other[None], subjects, ["s"] * 210, 3, LOOK)
        assert not beaten(labels, other, one[None], subjects, ["s"] * 210, 3, LOOK)
    assert differing  # so there was something to overlook


def test_every_look_has_resamples_of_its_own_and_the_same_look_the_same():
    labels, subjects, datasets = clips_of(2)
    looks = [LOOK, Look(8, 2, LOOK.genotype, 3), Look(7, 1, LOOK.genotype, 3), Look(7, 2, "0123456789abcdee", 3)]
    looks.append(Look(7, 2, LOOK.genotype, 2))
    drawn = [race_resamples(labels, subjects, datasets, 3, look).multiplicity for look in looks]
    assert np.array_equal(drawn[0], race_resamples(labels, subjects, datasets, 3, LOOK).multiplicity)
    for place, one in enumerate(drawn):
        assert one.shape == (RACE_RESAMPLES, 12)
        assert not any(np.array_equal(one, other) for other in drawn[:place])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1))
def test_the_order_of_the_clips_does_not_matter_and_two_never_beat_each_other(seed, first, second):
    labels, subjects, datasets = clips_of(seed)
    one, other = guesses(seed, labels, first), guesses(seed + 1, labels, second)
    found = beaten(labels, one, other[None], subjects, datasets, 3, LOOK)
    order = np.random.default_rng(seed).permutation(len(labels))
    moved = ([subjects[row] for row in order], [datasets[row] for row in order])
    assert beaten(labels[order], one[order], other[order][None], *moved, 3, LOOK) == found
    assert not (found and beaten(labels, other, one[None], subjects, datasets, 3, LOOK))


def test_every_resample_has_every_class_and_stays_within_its_datasets():
    labels, subjects, datasets = clips_of(4, subjects=11)
    labels[:] = 0
    labels[np.flatnonzero(np.array(subjects) == subjects[0])] = 1
    labels[np.flatnonzero(np.array(subjects) == next(name for name in subjects if name != subjects[0]))] = 2
    drawn = race_resamples(labels, subjects, datasets, 3, LOOK)
    assert drawn.redrawn > 0
    rare = [drawn.subjects.index(name) for name in {subjects[0], next(n for n in subjects if n != subjects[0])}]
    assert (drawn.multiplicity[:, rare] > 0).all()
    first = [name.startswith("flow/") for name in drawn.subjects]
    assert (drawn.multiplicity[:, first].sum(axis=1) == sum(first)).all()


def test_predictions_of_other_clips_are_refused():
    labels, subjects, datasets = clips_of(4)
    with pytest.raises(DataError):
        beaten(labels, labels, labels[None, :-1], subjects, datasets, 3, LOOK)
    with pytest.raises(DataError):
        beaten(labels, labels + 1, labels[None], subjects, datasets, 3, LOOK)
    with pytest.raises(DataError):
        beaten(labels, labels, labels[None], subjects[:-1], datasets, 3, LOOK)
