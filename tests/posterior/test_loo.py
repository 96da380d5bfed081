"""Leave-one-out: what fits without the entry say, in closed form or by fitting again, and where weights cannot do."""

import json
from copy import deepcopy
from dataclasses import replace

import anndata as ad
import numpy as np
import pyro.distributions as dist
import pytest
import scipy.sparse as sp
import torch
from platewise.data import mark
from platewise.data.errors import PlatewiseError
from platewise.data.simulate import simulate_ratings
from platewise.data.split import split_entries
from platewise.guides import AmortizedNormal, RowBlockNormal
from platewise.inference import coordinate_ascent, svi
from platewise.inference.recalibration import Recalibration
from platewise.models import VAE, CountFactor, LatentFactor
from platewise.posterior import evaluate
from platewise.posterior.loo import subsampled_loo
from pyro import poutine
from scipy.stats import norm

from ..count_data import small_counts

OPTIONS = {"device": "cpu", "progress": False, "dtype": torch.float64}
GIVEN = {"sigma": 0.5, "user_scale": 0.5, "item_scale": 0.5}


@pytest.fixture(scope="module")
def parts():
    ratings, _ = simulate_ratings(LatentFactor(rank=2, **GIVEN), 80, 50, 1900, given={"mu": 3.5}, seed=1)
    return split_entries(ratings, test=0.3, seed=0)


def ratings_fit(ratings, **given):
    return coordinate_ascent.fit(
        LatentFactor(rank=2, **(GIVEN | given)), RowBlockNormal(), ratings, sweeps=60, **OPTIONS
    )


@pytest.fixture(scope="module")
def fitted(parts):
    return ratings_fit(parts[0])


@pytest.fixture(scope="module")
def found(fitted):
    """Every training entry left out."""
    return subsampled_loo(fitted, n=10**6, draws=400)


class Narrow(AmortizedNormal):
    """An encoder that is three times too sure."""

    def distribution(self, site, numbers):
        normal = super().distribution(site, numbers).base_dist
        return dist.Normal(normal.loc, normal.scale / 3).to_event(1)


@pytest.fixture(scope="module")
def linear():
    """Rows of a linear Gaussian model, and its VAE: all is known in closed form but the guide."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2)) @ rng.normal(size=(2, 6)) + 0.7 * rng.normal(size=(60, 6))
    rows = ad.AnnData(sp.csr_matrix(x))
    rows.obs_names, rows.var_names = [f"c{i}" for i in range(60)], [f"g{j}" for j in range(6)]
    model, guide = VAE(2, "gaussian", layers=0, sigma=0.7), AmortizedNormal(hidden=16, dropout=0.0)
    return svi.fit(model, guide, mark(rows, unstored="zero"), epochs=60, batch_rows=30, **OPTIONS)


def without(ratings, row, col):
    """The same ratings less one, and that one."""
    x = ratings.X.tolil()
    value, x[row, col] = x[row, col], 0
    rest, one = ratings.copy(), ratings.copy()
    rest.X = x.tocsr().astype(ratings.X.dtype)
    one.X = sp.csr_matrix((np.array([value]), ([row], [col])), shape=ratings.shape, dtype=ratings.X.dtype)
    return rest, one


def test_fits_without_the_entry_say_the_same(fitted, found, parts):
    good = found.pointwise[~found.over]
    lines = good.iloc[np.linspace(0, len(good) - 1, 6).astype(int)]
    exact, names = [], parts[0]
    for line in lines.itertuples():
        row, col = names.obs_names.get_loc(line.row), names.var_names.get_loc(line.col)
        rest, one = without(names, row, col)
        exact.append(evaluate(ratings_fit(rest), one).log_predictive_density)
    np.testing.assert_allclose(lines["elpd"], exact, atol=0.3)  # one far out moves the columns, too
    assert abs(np.mean(lines["elpd"] - exact)) < 0.1
    assert np.mean(lines["lpd"] - exact) > 0.05  # the density with the entry is too good


def test_held_out_entries_are_predicted_as_well(fitted, found, parts):
    """Both are densities of entries that were not seen, left out at random."""
    held_out = evaluate(fitted, parts[1])
    n = parts[1].X.nnz
    per_entry, error = found.elpd.value / found.n_all, found.elpd.se * (1 / found.n_all + 1 / np.sqrt(n * found.n_all))
    assert abs(per_entry - held_out.log_predictive_density) < 4 * error
    assert 50 < found.p_loo.value < 80 * 3 + 50 * 3
    assert found.n_all == parts[0].X.nnz
    assert found.over.mean() < 0.1


def test_a_sample_stands_for_all(fitted, found):
    assert found.elpd.subsampling_se == found.p_loo.subsampling_se == 0
    assert found.elpd.value == pytest.approx(found.pointwise["elpd"].sum())
    some = subsampled_loo(fitted, n=150, draws=200)
    for name in ("elpd", "p_loo"):
        one, all_of = getattr(some, name), getattr(found, name)
        assert abs(one.value - all_of.value) < 4 * one.subsampling_se + 10
        assert one.subsampling_se > 0
        assert one.se == pytest.approx(all_of.se, rel=0.35)
    pit = found.pointwise["pit"]
    assert abs(np.histogram(pit, 5, (0, 1))[0] / len(pit) - 0.2).max() < 0.05


def test_entries_that_tell_all_about_a_row_are_warned_of(parts):
    """Much uncertain, little noise, and one to four ratings a user: an entry is not to be taken out by weights."""
    given = {"sigma": 0.05, "user_scale": 2.0}
    few, _ = simulate_ratings(LatentFactor(rank=2, **(GIVEN | given)), 60, 30, 150, given={"mu": 3.5}, seed=1)
    found = subsampled_loo(ratings_fit(few, **given), n=150, draws=200)
    assert found.over.mean() > 0.3
    assert found.pointwise["n_entries"].is_monotonic_increasing
    assert found.by_activity()["over"].max() > 0.3


def test_a_gene_of_a_cell_left_out_of_a_linear_model(linear):
    """Given loadings and noise, a row is normal, and so is an entry of it given the others."""
    found = subsampled_loo(linear, n=300, draws=500)
    assert found.corrected
    assert found.n_all == 360
    loc, loadings = decoded_linear(linear)
    cov = loadings.T @ loadings + 0.49 * np.eye(6)
    x = linear.data.X.toarray()
    exact = []
    for line in found.pointwise.itertuples():
        i, j = int(line.row[1:]), int(line.col[1:])
        rest = [k for k in range(6) if k != j]
        gain = np.linalg.solve(cov[np.ix_(rest, rest)], cov[rest, j])
        mean, variance = loc[j] + gain @ (x[i, rest] - loc[rest]), cov[j, j] - gain @ cov[rest, j]
        exact.append(norm.logpdf(x[i, j], mean, np.sqrt(variance)))
    good = ~found.over.to_numpy()
    assert good.mean() > 0.5
    difference = found.pointwise["elpd"].to_numpy()[good] - np.array(exact)[good]
    assert abs(difference.mean()) < 0.05
    assert np.median(np.abs(difference)) < 0.1
    assert found.pointwise["lpd"].mean() > np.mean(exact)


def decoded_linear(fitted):
    """Mean and loadings of a linear decoder, read off its program."""
    batch = fitted.blank_batch()

    def mean(z):
        z = torch.tensor([z], dtype=torch.float64)
        site = poutine.trace(poutine.condition(fitted.model.eval(), {"z": z})).get_trace(batch).nodes["count"]
        return site["fn"].mean.detach().numpy()[0]

    loc = mean([0.0, 0.0])
    return loc, np.stack([mean([1.0, 0.0]) - loc, mean([0.0, 1.0]) - loc])


def test_an_encoder_that_is_too_sure_is_warned_of(linear):
    sure = deepcopy(linear.guide)
    sure.__class__ = Narrow
    found = subsampled_loo(replace(linear, guide=sure), n=200, draws=300)
    assert found.over.mean() > 0.5
    assert "trained on the entry" in found.meaning


def test_rows_with_latents_of_columns_are_not_corrected():
    model = CountFactor(rank=2, likelihood="poisson")
    fitted = svi.fit(model, RowBlockNormal(), small_counts(), epochs=5, **OPTIONS)
    found = subsampled_loo(fitted, n=200, draws=100)
    assert found.pointwise.groupby("row").size().tolist() == [20] * 10
    assert not found.corrected
    assert (found.draws.log_row == 0).all()
    assert "the guide is taken for the posterior" in found.meaning
    assert np.isfinite(found.elpd.value)


def test_recalibrated_noise_is_judged_and_not_weighed_by(fitted):
    wider = replace(fitted, recalibration=Recalibration((2.0,), (), 100, ""))
    one, other = (subsampled_loo(x, n=50, draws=100) for x in (fitted, wider))
    np.testing.assert_array_equal(one.draws.log_likelihood, other.draws.log_likelihood)
    assert other.elpd.value < one.elpd.value
    assert other.draws.replicated.std() > one.draws.replicated.std()


def test_one_seed_one_answer_and_json(fitted):
    one, same, other = (subsampled_loo(fitted, n=40, draws=100, seed=k) for k in (0, 0, 1))
    assert one.pointwise.equals(same.pointwise)
    assert not one.pointwise.equals(other.pointwise)
    assert json.loads(json.dumps(one.to_dict()))["n"] == 40
    assert sum(x["n"] for x in one.to_dict()["by_activity"]) == 40


def test_invalid_use(fitted, parts):
    with pytest.raises(PlatewiseError, match="Expected at least 2 entries and 100 draws"):
        subsampled_loo(fitted, n=1)
    with pytest.raises(PlatewiseError, match="fingerprints differ"):
        subsampled_loo(fitted, parts[1])
    with pytest.raises(PlatewiseError, match="to leave out entries of, got none"):
        subsampled_loo(replace(fitted, data=None))
    model = VAE(2, "multinomial", hidden=8)
    of_rows = svi.fit(model, AmortizedNormal(hidden=8), small_counts(), epochs=1, batch_rows=60, **OPTIONS)
    with pytest.raises(PlatewiseError, match="Expected rows of entries that are independent given the latents"):
        subsampled_loo(of_rows)
