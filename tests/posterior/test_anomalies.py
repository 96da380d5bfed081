"""Surprising entries: uniform where the model holds, first where they were planted, the same in any blocks."""

from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import scipy.sparse as sp
import scipy.stats as st
import torch
from platewise.data import mark
from platewise.data.errors import PlatewiseError
from platewise.guides import AmortizedNormal, MeanFieldNormal
from platewise.inference import Fitted, svi
from platewise.models import VAE, LatentFactor
from platewise.models.likelihoods import NegativeBinomialRows
from platewise.posterior import predict
from platewise.posterior import predictive as predictive_module
from platewise.posterior import scored_entries as scored_module
from platewise.posterior.anomalies import anomalies
from torch import nn

from ..count_data import small_counts

OPTIONS = {"epochs": 5, "batch_rows": 20, "device": "cpu", "progress": False, "dtype": torch.float64}
N_ROWS, N_COLS, THETA = 400, 40, 2.0


class Loadings(nn.Module):
    """x_ij ~ NegativeBinomial(mean exp(z_i . w_j), inverse dispersion THETA): no totals, so that it can be drawn."""

    unstored = "zero"

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.linspace(-1, 1.5, 2 * N_COLS).reshape(2, N_COLS))

    def forward(self, batch) -> None:
        zero = batch.value.new_zeros(2)
        with batch.row_plate("cells"):
            z = pyro.sample("z", dist.Normal(zero, 1 + zero).to_event(1))
            log_theta = torch.full((N_COLS,), THETA).log()
            pyro.sample("count", NegativeBinomialRows(batch, z @ self.weights, log_theta), obs=batch.value)


class Truth(nn.Module):
    """A guide that knows where the rows are."""

    def __init__(self, z: torch.Tensor) -> None:
        super().__init__()
        self.z = nn.Parameter(z)

    def forward(self, batch) -> None:
        with batch.row_plate("cells"):
            pyro.sample("z", dist.Normal(self.z[batch.rows], 1e-9).to_event(1))


def counts_of(x: np.ndarray) -> ad.AnnData:
    cells = ad.AnnData(sp.csr_matrix(x.astype(float)))
    cells.obs_names, cells.var_names = [f"c{i}" for i in range(len(x))], [f"g{j}" for j in range(x.shape[1])]
    return mark(cells, unstored="zero")


@cache
def known(theta: float = THETA) -> tuple[Fitted, ad.AnnData]:
    """Counts with inverse dispersion `theta`, and the model that takes it to be THETA, at the true embeddings."""
    generator, rng, model = torch.Generator().manual_seed(0), np.random.default_rng(0), Loadings()
    z = torch.randn(N_ROWS, 2, generator=generator, dtype=torch.float64)
    mean = (z @ model.weights.detach().double()).exp().numpy()
    cells = counts_of(rng.negative_binomial(theta, theta / (theta + mean)))
    fitted = svi.fit(Loadings(), AmortizedNormal(hidden=4), cells, **(OPTIONS | {"epochs": 1}))
    fitted.model, fitted.guide = model.double(), Truth(z)
    return fitted, cells


@cache
def trained() -> Fitted:
    return svi.fit(VAE(2, hidden=16), AmortizedNormal(hidden=16), small_counts(), **OPTIONS)


@pytest.mark.parametrize("tail", ["upper", "two-sided"])
@pytest.mark.parametrize("entries", ["stored", "all"])
def test_probabilities_are_uniform_where_the_model_holds(tail, entries) -> None:
    fitted, cells = known()
    found = anomalies(fitted, cells, n=10**6, draws=2, tail=tail, entries=entries)
    n = cells.X.nnz if entries == "stored" else N_ROWS * N_COLS
    assert len(found) == found.attrs["scored"] == n
    assert st.kstest(found["tail_probability"], "uniform").pvalue > 1e-3
    assert found.attrs["calibration"]["0.01"] == pytest.approx(0.01, abs=4 * (0.01 / n) ** 0.5)


def test_a_table_says_how_far_the_model_is_from_holding() -> None:
    fitted, cells = known(0.4)
    found = anomalies(fitted, cells, n=10**6, draws=1, tail="upper", entries="all")
    shares = found.attrs["calibration"]
    assert list(shares) == ["0.01", "0.001", "0.0001"]
    assert shares["0.01"] > 0.02
    for level, share in shares.items():
        assert share == (found["tail_probability"] < float(level)).mean()


def test_planted_outliers_come_first() -> None:
    fitted, cells = known()
    x, rng = cells.X.tocsr().copy(), np.random.default_rng(1)
    at = rng.choice(np.flatnonzero(x.data >= 5), 20, replace=False)
    x.data[at] *= 8
    place = sp.coo_matrix(x)
    planted = {(f"c{place.row[k]}", f"g{place.col[k]}") for k in at}
    found = anomalies(fitted, counts_of(x.toarray()), n=20, draws=1, tail="upper")
    assert len(planted & set(zip(found["row"], found["col"], strict=True))) >= 17
    assert (found["sign"] == 1).all()
    assert (found["value"] > found["expected"]).all()


def test_lines_are_what_they_say() -> None:
    fitted, cells = known()
    found = anomalies(fitted, cells, n=30, draws=1, entries="all")
    model, z = fitted.model, fitted.guide.z.detach()
    mean = pd.DataFrame((z @ model.weights).exp().detach().numpy(), cells.obs_names, cells.var_names)
    x = cells.to_df()
    for line in found.itertuples():
        expected = mean.loc[line.row, line.col]
        assert line.value == x.loc[line.row, line.col]
        np.testing.assert_allclose([line.expected, line.sd], [expected, (expected + expected**2 / THETA) ** 0.5])
        of = st.nbinom(THETA, THETA / (THETA + expected))
        inside = 2 * min(of.sf(line.value), of.cdf(line.value - 1)), 2 * min(of.sf(line.value - 1), of.cdf(line.value))
        assert inside[0] - 1e-12 <= line.tail_probability <= inside[1] + 1e-12
    assert found["log_tail_probability"].is_monotonic_increasing


def test_probabilities_are_averaged_over_draws() -> None:
    one, many = (anomalies(trained(), small_counts(), n=10**5, draws=n, entries="all") for n in (1, 60))
    pairs = [frame.set_index(["row", "col"])[["expected", "sd"]].sort_index() for frame in (one, many)]
    assert (pairs[1]["sd"] ** 2).mean() > 0
    assert not np.allclose(pairs[0], pairs[1])
    assert one.attrs["scored"] == 60 * 25


def test_one_seed_one_table_and_fewer_lines_are_the_first_ones() -> None:
    first = anomalies(trained(), small_counts(), n=50, draws=3, seed=4)
    pd.testing.assert_frame_equal(first, anomalies(trained(), small_counts(), n=50, draws=3, seed=4))
    few = anomalies(trained(), small_counts(), n=5, draws=3, seed=4)
    pd.testing.assert_frame_equal(first.head(5), few, rtol=1e-12)
    other = anomalies(trained(), small_counts(), n=50, draws=3, seed=5)
    assert not first["tail_probability"].equals(other["tail_probability"])


def test_stored_zeros_are_zeros() -> None:
    cells = small_counts()
    with_zeros = cells.copy()
    x = with_zeros.X.tocoo()
    zero = np.argwhere(cells.X.toarray() == 0)[:9]
    x = sp.csr_matrix((np.append(x.data, np.zeros(9)), (np.append(x.row, zero[:, 0]), np.append(x.col, zero[:, 1]))))
    with_zeros.X = x.astype(np.float32)
    assert with_zeros.X.nnz == cells.X.nnz + 9
    assert anomalies(trained(), with_zeros, draws=1).attrs["scored"] == cells.X.nnz


@pytest.mark.parametrize("name", ["gaussian", "poisson", "multinomial", "zero-inflated-negative-binomial"])
def test_every_likelihood(name) -> None:
    fitted = svi.fit(VAE(2, name, hidden=8), AmortizedNormal(hidden=8), small_counts(), **OPTIONS)
    found = anomalies(fitted, small_counts(), n=10, draws=2, entries="all")
    assert found.notna().all(axis=None)
    assert found["tail_probability"].between(0, 1).all()


def test_bernoulli_entries_are_surprising_among_all() -> None:
    cells = small_counts()
    cells.X.data[:] = 1
    fitted = svi.fit(VAE(2, "bernoulli", hidden=8), AmortizedNormal(hidden=8), cells, **OPTIONS)
    assert anomalies(fitted, cells, n=10, draws=2, entries="all")["tail_probability"].max() < 0.2
    with pytest.raises(PlatewiseError, match='Expected entries="all"'):
        anomalies(fitted, cells)


def test_ratings_are_scored_by_the_closed_form(block_fit, split) -> None:
    test = split[1]
    found = anomalies(block_fit, test, n=10**6)
    predicted = predict(block_fit, found["row"], found["col"])
    np.testing.assert_allclose(found["expected"], predicted["mean"])
    np.testing.assert_allclose(found["sd"], predicted["sd"])
    z = ((found["value"] - found["expected"]) / found["sd"]).to_numpy()
    np.testing.assert_allclose(found["tail_probability"], 2 * st.norm.sf(np.abs(z)))
    np.testing.assert_array_equal(found["sign"], np.sign(z))
    np.testing.assert_allclose(found["p_adjusted"], st.false_discovery_control(found["tail_probability"]))
    assert pd.api.types.is_integer_dtype(found["row"])
    assert found.attrs["p_adjusted"] == "exact"


@pytest.mark.parametrize("most", [10, 100])  # cells of less than a row, and of some
@pytest.mark.parametrize("entries", ["stored", "all"])
def test_blocks_make_no_difference(entries, most, monkeypatch) -> None:
    fitted = svi.fit(LatentFactor(2, unstored="zero"), MeanFieldNormal(), small_counts(), **OPTIONS)
    whole = anomalies(fitted, small_counts(), n=40, entries=entries)
    monkeypatch.setattr(predictive_module, "MAX_ENTRIES", most)
    pd.testing.assert_frame_equal(whole, anomalies(fitted, small_counts(), n=40, entries=entries))
    assert whole.attrs["scored"] == (1500 if entries == "all" else small_counts().X.nnz)


def test_whole_rows_come_in_blocks_of_some_cells(monkeypatch) -> None:
    monkeypatch.setattr(scored_module, "MAX_CELLS", 170)
    found = anomalies(trained(), small_counts(), n=10**5, draws=1, entries="all")
    assert found.attrs["scored"] == 60 * 25
    x = small_counts().to_df()
    assert all(x.loc[line.row, line.col] == line.value for line in found.itertuples())


def test_users_and_items_that_the_fit_never_saw(block_fit, split, renamed) -> None:
    test = split[1]
    other = renamed(test, {test.obs_names[0]: "9999"}, {test.var_names[0]: "8888"})
    found = anomalies(block_fit, other, n=10**6)
    assert 9999 in set(found["row"])
    assert 8888 in set(found["col"])


def fractions() -> ad.AnnData:
    cells = small_counts()
    cells.X.data[3] = 0.5
    return cells


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "Expected n of at least 1, got 0"),
        ({"draws": 0}, "Expected draws of at least 1, got 0"),
        ({"tail": "both"}, "Expected tail among two-sided, upper, lower, got 'both'"),
        ({"entries": "some"}, "Expected entries among stored, all, got 'some'"),
        ({"seed": -1}, "Expected a seed of at least 0"),
        ({"data": fractions()}, "Expected counts .*, got 0.5"),
        ({"data": mark(small_counts(), unstored="missing")}, "Expected"),
    ],
)
def test_misuse_gets_one_line(options, message) -> None:
    with pytest.raises(PlatewiseError, match=message) as error:
        anomalies(trained(), **({"data": small_counts()} | options))
    assert "\n" not in str(error.value)


def test_missing_entries_are_no_zeros_and_other_models_are_refused(block_fit, split, regression, people) -> None:
    with pytest.raises(PlatewiseError, match="what is not stored is missing"):
        anomalies(block_fit, split[1], entries="all")
    with pytest.raises(PlatewiseError, match="latents are all of rows"):
        anomalies(regression, people[0], covariates={"x": people[1]})
