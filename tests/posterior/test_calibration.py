"""Coverage and PIT of held-out entries: right where the model is the truth, off where its noise is halved."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from platewise.data.simulate import simulate_ratings
from platewise.data.split import split_entries
from platewise.guides import RowBlockNormal
from platewise.inference import coordinate_ascent, svi
from platewise.models import CountFactor, LatentFactor
from platewise.posterior import evaluate, judged_entries
from platewise.posterior.calibration import Calibration, calibration
from platewise.posterior.predictive import NormalPredictive, SampledPredictive
from scipy.stats import kstest, norm, poisson

from ..count_data import small_counts


def fit(sigma, train):
    model = LatentFactor(rank=2, sigma=sigma, user_scale=0.5, item_scale=0.5)
    options = {"sweeps": 60, "device": "cpu", "progress": False, "dtype": torch.float64}
    return coordinate_ascent.fit(model, RowBlockNormal(), train, **options)


@pytest.fixture(scope="module")
def parts():
    """Ratings drawn from the model, in a training and a test part."""
    truth = LatentFactor(rank=2, sigma=0.5, user_scale=0.5, item_scale=0.5)
    ratings, _ = simulate_ratings(truth, 300, 150, 20_000, given={"mu": 3.5}, seed=1)
    return split_entries(ratings, test=0.3, seed=0)


@pytest.fixture(scope="module")
def right(parts):
    return calibration(fit(0.5, parts[0]), parts[1])


@pytest.fixture(scope="module")
def narrow(parts):
    return calibration(fit(0.25, parts[0]), parts[1])


def test_the_truth_is_calibrated(right):
    table = right.table()
    assert not table[table["by"] == "all"]["off"].any()
    assert table["off"].sum() <= 2  # of 124, 3 binomial errors off by chance
    assert not right.tails()["off"].any()
    assert not right.pit_histogram()["off"].any()
    assert right.kolmogorov < 0.025


def test_half_the_noise_is_not(narrow):
    table = narrow.table()
    assert table[table["by"] == "all"]["off"].all()
    assert (table[table["off"]]["coverage"] < table[table["off"]]["level"]).all()
    assert narrow.tails()["off"].all()
    share = narrow.pit_histogram()["share"]
    assert share.iloc[0] > 0.1 > share.iloc[9]  # a bowl
    assert narrow.kolmogorov > 0.05


def test_coverage_is_that_of_evaluate(parts):
    fitted = fit(0.5, parts[0])
    scores, table = evaluate(fitted, parts[1]), calibration(fitted, parts[1]).table()
    every = table[table["by"] == "all"].set_index("level")["coverage"]
    assert {str(k): v for k, v in every.items()} == pytest.approx(scores.coverage)
    nine = table[table["level"] == 0.9]
    for by, found in (("row", scores.coverage_by_row_decile), ("column", scores.coverage_by_col_decile)):
        assert nine[nine["by"] == by]["coverage"].tolist() == pytest.approx(found["0.9"])


def test_parts_are_sorted_by_what_they_say(parts):
    fitted = fit(0.5, parts[0])
    test = parts[1]
    x = test.X.tocoo()
    order = calibration(fitted, test).orders
    n_training = fitted.obs["n_entries"].loc[test.obs_names[x.row]].to_numpy()
    assert (np.diff(n_training[order["row"]]) >= 0).all()
    n_training = fitted.var["n_entries"].loc[test.var_names[x.col]].to_numpy()
    assert (np.diff(n_training[order["column"]]) >= 0).all()


def test_binomial_errors_and_both_margins():
    pit = (np.arange(10_000) + 0.5) / 10_000
    order = np.arange(10_000)
    table = Calibration(pit, {"predicted": order}, "").table().set_index(["by", "part", "level"])
    every = table.loc[("all", 0, 0.9)]
    assert every["se"] == pytest.approx(np.sqrt(0.9 * 0.1 / 10_000))
    assert (every["coverage"], every["off"], every["n"]) == (pytest.approx(0.9, abs=1e-3), False, 10_000)
    assert table.loc[("predicted", 1, 0.9)]["off"]  # the lowest tenth of places is one tenth of them all
    assert not Calibration(pit[::2000], {}, "").table()["off"].any()  # five entries: nothing is known


def test_sampled_places_are_exact_ranks():
    draws = np.sort(np.random.default_rng(0).normal(size=(99, 3)), axis=0)
    found = SampledPredictive(draws, draws.mean(0), np.zeros(3))
    y = np.array([-10.0, float(draws[49, 1]), 10.0])
    np.testing.assert_allclose(found.cdf(y), [0, 50 / 99, 1])
    np.testing.assert_allclose(found.pit(y, np.zeros(3)), [0, 0.49, 0.99])
    np.testing.assert_allclose(found.pit(y, np.ones(3)), [0.01, 0.51, 1])


def test_places_of_counts_are_uniform_and_their_shares_are_not():
    rng = np.random.default_rng(0)
    y = rng.poisson(1.5, 4000).astype(float)
    draws = np.sort(rng.poisson(1.5, (400, 4000)), axis=0).astype(np.float32)
    found = SampledPredictive(draws, draws.mean(0), np.zeros(4000))
    assert kstest(found.pit(y, rng.random(4000)), "uniform").pvalue > 0.001
    assert kstest(found.cdf(y), "uniform").pvalue < 1e-10
    np.testing.assert_allclose(found.cdf(y), poisson.cdf(y, 1.5), atol=0.12)


def test_the_normal_knows_its_distribution_function():
    found = NormalPredictive(np.array([0.3, 1.0]), np.array([2.0, 0.1]))
    y = np.array([1.0, 0.95])
    np.testing.assert_allclose(found.cdf(y), norm.cdf(y, found.mean, found.sd))
    np.testing.assert_array_equal(found.pit(y, np.zeros(2)), found.cdf(y))


def test_new_ids_are_counted(parts, right):
    fitted, test = fit(0.5, parts[0]), parts[1].copy()
    first = test.obs_names[0]
    test.obs_names = ["nobody" if name == first else name for name in test.obs_names]
    assert calibration(fitted, test).n_unknown == parts[1].X[0].nnz > 0
    assert right.n_unknown == 0


def test_fewer_entries_than_tenths(parts):
    fitted = fit(0.5, parts[0])
    few = parts[1][:, :1].copy()[:6].copy()
    if not few.X.nnz:
        few = parts[1][:2].copy()
    found = calibration(fitted, few)
    assert len(found.table()) == 31 * 4
    assert found.table()["n"].sum() == 4 * 4 * few.X.nnz
    assert not found.table()[found.table()["n"] == 0]["off"].any()
    assert found.to_dict()["n"] == few.X.nnz


def test_all_cells_of_some_rows_are_judged(monkeypatch):
    cells = small_counts()
    options = {"epochs": 2, "batch_rows": 60, "progress": False, "device": "cpu", "dtype": torch.float64}
    fitted = svi.fit(CountFactor(rank=2), RowBlockNormal(), cells, **options)
    assert len(calibration(fitted, cells, n_samples=50).pit) == cells.n_obs * cells.n_vars
    monkeypatch.setattr(judged_entries, "MAX_CELLS", 10 * cells.n_vars + 3)
    found = calibration(fitted, cells, n_samples=50)
    taken = "sampled, a count on the end of an interval inside in part"
    assert (len(found.pit), found.predictive) == (10 * cells.n_vars, taken)


def test_only_draws_that_are_all_whole_are_of_counts():
    counts = np.sort(np.random.default_rng(0).poisson(3.0, (50, 4)), axis=0).astype(np.float32)
    for drawn, of_counts in ((counts, True), (counts + 0.25 * (np.arange(4) == 2), False)):
        assert SampledPredictive(drawn, drawn.mean(0), np.zeros(4)).is_of_counts is of_counts


def test_the_far_tail_is_there_where_it_is_expected_to_hold_ten():
    pit = (np.arange(10_000) + 0.5) / 10_000
    assert Calibration(pit, {}, "").tails()["nominal"].tolist() == [0.01, 0.01, 0.001, 0.001]
    assert Calibration(pit[1:], {}, "").tails()["nominal"].tolist() == [0.01, 0.01]
    assert not Calibration(pit, {}, "").tails()["off"].any()
    far = Calibration(np.where(pit < 0.005, pit / 5, pit), {}, "").tails()
    assert far["off"].tolist() == [False, False, True, False]


def test_shares_of_steps_are_averages_over_places_on_them():
    rng = np.random.default_rng(0)
    y = rng.poisson(1.5, 3000)
    steps = np.stack([poisson.cdf(y - 1, 1.5), poisson.cdf(y, 1.5)], 1)
    drawn = [steps[:, 0] + rng.random(3000) * (steps[:, 1] - steps[:, 0]) for _ in range(200)]
    found = Calibration(drawn[0], {"row": np.arange(3000)}, "", steps=steps)
    tables = [Calibration(pit, {"row": np.arange(3000)}, "") for pit in drawn]
    for name in ("coverage", "share"):
        read = Calibration.table if name == "coverage" else Calibration.pit_histogram
        mean = np.mean([read(x)[name] for x in tables], axis=0)
        np.testing.assert_allclose(read(found)[name], mean, atol=0.01)
    np.testing.assert_allclose(found.tails()["share"], np.mean([x.tails()["share"] for x in tables], axis=0), atol=1e-3)
    certain = Calibration(np.array([0.2]), {}, "", steps=np.array([[0.2, 0.2]]))  # no step: a place
    assert certain.between(0.1, 0.3) == 1


def test_recalibrated_noise_is_said(parts, right):
    assert right.predictive == "moment-matched normal"
    assert replace(right, predictive="x").to_dict()["predictive"] == "x"
