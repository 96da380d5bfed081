"""Leave-one-out of recalibrated fits: what is judged has the noise and the shape that held-out figures are of."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.data.simulate import simulate_ratings
from platewise.data.split import split_entries
from platewise.guides import RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.inference.recalibration import Recalibration
from platewise.models import LatentFactor
from platewise.posterior import evaluate, recalibrate, subsampled_loo
from scipy.special import logsumexp
from scipy.stats import kstest

KNOTS = (0.01, 0.1, 0.5, 0.9, 0.99)
AREA = (0.055, 0.245, 0.4, 0.245, 0.055)  # of the hat around each knot
DENSITY = np.array([2.4, 1.4, 0.8, 0.95, 0.2])
SKEW = Recalibration((1.3,), (), 100, "", KNOTS, tuple((DENSITY / (DENSITY @ AREA)).tolist()))
FLAT = replace(SKEW, density=(1.0,) * len(KNOTS))


def fit(ratings):
    model = LatentFactor(rank=2, sigma=0.5, user_scale=0.5, item_scale=0.5)
    return coordinate_ascent.fit(model, RowBlockNormal(), ratings, sweeps=30, progress=False, dtype=torch.float64)


@pytest.fixture(scope="module")
def skewed():
    """Fits to ratings whose noise is exponential, recalibrated with and without a shape, and a test part."""
    truth = LatentFactor(rank=2, sigma=0.05, user_scale=0.5, item_scale=0.5)
    ratings, _ = simulate_ratings(truth, 250, 150, 18_000, given={"mu": 3.5}, seed=2)
    ratings.X.data += 0.5 * (1 - np.random.default_rng(0).exponential(size=ratings.X.nnz))
    rest, test = split_entries(ratings, test=0.3, seed=0)
    train, kept = split_entries(rest, test=0.3, seed=1)
    fitted = fit(train)
    return recalibrate(fitted, kept, parts=1), recalibrate(fitted, kept, parts=1, shape=False), test


@pytest.fixture(scope="module")
def small():
    ratings, _ = simulate_ratings(LatentFactor(rank=2, sigma=0.5, user_scale=0.5), 60, 30, 900, seed=1)
    return fit(ratings)


def test_the_shape_brings_it_to_what_is_held_out(skewed):
    mended, wide, test = skewed
    found, without = (subsampled_loo(x, n=600, draws=200) for x in (mended, wide))
    held_out = evaluate(mended, test).log_predictive_density
    off, off_without = (abs(x.elpd.value / x.n_all - held_out) for x in (found, without))
    error = found.elpd.se * (1 / found.n_all + 1 / np.sqrt(test.X.nnz * found.n_all))
    assert off < 4 * error
    assert off_without > 2 * off
    assert off_without > 0.1
    assert kstest(found.pointwise["pit"], "uniform").statistic < 0.05
    assert kstest(without.pointwise["pit"], "uniform").statistic > 0.07
    assert found.recalibrated == mended.recalibration.in_words()


def test_the_surrogate_has_the_shape_too(skewed):
    table = subsampled_loo(skewed[0], n=300, draws=200).pointwise
    assert (table["elpd"] - table["surrogate"]).std() < 0.25 * table["elpd"].std()


def test_refits_without_the_entry_say_the_same(small):
    """The shape given, densities and PITs of the refits' own predictives."""
    found = subsampled_loo(replace(small, recalibration=SKEW), n=200, draws=400)
    good = found.pointwise[~found.over]
    lines = good.iloc[np.linspace(0, len(good) - 1, 5).astype(int)]
    exact = [_refit_density(small.data, line.row, line.col) for line in lines.itertuples()]
    np.testing.assert_allclose(lines["elpd"], exact, atol=0.3)
    assert abs(np.mean(lines["elpd"] - exact)) < 0.1


def _refit_density(ratings, row, col):
    rest, one = ratings.copy(), ratings.copy()
    at = ratings.obs_names.get_loc(row), ratings.var_names.get_loc(col)
    x = ratings.X.tolil()
    value, x[at] = x[at], 0
    rest.X = x.tocsr().astype(ratings.X.dtype)
    one.X = sp.csr_matrix(([value], ([at[0]], [at[1]])), shape=ratings.shape, dtype=ratings.X.dtype)
    return evaluate(replace(fit(rest), recalibration=SKEW), one).log_predictive_density


def test_the_density_is_that_of_the_map_at_the_weighted_place(small):
    shaped = replace(small, recalibration=SKEW)
    found = subsampled_loo(shaped, n=50, draws=100)
    lpd = logsumexp(found.draws.log_density, axis=0) - np.log(100)
    place = found.draws.below.mean(0)
    assert found.pointwise["lpd"].to_numpy() == pytest.approx(lpd + np.log(SKEW.shape.derivative(place)))
    in_words = found.to_dict()["recalibrated"]
    assert in_words == "noise and shape recalibrated on 100 entries"


def test_a_flat_map_changes_nothing(small):
    flat, none = (
        subsampled_loo(replace(small, recalibration=x), n=60, draws=100)
        for x in (FLAT, replace(FLAT, knots=(), density=()))
    )
    for name in ("elpd", "lpd", "surrogate", "pit", "k_hat"):
        np.testing.assert_allclose(flat.pointwise[name], none.pointwise[name], atol=1e-9)
    np.testing.assert_allclose(flat.draws.replicated, none.draws.replicated, atol=1e-9)


def test_weights_are_those_of_the_fit(small):
    plain, shaped = (subsampled_loo(replace(small, recalibration=x), n=60, draws=100) for x in (None, SKEW))
    np.testing.assert_array_equal(plain.pointwise["k_hat"], shaped.pointwise["k_hat"])
    assert (plain.pointwise["elpd"] != shaped.pointwise["elpd"]).all()
    assert plain.recalibrated is None


def test_a_model_without_closed_forms(regression, people):
    answers, x = people
    found = subsampled_loo(replace(regression, recalibration=SKEW), answers, n=100, draws=100, covariates={"x": x})
    assert np.isfinite(found.elpd.value)
    assert found.pointwise["pit"].between(0, 1).all()
    assert found.recalibrated == SKEW.in_words()
