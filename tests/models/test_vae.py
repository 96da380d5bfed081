"""The VAE: the contract with every likelihood, its starting values, its covariates, and what it learns."""

from functools import cache
from typing import ClassVar

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.data import mark
from platewise.data.errors import PlatewiseError
from platewise.data.loader import MemoryRows, RowLoader
from platewise.guides import AmortizedNormal
from platewise.inference import Fitted, svi
from platewise.models import LIKELIHOODS, VAE
from platewise.testing.contract import ContractTests

from ..count_data import N_GENES, small_counts


@cache
def counts() -> ad.AnnData:
    return small_counts()


@cache
def presence() -> ad.AnnData:
    cells = counts().copy()
    cells.X.data[:] = 1
    return cells


class VAEContract(ContractTests):
    likelihood = "negative-binomial"
    make_guide = staticmethod(lambda: AmortizedNormal(hidden=8))
    make_data = staticmethod(counts)

    def make_model(self) -> VAE:
        return VAE(3, self.likelihood, hidden=8)


class TestNegativeBinomial(VAEContract):
    pass


class TestZeroInflated(VAEContract):
    likelihood = "zero-inflated-negative-binomial"


class TestPoisson(VAEContract):
    likelihood = "poisson"


class TestMultinomial(VAEContract):
    likelihood = "multinomial"


class TestGaussian(VAEContract):
    likelihood = "gaussian"


class TestBernoulli(VAEContract):
    likelihood = "bernoulli"
    make_data = staticmethod(presence)


class TestSeveralParticles(VAEContract):
    options: ClassVar = {"particles": 3}


class TestLinearDecoder(VAEContract):
    def make_model(self) -> VAE:
        return VAE(3, layers=0, categories={"batch": 2}, continuous={"depth": 2})

    def make_covariates(self) -> dict[str, np.ndarray]:
        return {"batch": np.arange(60) % 2, "depth": np.random.default_rng(0).normal(size=(60, 2))}


class TestDeepWithCovariates(TestLinearDecoder):
    make_guide = staticmethod(lambda: AmortizedNormal(hidden=8, layers=2))

    def make_model(self) -> VAE:
        return VAE(3, hidden=8, layers=2, categories={"batch": 2}, continuous={"depth": 2})


def batch_of(cells: ad.AnnData, **covariates: np.ndarray):
    return next(RowLoader(MemoryRows(cells.X), len(cells), covariates=covariates, dtype=torch.float64).in_order())


def test_every_likelihood_is_tested() -> None:
    tested = {case.likelihood for case in (TestNegativeBinomial, *VAEContract.__subclasses__())}
    assert tested == set(LIKELIHOODS)


def test_it_starts_at_the_genes_shares() -> None:
    model, batch = VAE(3), batch_of(counts())
    model.allocate(batch)
    model.double().initialise(batch)
    found = model.decoder.output.bias.softmax(-1)
    totals = torch.from_numpy(np.asarray(counts().X.sum(0)).ravel()).double()
    torch.testing.assert_close(found, (totals + 0.25) / (totals + 0.25).sum())


def test_it_starts_at_the_genes_dispersions() -> None:
    rng = np.random.default_rng(0)
    theta, mean = np.array([0.5, 2.0, 8.0]), np.array([20.0, 30.0, 50.0])
    x = rng.negative_binomial(theta, theta / (theta + mean), size=(20_000, 3)).astype(np.float32)
    x = np.hstack([x, (300 - x.sum(1, keepdims=True)).clip(0)])  # totals all but constant
    model, batch = VAE(1), batch_of(mark(ad.AnnData(sp.csr_matrix(x)), unstored="zero"))
    model.allocate(batch)
    model.double().initialise(batch)
    np.testing.assert_allclose(model.log_inverse_dispersion[:3].exp().detach(), theta, rtol=0.15)


def test_means_of_counts_add_up_to_each_cells_total() -> None:
    model, batch = VAE(3), batch_of(counts())
    model.allocate(batch)
    model.double()
    mean = model.likelihood(batch, torch.randn(len(batch.rows), 3)).mean
    torch.testing.assert_close(mean.sum(-1), batch.totals())


def test_a_batchs_offset_moves_its_own_cells_alone() -> None:
    batch = batch_of(counts(), batch=np.arange(60) % 2)
    model = VAE(3, layers=0, categories={"batch": 2})
    model.allocate(batch)
    model.double()
    z = torch.randn(60, 3)
    before = model.decoder(batch, z)
    model.decoder.offsets["batch"].weight.data[1] += 1.0
    moved = (model.decoder(batch, z) - before).abs().amax(1) > 0.5
    assert torch.equal(moved, batch.covariates["batch"] == 1)


@cache
def fitted() -> Fitted:
    options = {"epochs": 60, "batch_rows": 20, "device": "cpu", "progress": False}
    return svi.fit(VAE(2, hidden=16, dropout=0.0), AmortizedNormal(hidden=16, dropout=0.0), counts(), **options)


def test_embeddings_tell_kinds_of_cells_apart() -> None:
    batch = batch_of(counts()).to("cpu", torch.float32)
    z = fitted().guide.eval().posterior(batch)["z"].mean
    kind = torch.from_numpy(counts().obs["kind"].to_numpy())
    centres = torch.stack([z[kind == k].mean(0) for k in (0, 1)])
    assert (torch.cdist(z, centres).argmin(1) == kind).all()


def test_a_saved_fit_embeds_alike(tmp_path) -> None:
    fitted().save(tmp_path / "run")
    loaded, batch = Fitted.load(tmp_path / "run"), batch_of(counts()).to("cpu", torch.float32)
    z, again = (each.guide.eval().posterior(batch)["z"].mean for each in (fitted(), loaded))
    assert torch.equal(z, again)
    assert len(loaded.model.log_inverse_dispersion) == N_GENES


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VAE(0), "latent of at least 1"),
        (lambda: VAE(likelihood="normal"), "a likelihood among gaussian"),
        (lambda: VAE(dropout=1.0), "dropout from 0 to below 1"),
        (lambda: VAE(layers=-1), "layers of at least 0"),
        (lambda: AmortizedNormal(layers=-1), "layers of at least 0"),
        (lambda: svi.fit(VAE(categories={"batch": 2}), AmortizedNormal(), counts()), "covariate 'batch'"),
        (lambda: svi.fit(VAE(), AmortizedNormal(), mark(counts().copy(), unstored="missing")), "Expected counts"),
    ],
)
def test_misuse_gets_one_line(make, message: str) -> None:
    with pytest.raises(PlatewiseError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
