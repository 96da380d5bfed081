"""Simple references: against their definitions, beaten by a good fit and not by a bad one."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.data.errors import PlatewiseError
from platewise.data.preparation import prepared
from platewise.data.simulate import simulate_ratings
from platewise.data.split import split_entries
from platewise.guides import AmortizedNormal, RowBlockNormal
from platewise.inference import coordinate_ascent, svi
from platewise.models import VAE, CountFactor, LatentFactor
from platewise.posterior import evaluate, score_rows
from platewise.posterior.reference_models import Biases, CountMeans, NormalMeans
from platewise.posterior.references import references
from scipy.stats import nbinom

from ..count_data import small_counts

OPTIONS = {"device": "cpu", "progress": False, "dtype": torch.float64}


@pytest.fixture(scope="module")
def parts():
    truth = LatentFactor(rank=2, sigma=0.5, user_scale=0.7, item_scale=0.7)
    ratings, _ = simulate_ratings(truth, 150, 80, 5000, given={"mu": 3.5}, seed=1)
    return split_entries(ratings, test=0.3, seed=0)


def table_of(fitted, test, **options):
    return references(fitted, test, **options).set_index("predictor")


def fitted_to(train, **options):
    return coordinate_ascent.fit(LatentFactor(rank=2), RowBlockNormal(), train, **({"sweeps": 40} | OPTIONS | options))


def test_a_good_fit_beats_them(parts):
    train, test = parts
    fitted = fitted_to(train)
    table, scores = table_of(fitted, test), evaluate(fitted, test)
    assert list(table.index) == ["fit", "global mean", "biases only"]
    assert table["rmse"].idxmin() == table["crps"].idxmin() == table["log_predictive_density"].idxmax() == "fit"
    assert table["rmse"]["biases only"] < table["rmse"]["global mean"]
    assert (table["n"] == test.X.nnz).all()
    own = scores.rmse, scores.log_predictive_density, scores.crps, scores.coverage["0.9"]
    assert table.loc["fit"].tolist()[1:] == pytest.approx(own)
    assert table["coverage"].tolist() == pytest.approx([0.9] * 3, abs=0.04)


def test_a_bad_fit_does_not(parts):
    train, test = parts
    wrong = LatentFactor(rank=2, sigma=5.0, user_scale=0.01, item_scale=0.01)  # explains nothing
    fitted = coordinate_ascent.fit(wrong, RowBlockNormal(), train, sweeps=3, **OPTIONS)
    table = table_of(fitted, test)
    assert table["rmse"].idxmin() == "biases only"
    assert table["log_predictive_density"].idxmin() == "fit"


def test_the_global_mean_is_the_training_mean(parts):
    train, test = parts
    table = table_of(fitted_to(train, sweeps=2), test)
    y, x = test.X.data.astype(float), train.X.data.astype(float)
    assert table["rmse"]["global mean"] == pytest.approx(np.sqrt(np.mean((y - x.mean()) ** 2)))
    inside = np.abs(y - x.mean()) <= 1.6448536 * x.std()
    assert table["coverage"]["global mean"] == pytest.approx(inside.mean())


def test_biases_find_their_variances():
    """Two-way random effects: standard deviations 0.8, 0.4 and 0.3."""
    rng = np.random.default_rng(0)
    a, b = 0.8 * rng.normal(size=400), 0.4 * rng.normal(size=300)
    x = sp.random(400, 300, density=0.15, format="coo", random_state=0)
    y = 2 + a[x.row] + b[x.col] + 0.3 * rng.normal(size=x.nnz)
    found = Biases.fit(sp.csr_matrix((y, (x.row, x.col)), shape=x.shape))
    assert np.sqrt([found.row.prior, found.col.prior, found.noise]) == pytest.approx([0.8, 0.4, 0.3], rel=0.12)
    assert np.corrcoef(found.row.mean, a)[0, 1] > 0.99
    assert found.mu == pytest.approx(2, abs=0.2)
    mean, variance = found.row.of(np.array([0, 400]))  # the second is new
    assert (mean[1], variance[1]) == (0, found.row.prior)
    assert variance[0] < 0.02


def test_biases_of_equal_entries():
    found = Biases.fit(sp.csr_matrix(np.full((4, 3), 2.0)))
    assert found.mu == pytest.approx(2)
    assert 0 < found.noise < 1e-3


def test_means_of_columns_count_zeros():
    x = np.array([[0, 2.0, 0], [1, 4, 0]])
    found = NormalMeans.of_columns(sp.csr_matrix(x))
    np.testing.assert_allclose(found.mean, x.mean(0))
    np.testing.assert_allclose(found.sd[:2], x.std(0)[:2])
    every, stored = (NormalMeans.of_all(sp.csr_matrix(x), every_cell=zeros) for zeros in (True, False))
    assert (every.mean[0], stored.mean[0]) == pytest.approx((x.mean(), 7 / 3))


def test_dispersions_of_counts_by_moments():
    rng = np.random.default_rng(0)
    mean, theta = 20.0, np.repeat([2.0, 20.0], 50)  # of 100 columns, whose sums differ little
    x = rng.negative_binomial(theta, theta / (theta + mean), (2000, 100)).astype(float)
    found = CountMeans.fit(sp.csr_matrix(x))
    np.testing.assert_allclose(found.share, 0.01, rtol=0.08)
    np.testing.assert_allclose(found.theta, theta, rtol=0.3)
    poisson = CountMeans.fit(sp.csr_matrix(rng.poisson(20, (50, 100)).astype(float)))
    assert np.median(poisson.theta) > 100


@pytest.fixture(scope="module")
def cells():
    """Counts in a training and a test part."""
    every = small_counts()
    return every[:45].copy(), every[45:].copy()


def test_cells_of_counts(cells):
    fitted = svi.fit(CountFactor(rank=2), RowBlockNormal(), cells[0], epochs=5, batch_rows=45, **OPTIONS)
    table = table_of(fitted, cells[1], n_samples=20)
    assert list(table.index) == ["fit", "column means"]
    assert table["n"].tolist() == [15 * 25] * 2
    y, means = cells[1].X.toarray(), CountMeans.fit(cells[0].X)
    mean = y.sum(1, keepdims=True) * means.share
    assert table["rmse"]["column means"] == pytest.approx(np.sqrt(np.mean((y - mean) ** 2)))
    density = nbinom.logpmf(y, means.theta, means.theta / (means.theta + mean)).mean()
    assert table["log_predictive_density"]["column means"] == pytest.approx(density)


@pytest.mark.parametrize("likelihood", ["negative-binomial", "poisson", "multinomial", "bernoulli", "gaussian"])
def test_whole_rows(cells, likelihood):
    train, test = (part.copy() for part in cells)
    if likelihood == "bernoulli":
        for part in (train, test):
            part.X.data[:] = 1
    options = {"epochs": 3, "batch_rows": 45} | OPTIONS
    fitted = svi.fit(VAE(2, likelihood, hidden=8), AmortizedNormal(hidden=8), train, **options)
    table = table_of(fitted, test, draws=20)
    assert (table["n"] == 15).all()
    assert table["rmse"].isna().all()
    own = score_rows(fitted, test, draws=20)["log_likelihood_iw"].mean()
    assert table["log_predictive_density"]["fit"] == pytest.approx(own)
    assert np.isfinite(table["log_predictive_density"]["column means"])


def test_whole_rows_against_the_definition(cells):
    """Normals by column, whose densities are easy to write down."""
    train, test = cells
    options = {"epochs": 2, "batch_rows": 45} | OPTIONS
    fitted = svi.fit(VAE(2, "gaussian", hidden=8), AmortizedNormal(hidden=8), train, **options)
    x, y = train.X.toarray().astype(float), test.X.toarray().astype(float)
    mean, sd = x.mean(0), np.maximum(x.std(0), 1e-4)
    expected = (-0.5 * ((y - mean) / sd) ** 2 - np.log(sd) - 0.5 * np.log(2 * np.pi)).sum(1).mean()
    found = table_of(fitted, test, draws=2)["log_predictive_density"]["column means"]
    assert found == pytest.approx(expected, rel=1e-4)


def test_log_normalised_expression(cells):
    train, test = (prepared(part) for part in cells)
    model = LatentFactor(rank=2, unstored="zero")
    fitted = coordinate_ascent.fit(model, RowBlockNormal(), train, sweeps=5, **OPTIONS)
    table = table_of(fitted, test)
    assert list(table.index) == ["fit", "global mean", "column means"]
    assert table["rmse"]["column means"] < table["rmse"]["global mean"]


def test_training_data_are_needed(parts):
    fitted = fitted_to(parts[0], sweeps=1)
    fitted.data = None
    with pytest.raises(PlatewiseError, match="Expected data=, the training data"):
        references(fitted, parts[1])
    with pytest.raises(PlatewiseError, match="fingerprints differ"):
        references(fitted, parts[1], data=parts[1])
