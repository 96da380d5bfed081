"""Generated cells: of the distribution that the program says, like the data, and sparse."""

import importlib
from functools import cache

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.data import meaning
from platewise.data.errors import PlatewiseError
from platewise.guides import AmortizedNormal, MeanFieldNormal
from platewise.inference import Fitted, svi
from platewise.models import VAE, LatentFactor
from platewise.posterior import generate, score_rows

from ..count_data import N_CELLS, N_GENES, small_counts

OPTIONS = {"epochs": 5, "batch_rows": 20, "device": "cpu", "progress": False, "dtype": torch.float64}


def counts_of_sites() -> ad.AnnData:
    """Cells of two sites, whose totals tell them apart."""
    cells = small_counts()
    cells.obs["site"] = np.where(cells.obs["batch"] == 0, "north", "south")
    cells.X = sp.csr_matrix(cells.X.multiply(1 + 99 * (cells.obs["batch"].to_numpy()[:, None] == 1)), dtype=np.float32)
    return cells


@cache
def vae(likelihood: str = "negative-binomial", epochs: int = 5) -> Fitted:
    model = VAE(2, likelihood, hidden=8, dropout=0.0)
    return svi.fit(model, AmortizedNormal(hidden=8, dropout=0.0), small_counts(), **{**OPTIONS, "epochs": epochs})


@cache
def vae_of_sites() -> Fitted:
    model = VAE(2, "multinomial", hidden=8, categories={"batch": 2})
    return svi.fit(model, AmortizedNormal(hidden=8), counts_of_sites(), covariates={"batch": "site"}, **OPTIONS)


def without_effects(likelihood: str, inverse_dispersion: float) -> tuple[Fitted, np.ndarray]:
    """A fit whose genes have known shares, whatever the embedding, and the shares."""
    fitted = svi.fit(VAE(2, likelihood, layers=0), AmortizedNormal(hidden=4), small_counts(), **OPTIONS)
    bias = torch.linspace(-2, 1, N_GENES)
    with torch.no_grad():
        fitted.model.decoder.output.weight.zero_()
        fitted.model.decoder.output.bias.copy_(bias)
        fitted.model.log_inverse_dispersion.fill_(np.log(inverse_dispersion))
        if hasattr(fitted.model, "zero_decoder"):
            fitted.model.zero_decoder.output.weight.zero_()
            fitted.model.zero_decoder.output.bias.fill_(np.log(0.3 / 0.7))
    return fitted, bias.softmax(0).numpy()


def totals(cells: ad.AnnData) -> np.ndarray:
    return np.asarray(cells.X.sum(1)).ravel()


@pytest.mark.parametrize(("likelihood", "extra"), [("negative-binomial", 0), ("zero-inflated-negative-binomial", 0.3)])
def test_moments_and_zeros_are_those_of_the_likelihood(likelihood: str, extra: float) -> None:
    n, theta = 4000, 2.0
    fitted, share = without_effects(likelihood, theta)
    x = generate(fitted, n, library_size=100.0).X.toarray()
    mu = 100 * share
    variance = (1 - extra) * (mu + mu**2 / theta) + extra * (1 - extra) * mu**2
    zeros = extra + (1 - extra) * (theta / (theta + mu)) ** theta
    assert (np.abs(x.mean(0) - (1 - extra) * mu) < 5 * np.sqrt(variance / n)).all()
    np.testing.assert_allclose(x.var(0), variance, rtol=0.35)  # heavy tails: its own error is some 5 %
    assert (np.abs((x == 0).mean(0) - zeros) < 5 * np.sqrt(zeros * (1 - zeros) / n)).all()


@pytest.mark.parametrize("like", ["prior", "posterior"])
def test_genes_have_the_datas_means_and_shares_of_zeros(like: str) -> None:
    data, new = small_counts().X.toarray(), generate(vae(epochs=60), 2000, like=like).X.toarray()
    error = data.std(0) / np.sqrt(N_CELLS) + 0.1
    assert (np.abs(new.mean(0) - data.mean(0)) < 4 * error).all()
    assert np.corrcoef(new.mean(0), data.mean(0))[0, 1] > 0.95
    zeros, expected = (new == 0).mean(0), (data == 0).mean(0)
    assert (np.abs(zeros - expected) < 4 * np.sqrt(expected * (1 - expected) / N_CELLS) + 0.05).all()


def test_library_sizes_and_covariates_are_drawn_jointly_from_cells() -> None:
    data, new = counts_of_sites(), generate(vae_of_sites(), 300)
    for site in ("north", "south"):
        of_site = set(totals(data)[data.obs["site"] == site])
        assert len(set(totals(new)[new.obs["site"] == site]) & of_site) > 10
        assert set(totals(new)[new.obs["site"] == site]) <= of_site
    assert 0.35 < (new.obs["site"] == "north").mean() < 0.65


def test_a_batch_and_a_library_size_can_be_chosen_and_then_no_data_are_needed() -> None:
    fitted = svi.fit(
        VAE(2, "multinomial", hidden=8, categories={"batch": 2}),
        AmortizedNormal(hidden=8),
        counts_of_sites(),
        covariates={"batch": "site"},
        **OPTIONS,
    )
    fitted.data = None
    new = generate(fitted, 20, batch="south", library_size=50)
    assert (new.obs["site"] == "south").all()
    assert (totals(new) == 50).all()
    for given, needs in (({"batch": "south"}, "library sizes"), ({"library_size": 50}, "covariates")):
        with pytest.raises(PlatewiseError, match=f"data= whose {needs} new cells are to get"):
            generate(fitted, 20, **given)
    assert set(totals(generate(fitted, 20, batch="south", data=counts_of_sites()))) <= set(totals(counts_of_sites()))


def test_cells_from_posteriors_are_like_their_templates() -> None:
    data = small_counts()
    new = generate(vae(epochs=60), 200, like="posterior")
    x, kind = new.X.toarray(), data.obs.loc[new.obs["template"], "kind"].to_numpy()
    shares = [data.X[data.obs["kind"].to_numpy() == k].sum(0).A1 for k in (0, 1)]
    score = x @ np.log((shares[1] / shares[1].sum() + 1e-3) / (shares[0] / shares[0].sum() + 1e-3))
    assert ((score > 0) == (kind == 1)).mean() > 0.95


def test_a_latent_library_size_is_drawn_and_not_chosen() -> None:
    model = VAE(2, hidden=8, library="latent")
    fitted = svi.fit(model, AmortizedNormal(hidden=8), small_counts(), **OPTIONS)
    fitted.data = None
    new = generate(fitted, 500)
    assert np.median(totals(new)) == pytest.approx(np.median(totals(small_counts())), rel=0.3)
    with pytest.raises(PlatewiseError, match="takes library sizes as given"):
        generate(fitted, 10, library_size=100)


def test_one_seed_one_result() -> None:
    first, again, other = (generate(vae(), 30, seed=seed).X for seed in (1, 1, 2))
    assert (first != again).nnz == 0
    assert (first != other).nnz > 0


def test_cells_are_counts_in_csr_by_the_fits_genes_made_in_blocks(monkeypatch) -> None:
    monkeypatch.setattr(importlib.import_module("platewise.posterior.generate"), "BATCH_ROWS", 7)
    new = generate(vae(), 50)
    assert new.X.format == "csr"
    assert new.X.nnz < new.X.shape[0] * new.X.shape[1]
    assert (new.X.data == np.round(new.X.data)).all()
    assert list(new.var_names) == list(vae().var.index)
    assert new.obs_names.is_unique
    assert meaning(new)["unstored"] == "zero"
    assert np.isfinite(score_rows(vae(), new, draws=2)).all(None)


def test_covariates_come_back_as_the_fit_reads_them() -> None:
    new = generate(vae_of_sites(), 10)
    assert list(new.obs["site"].cat.categories) == ["north", "south"]
    assert len(score_rows(vae_of_sites(), new, draws=2)) == 10


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: generate(vae(), 0), "at least 1 cell"),
        (lambda: generate(vae(), 5, like="data"), "'prior' or 'posterior'"),
        (lambda: generate(vae(), 5, library_size=-1), "library size above 0"),
        (lambda: generate(vae(), 5, batch="a"), "a fit with covariates to choose a level"),
        (lambda: generate(vae_of_sites(), 5, batch="west"), "among north, south"),
        (lambda: generate(vae("gaussian"), 5), "likelihood of counts to draw sparse cells"),
        (lambda: generate(factor_fit(), 5), "latents are all of rows"),
    ],
)
def test_misuse_gets_one_line(make, message: str) -> None:
    with pytest.raises(PlatewiseError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def factor_fit() -> Fitted:
    return svi.fit(LatentFactor(2, unstored="zero"), MeanFieldNormal(), small_counts(), **OPTIONS)
