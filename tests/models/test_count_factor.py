"""The factor model of counts: the contract, its starts, recovery of log rates, and what does not suit it."""

from functools import cache

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.data import mark
from platewise.data.errors import PlatewiseError
from platewise.data.loader import MemoryRows, RowLoader
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent, natural_gradient, svi
from platewise.models import CountFactor
from platewise.models.latent_factor import Latents
from platewise.posterior import embed, factors
from platewise.testing.contract import ContractTests

from ..count_data import N_CELLS, N_GENES, small_counts

QUICK = {"device": "cpu", "progress": False}


@cache
def counts() -> ad.AnnData:
    return small_counts()


class CountFactorContract(ContractTests):
    global_sites = ("mu", "item")
    make_data = staticmethod(counts)
    likelihood = "negative-binomial"

    def make_model(self) -> CountFactor:
        return CountFactor(2, self.likelihood)


class TestRowBlock(CountFactorContract):
    make_guide = RowBlockNormal


class TestMeanField(CountFactorContract):
    make_guide = MeanFieldNormal


class TestPoissonSeveralParticles(CountFactorContract):
    make_guide = RowBlockNormal
    likelihood = "poisson"
    options = {"particles": 3}  # noqa: RUF012


def whole(cells: ad.AnnData, dtype: torch.dtype = torch.float64):
    return next(RowLoader(MemoryRows(cells.X), len(cells), dtype=dtype).in_order())


def ready(model: CountFactor, batch) -> dict:
    model.allocate(batch)
    model.to(batch.value)
    return model.initialise(batch)


def latents_at(starts: dict, rank: int) -> Latents:
    return Latents(starts["mu"][0], torch.zeros(N_CELLS, rank + 1), starts["item"][0], None)


def test_it_starts_at_the_genes_shares_of_each_cells_total() -> None:
    model, batch = CountFactor(2), whole(counts())
    starts = ready(model, batch)
    mean = model.likelihood(batch, latents_at(starts, 2)).mean
    torch.testing.assert_close(mean.sum(-1), batch.totals())
    share = (batch.dense().sum(0) + 0.25) / (batch.dense() + 0.25 / N_CELLS).sum()
    torch.testing.assert_close(mean / batch.totals()[:, None], share.expand(N_CELLS, -1))


def test_log_means_are_the_formula() -> None:
    model, batch = CountFactor(2, "poisson"), whole(counts())
    ready(model, batch)
    mu, user, item = torch.randn(()), torch.randn(N_CELLS, 3), torch.randn(N_GENES, 3)
    found = model.log_mean(batch, Latents(mu, user, item, None))
    i, j = 7, 11
    expected = batch.totals()[i].log() + mu + user[i, 2] + item[j, 2] + user[i, :2] @ item[j, :2]
    torch.testing.assert_close(found[i, j], expected)


@cache
def clear_signal(likelihood: str) -> tuple[ad.AnnData, np.ndarray]:
    """Cells of three factors, with the log of each expected count."""
    rng = np.random.default_rng(0)
    rows, cols = rng.normal(size=(200, 3)), 0.5 * rng.normal(size=(60, 3))
    rate = np.exp(rows @ cols.T + rng.normal(size=60))
    mean = rng.lognormal(6.5, 0.4, (200, 1)) * rate / rate.sum(1, keepdims=True)
    noise = rng.gamma(3.0, 1 / 3.0, mean.shape) if likelihood == "negative-binomial" else 1.0
    cells = ad.AnnData(sp.csr_matrix(rng.poisson(mean * noise).astype(np.float32)))
    return mark(cells, unstored="zero"), np.log(mean)


@cache
def fitted(likelihood: str) -> Fitted:
    return svi.fit(CountFactor(3, likelihood), RowBlockNormal(), clear_signal(likelihood)[0], batch_rows=40, **QUICK)


@pytest.mark.parametrize("likelihood", ["poisson", pytest.param("negative-binomial", marks=pytest.mark.slow)])
def test_it_recovers_log_rates(likelihood: str) -> None:
    cells, truth = clear_signal(likelihood)
    (mu, _), (user, _), (item, _) = (fitted(likelihood).guide.blocks(site) for site in CountFactor.factor_sites)
    latents = Latents(mu[0, 0], user, item, None)
    found = fitted(likelihood).model.log_mean(whole(cells, torch.float32), latents).numpy()
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.95
    within_gene = [x - x.mean(0) for x in (found, truth)]
    assert np.corrcoef(*(x.ravel() for x in within_gene))[0, 1] > 0.9


def test_factors_are_read_in_the_canonical_frame() -> None:
    cells = clear_signal("poisson")[0].copy()
    found = factors(fitted("poisson"))
    assert (np.diff(found.strength) <= 0).all()
    np.testing.assert_allclose(found.obsm["X_factors"].mean(0), 0, atol=1e-5)
    embed(fitted("poisson"), cells)
    assert cells.obsm["X_platewise"].shape == (200, 3)
    assert cells.varm["X_platewise"].shape == (60, 3)


def test_a_saved_fit_has_its_parameters(tmp_path) -> None:
    fitted("negative-binomial").save(tmp_path / "run")
    loaded = Fitted.load(tmp_path / "run")
    assert loaded.model.config == {"rank": 3, "likelihood": "negative-binomial"}
    for name, x in fitted("negative-binomial").model.state_dict().items():
        assert torch.equal(x, loaded.model.state_dict()[name])


def test_cells_and_genes_all_but_empty_leave_the_bound_finite() -> None:
    x = counts().X.toarray()
    x[0], x[1], x[:, 3] = 0, 0, 0
    x[1, 5] = 1
    cells = mark(ad.AnnData(sp.csr_matrix(x)), unstored="zero")
    history = svi.fit(CountFactor(2), RowBlockNormal(), cells, epochs=20, batch_rows=20, **QUICK).history
    assert np.isfinite(history["elbo"]).all()
    assert not history["skipped"].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CountFactor(0), "rank of at least 1"),
        (lambda: CountFactor(2, "gaussian"), "a likelihood among poisson, negative-binomial"),
        (lambda: svi.fit(CountFactor(40), RowBlockNormal(), counts(), **QUICK), "rank of at most 25"),
        (lambda: coordinate_ascent.fit(CountFactor(2), RowBlockNormal(), counts()), "Fit it by svi"),
        (lambda: natural_gradient.fit(CountFactor(2), RowBlockNormal(), counts()), "Fit it by svi"),
        (
            lambda: svi.fit(CountFactor(2), RowBlockNormal(), mark(counts().copy(), unstored="missing"), **QUICK),
            "Expected counts",
        ),
        (
            lambda: svi.fit(CountFactor(2), RowBlockNormal(), counts(), likelihood="closed-form", **QUICK),
            "Use likelihood='sampled'",
        ),
    ],
)
def test_misuse_gets_one_line(make, message: str) -> None:
    with pytest.raises(PlatewiseError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
