"""Replicated data: like the data where the model is their truth, and not where counts have extra zeros."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.data import mark
from platewise.data.errors import PlatewiseError
from platewise.data.simulate import simulate_ratings
from platewise.guides import AmortizedNormal, RowBlockNormal
from platewise.inference import coordinate_ascent, svi
from platewise.models import VAE, CountFactor, LatentFactor
from platewise.posterior.posterior_predictive import posterior_predictive_checks, predictive_checks

OPTIONS = {"device": "cpu", "progress": False, "dtype": torch.float64}
SMALL = {"draws": 60}


@pytest.fixture(scope="module")
def ratings():
    truth = LatentFactor(rank=2, sigma=0.5, user_scale=0.5, item_scale=0.5)
    return simulate_ratings(truth, 150, 80, 5000, given={"mu": 3.5}, seed=1)[0]


def ratings_fit(ratings):
    return coordinate_ascent.fit(LatentFactor(rank=2), RowBlockNormal(), ratings, sweeps=40, **OPTIONS)


def counts(extra_zeros: float) -> ad.AnnData:
    """Poisson counts of two kinds of cells, some of which were not seen at all."""
    rng = np.random.default_rng(0)
    share = rng.dirichlet(np.full(20, 5.0), size=2)[rng.integers(2, size=150)]
    x = rng.poisson(150 * share) * (rng.random((150, 20)) >= extra_zeros)
    cells = ad.AnnData(sp.csr_matrix(x.astype(np.float32)))
    cells.obs_names, cells.var_names = [f"c{i}" for i in range(150)], [f"g{j}" for j in range(20)]
    return mark(cells, unstored="zero")


def vae_fit(cells, epochs=60):
    model, guide = VAE(2, "poisson", hidden=16), AmortizedNormal(hidden=16)
    return svi.fit(model, guide, cells, epochs=epochs, batch_rows=75, **OPTIONS)


def p_values(table):
    return table.set_index("statistic")["p"]


def test_ratings_drawn_from_the_model_pass(ratings):
    table = posterior_predictive_checks(ratings_fit(ratings), **SMALL)
    assert table["p"].between(0.02, 0.98).all()
    assert table.columns.tolist() == ["statistic", "observed", "mean", "sd", "p"]
    assert table.attrs == {"rows": 150, "entries": 5000, "draws": 60}
    assert table["observed"][0] == pytest.approx(ratings.X.data.mean(dtype=float))
    assert table["observed"][3] == ratings.X.data.max()
    assert predictive_checks(ratings_fit(ratings), draws=2).columns is None  # few ratings of an item, and no zeros


def test_stars_are_not_normal(ratings):
    """Ratings cut to five stars: the lowest is given far more often than a normal falls so low."""
    stars = ratings.copy()
    stars.X.data = np.clip(np.round(stars.X.data + 1), 1, 5).astype(np.float32)
    p = p_values(posterior_predictive_checks(ratings_fit(stars), **SMALL))
    assert p["largest value"] == 1
    assert 0.02 < p["mean"] < 0.98


def test_counts_of_a_vae_pass_and_extra_zeros_do_not():
    both = [predictive_checks(vae_fit(counts(share)), **SMALL) for share in (0.0, 0.4)]
    right, wrong = (found.statistics for found in both)
    assert 0.01 < p_values(right)["share of zeros"] < 0.99
    assert p_values(wrong)["share of zeros"] == 0  # never as many zeros as there are
    line = wrong.set_index("statistic").loc["share of zeros"]
    assert line["observed"] > 0.35
    assert line["mean"] < line["observed"] - 5 * line["sd"]
    assert len(right) == 9
    of_right, of_wrong = (found.columns.shares().set_index("statistic")["inside"] for found in both)
    assert of_right[["share of zeros", "mean"]].min() > 0.8
    assert of_wrong["share of zeros"] == 0  # every gene has too many
    assert both[1].columns.outermost()["distance"].abs().min() > 5


def test_rows_of_a_factor_model_of_counts():
    """Extra zeros under Poisson, with latents of columns, too."""
    cells = counts(0.4)
    fitted = svi.fit(CountFactor(rank=2, likelihood="poisson"), RowBlockNormal(), cells, epochs=20, **OPTIONS)
    table = posterior_predictive_checks(fitted, rows=40, **SMALL)
    assert table.attrs["entries"] == 40 * 20
    assert p_values(table)["share of zeros"] < 0.02


def test_equal_statistics_count_half():
    """Where every replication has the data's share of zeros, none, nothing speaks against the model."""
    cells = counts(0.0)
    cells.X.data += 100
    cells.X = sp.csr_matrix(cells.X.toarray() + 100 * (cells.X.toarray() == 0)).astype(np.float32)
    p = p_values(posterior_predictive_checks(vae_fit(cells, epochs=1), **SMALL))
    assert p["share of zeros"] == 0.5


def test_one_seed_one_table_and_some_rows(ratings):
    fitted = ratings_fit(ratings)
    one, same, other = (posterior_predictive_checks(fitted, rows=20, draws=5, seed=k) for k in (0, 0, 1))
    assert one.equals(same)
    assert not one.equals(other)
    assert one.attrs["rows"] == 20


def test_invalid_use(ratings):
    fitted = ratings_fit(ratings)
    with pytest.raises(PlatewiseError, match="Expected rows of at least 1 and draws of at least 2"):
        posterior_predictive_checks(fitted, rows=0)
    other = ratings.copy()
    other.X.data[0] += 1
    with pytest.raises(PlatewiseError, match="fingerprints differ"):
        posterior_predictive_checks(fitted, other)
    fitted.data = None
    with pytest.raises(PlatewiseError, match="Expected data= to compare"):
        posterior_predictive_checks(fitted)
