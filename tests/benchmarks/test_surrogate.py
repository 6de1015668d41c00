"""The surrogate: on scores of a closed form it must find the form, and its noise must be as large as what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from tabular.encoding import MISSING, NOT_ASKED, Encoder, everywhere
from tabular.measuring import Measure
from tabular.surrogate import MODELS, Surrogate, fit_surrogate
from tabular.table import Result, failed, genotypes_of, make_frame

from mernas.space.errors import Problem, SpaceError
from mernas.space.genotype import Genotype
from mernas.space.parameters import Choices, Integer, Real
from mernas.space.suggestion import RandomTrial
from mernas.space.tree import SearchSpace


@pytest.fixture(scope="module")
def surrogate(known: pd.DataFrame, space: SearchSpace) -> Surrogate:
    return fit_surrogate(known, space)


@pytest.fixture(scope="module")
def unknown(space: SearchSpace, known: pd.DataFrame) -> Mapping[str, Genotype]:
    drawn = [space.suggest(RandomTrial(f"unknown {number}")) for number in range(400)]
    return {one.hash: one for one in drawn if one.hash not in set(known["genotype"])}


def test_it_finds_a_closed_form_on_genotypes_that_it_has_not_seen(
    surrogate: Surrogate, space: SearchSpace, unknown: Mapping[str, Genotype], closed_form: Callable[[Genotype], float]
) -> None:
    measure = Measure(3)
    built = [one for one in unknown.values() if measure(one) is not None]
    truth = np.array([closed_form(one) for one in built])
    predicted = surrogate.predict([space.locate(one) for one in built], [measure(one) or 0 for one in built])
    assert predicted.shape == (len(built), 4)
    assert spearmanr(truth, predicted[:, 0]).statistic > 0.9
    assert 1 - np.var(truth - predicted[:, 0]) / np.var(truth) > 0.8
    # It was told of a fifth less in cross-validation, and of noise, so what it says of itself is no more than that.
    assert 0.6 < surrogate.quality.r2 < 1 - np.var(truth - predicted[:, 0]) / np.var(truth)


@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_model_beats_the_mean_by_far(model: str, known: pd.DataFrame, space: SearchSpace) -> None:
    quality = fit_surrogate(known.head(120), space, model).quality
    assert quality.rows == 120
    assert quality.r2 > 0.4
    assert str(quality).startswith(f"surrogate {model}: R2 0.")


def test_quality_is_that_of_predictions_for_rows_that_were_left_out(surrogate: Surrogate, known: pd.DataFrame) -> None:
    truth = known["uf1"].to_numpy()[:200]
    predicted = surrogate.unseen[:, 0]
    assert surrogate.quality.r2 == pytest.approx(1 - np.mean((truth - predicted) ** 2) / np.var(truth))
    assert surrogate.quality.mae == pytest.approx(np.mean(np.abs(truth - predicted)))
    # Predictions of rows that were seen are closer: these are not.
    assert surrogate.quality.mae > 0.015


# Landscapes


def answers(surrogate: Surrogate, space: SearchSpace, genotypes: Mapping[str, Genotype], seed: int) -> np.ndarray:
    rows = [space.locate(one) for one in genotypes.values()]
    found = surrogate.answer(list(genotypes), rows, [1000] * len(rows), seed)
    return np.array([(one.uf1, *one.uf1_folds, one.expected) for one in found])


def test_one_seed_gives_a_genotype_one_answer_whoever_else_is_asked(
    surrogate: Surrogate, space: SearchSpace, unknown: Mapping[str, Genotype]
) -> None:
    everybody = answers(surrogate, space, unknown, 1)
    few = dict(list(unknown.items())[5:9])
    np.testing.assert_array_equal(answers(surrogate, space, few, 1), everybody[5:9])
    other = answers(surrogate, space, unknown, 2)
    assert (other[:, 0] != everybody[:, 0]).mean() > 0.9
    np.testing.assert_array_equal(other[:, 4], everybody[:, 4])


def test_noise_is_as_large_as_what_the_surrogate_leaves_unexplained(
    surrogate: Surrogate, space: SearchSpace, unknown: Mapping[str, Genotype]
) -> None:
    found = np.concatenate([answers(surrogate, space, unknown, seed) for seed in range(5)])
    noise = found[:, 0] - found[:, 4]
    unexplained = surrogate.truth[:, 0] - surrogate.unseen[:, 0]
    assert np.std(noise) == pytest.approx(np.std(unexplained), rel=0.15)
    assert abs(noise.mean()) < 0.01
    # Nothing is smoother than the table.
    assert np.std(found[:, 0]) > 0.9 * np.std(surrogate.truth[:, 0])


def test_a_genotype_of_the_table_is_answered_from_the_table(
    surrogate: Surrogate, space: SearchSpace, known: pd.DataFrame
) -> None:
    some = {one.hash: one for one in genotypes_of(known.head(20), space)}
    found = answers(surrogate, space, some, 7)
    columns = ["uf1", "uf1_fold_0", "uf1_fold_1", "uf1_fold_2", "uf1"]
    np.testing.assert_array_equal(found, known.head(20)[columns].to_numpy())


def test_what_fails_in_the_table_fails_as_often_in_a_landscape(known: pd.DataFrame, space: SearchSpace) -> None:
    # Whatever has two streams fails in this table; it must in the landscape, and nothing else must.
    entries = []
    genotypes = genotypes_of(known.head(150), space)
    whole = fit_surrogate(known.head(150), space)
    for number, (genotype, count) in enumerate(zip(genotypes, known["parameters"], strict=False)):
        result = failed("not-finite: a loss") if len(genotype.streams) == 2 else scores_of(known.iloc[number])
        entries.append((number, "uniform", genotype, int(count), result))
    surrogate = fit_surrogate(make_frame(space, entries, {}), space)
    drawn = [space.suggest(RandomTrial(f"failing {number}")) for number in range(200)]
    rows = [space.locate(one) for one in drawn]
    found = surrogate.answer([one.hash for one in drawn], rows, [1000] * len(drawn), 0)
    wrong = [one.failed != (len(genotype.streams) == 2) for one, genotype in zip(found, drawn, strict=True)]
    assert np.mean(wrong) < 0.1
    assert not any(one.failed for one in whole.answer([drawn[0].hash], rows[:1], [1000], 0))


def scores_of(row: pd.Series) -> Result:
    folds = tuple(float(row[f"uf1_fold_{fold}"]) for fold in range(3))
    return Result(float(row["uf1"]), float(row["uar"]), float(row["accuracy"]), folds, (1.0, 1.0, 1.0))


# Encoding


def test_numbers_are_scaled_in_the_sense_of_their_range_and_inactive_ones_told_apart() -> None:
    known = [
        {"lr": (0.01, Real(0.001, 0.1, log=True)), "pool": ("max2", Choices(("max2", "none")))},
        {"a.0.width": (3, Integer(1, 5)), "a.1.width": (5, Integer(1, 5)), "pool": ("none", Choices(("max2", "none")))},
    ]
    encoded = Encoder(known).encode(known, [10, 1000])
    # Alone: a.0.width, a.1.width, lr, pool (max2, none, not asked); together: a.*.width, lr, pool (max2, none); size.
    assert encoded[0] == pytest.approx([MISSING, MISSING, 0.5, 1, 0, 0, MISSING, 0.5, 1, 0, 1])
    assert encoded[1] == pytest.approx([0.5, 1.0, MISSING, 0, 1, 0, 0.75, MISSING, 0, 1, 3])
    silent = Encoder(known).encode([{}], [1])[0]
    assert silent == pytest.approx([MISSING, MISSING, MISSING, 0, 0, 1, MISSING, MISSING, 0, 0, 0])
    assert NOT_ASKED not in ("max2", "none")


def test_a_place_in_the_tree_is_a_number_between_dots() -> None:
    assert everywhere("streams.1.input.optical_flow.size") == "streams.*.input.optical_flow.size"
    assert everywhere("loss.0") == "loss.*"
    assert everywhere("block.convolution_3d.width") == "block.convolution_3d.width"


def test_a_size_is_counted_once(space: SearchSpace) -> None:
    counted: list[str] = []

    def count(genotype: Genotype, classes: int) -> int:
        counted.append(genotype.hash)
        if len(counted) == 2:
            raise SpaceError(Problem("genotype", "does not build"))
        return classes * 10

    measure = Measure(3, count)
    one, other = space.suggest(RandomTrial(1)), space.suggest(RandomTrial(2))
    assert [measure(one), measure(other), measure(one), measure(other)] == [30, None, 30, None]
    assert counted == [one.hash, other.hash]
