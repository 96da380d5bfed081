"""Options of the VAE: latent library sizes, dispersions per batch, sigma given or shared."""

from functools import cache

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
from platewise.models.vae_start import FEWEST_ROWS
from platewise.testing.contract import ContractTests

from ..count_data import N_CELLS, N_GENES, small_counts

TWO_BATCHES = {"categories": {"batch": 2}}


@cache
def counts() -> ad.AnnData:
    return small_counts()


def batch_of(cells: ad.AnnData, dtype: torch.dtype = torch.float64, **covariates: np.ndarray):
    return next(RowLoader(MemoryRows(cells.X), len(cells), covariates=covariates, dtype=dtype).in_order())


def ready(model: VAE, batch) -> VAE:
    model.allocate(batch)
    model.to(batch.value)
    model.initialise(batch)
    return model


class OptionsContract(ContractTests):
    make_guide = staticmethod(lambda: AmortizedNormal(hidden=8))
    make_data = staticmethod(counts)
    made_with = TWO_BATCHES

    def make_model(self) -> VAE:
        return VAE(3, hidden=8, **self.made_with)

    def make_covariates(self) -> dict[str, np.ndarray]:
        return {"batch": np.arange(N_CELLS) % 2}


class TestLatentLibrary(OptionsContract):
    made_with = {"library": "latent", **TWO_BATCHES}  # noqa: RUF012


class TestDispersionPerBatch(OptionsContract):
    made_with = {"dispersion": "gene-batch", **TWO_BATCHES}  # noqa: RUF012


class TestZeroInflatedDispersionPerBatch(OptionsContract):
    options = {"particles": 3}  # noqa: RUF012
    made_with = {  # noqa: RUF012
        "likelihood": "zero-inflated-negative-binomial",
        "library": "latent",
        "dispersion": "gene-batch",
        **TWO_BATCHES,
    }


class TestSharedSigma(OptionsContract):
    made_with = {"likelihood": "gaussian", "sigma": "shared", **TWO_BATCHES}  # noqa: RUF012


class TestGivenSigma(OptionsContract):
    made_with = {"likelihood": "gaussian", "sigma": 0.5, **TWO_BATCHES}  # noqa: RUF012


def two_depths() -> tuple[ad.AnnData, np.ndarray]:
    """Two batches of cells, of 100 and 1,000 counts at the median, and six cells of a third."""
    rng = np.random.default_rng(0)
    code = np.repeat([0, 1, 2], [300, 300, 6])
    totals = rng.lognormal(np.log([100, 1000, 500])[code], np.array([0.2, 0.5, 0.1])[code]).round()
    x = rng.multinomial(totals.astype(int), np.full(5, 0.2))
    return mark(ad.AnnData(sp.csr_matrix(x.astype(np.float32))), unstored="zero"), code


def test_latent_library_sizes_have_the_moments_of_their_batches_totals() -> None:
    cells, code = two_depths()
    model = ready(VAE(2, library="latent", categories={"batch": 3}), batch_of(cells, batch=code))
    log_totals = np.log(np.asarray(cells.X.sum(1)).ravel())
    for level in range(2):
        own = log_totals[code == level]
        np.testing.assert_allclose(model.library_loc[level], own.mean(), rtol=1e-6)
        np.testing.assert_allclose(model.library_scale[level], own.std(), rtol=1e-4)
    assert np.sum(code == 2) < FEWEST_ROWS
    np.testing.assert_allclose(model.library_loc[2], log_totals.mean(), rtol=1e-6)


def test_cells_of_one_total_have_a_proper_prior() -> None:
    x = sp.csr_matrix(np.full((20, 4), 3.0, np.float32))
    model = ready(VAE(2, library="latent"), batch_of(mark(ad.AnnData(x), unstored="zero")))
    assert 0 < model.library_scale.item() < 0.1


def test_latent_sizes_replace_the_totals() -> None:
    batch = batch_of(counts())
    model = ready(VAE(3, library="latent"), batch)
    z, log_library = torch.randn(N_CELLS, 3), torch.randn(N_CELLS)
    torch.testing.assert_close(model.likelihood(batch, z, log_library).mean.sum(-1), log_library.exp())
    torch.testing.assert_close(model.likelihood(batch, z).mean.sum(-1), batch.totals())


def test_fitted_sizes_are_near_the_totals() -> None:
    options = {"epochs": 150, "batch_rows": 20, "device": "cpu", "progress": False}
    guide = AmortizedNormal(hidden=16, dropout=0.0)
    fitted = svi.fit(VAE(2, hidden=16, dropout=0.0, library="latent"), guide, counts(), **options)
    batch = batch_of(counts(), torch.float32)
    log_library = fitted.guide.eval().posterior(batch)["log_library"].mean.detach()
    assert np.corrcoef(log_library, batch.totals().log())[0, 1] > 0.9


def test_dispersions_start_at_those_of_each_batch() -> None:
    rng = np.random.default_rng(0)
    theta, code, mean = np.array([[0.5, 8.0], [4.0, 1.0]]), np.arange(40_000) % 2, np.array([20.0, 30.0])
    x = rng.negative_binomial(theta[code], (theta / (theta + mean))[code]).astype(np.float32)
    x = np.hstack([x, (5000 - x.sum(1, keepdims=True)).clip(0)])  # totals all but constant
    batch = batch_of(mark(ad.AnnData(sp.csr_matrix(x)), unstored="zero"), batch=code)
    model = ready(VAE(1, dispersion="gene-batch", **TWO_BATCHES), batch)
    found = model.log_theta(batch)[:2, :2].exp().detach()
    np.testing.assert_allclose(found, theta, rtol=0.15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("likelihood", ["negative-binomial", "zero-inflated-negative-binomial"])
def test_a_batchs_dispersion_learns_from_its_own_cells_as_one_per_gene_does(likelihood: str, dtype) -> None:
    """Rows of one batch alone: the gradient is that of the model with one dispersion per gene."""
    code = np.ones(N_CELLS, int)
    batch = batch_of(counts(), dtype, batch=code)
    grads = []
    for dispersion in ("gene", "gene-batch"):
        torch.manual_seed(0)
        model = ready(VAE(3, likelihood, hidden=8, dropout=0.0, dispersion=dispersion, **TWO_BATCHES), batch)
        model.log_inverse_dispersion.data.fill_(0.3)
        model.likelihood(batch, torch.ones(N_CELLS, 3, dtype=dtype)).log_prob(batch.value).sum().backward()
        grads.append(model.log_inverse_dispersion.grad.view(-1, N_GENES))
    gene, gene_batch = grads
    assert not gene_batch[0].any()
    torch.testing.assert_close(gene_batch[1], gene[0])


def test_gradients_by_batchs_dispersions_are_right() -> None:
    batch = batch_of(counts(), batch=np.arange(N_CELLS) % 2)
    model = ready(VAE(2, hidden=4, dropout=0.0, dispersion="gene-batch", **TWO_BATCHES), batch)
    z, start = torch.randn(N_CELLS, 2), model.log_inverse_dispersion.detach().clone()

    def log_prob(log_theta: torch.Tensor) -> torch.Tensor:
        about = {"log_inverse_dispersion": log_theta}
        return torch.func.functional_call(Scored(model), {f"model.{k}": v for k, v in about.items()}, (batch, z))

    assert torch.autograd.gradcheck(log_prob, start[:].requires_grad_(), fast_mode=True)


class Scored(torch.nn.Module):
    """Log-likelihood of a batch, as a call."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch, z: torch.Tensor) -> torch.Tensor:
        return self.model.likelihood(batch, z).log_prob(batch.value).sum()


def test_given_sigma_stays_and_shared_sigma_is_one_number() -> None:
    options = {"epochs": 2, "batch_rows": 20, "device": "cpu", "progress": False}
    given = svi.fit(VAE(2, "gaussian", hidden=4, sigma=0.1), AmortizedNormal(hidden=4), counts(), **options)
    assert given.model.log_sigma.exp().item() == pytest.approx(0.1)
    shared = svi.fit(VAE(2, "gaussian", hidden=4, sigma="shared"), AmortizedNormal(hidden=4), counts(), **options)
    assert shared.model.log_sigma.shape == ()
    assert shared.model.log_sigma.requires_grad


@pytest.mark.parametrize(
    "made_with",
    [
        {"library": "latent", "dispersion": "gene-batch", **TWO_BATCHES},
        {"likelihood": "gaussian", "sigma": "shared"},
        {"likelihood": "gaussian", "sigma": 0.3},
    ],
)
def test_a_saved_fit_is_read_with_its_options(tmp_path, made_with: dict) -> None:
    about = {"batch": np.arange(N_CELLS) % 2} if "categories" in made_with else {}
    model, guide = VAE(2, hidden=4, **made_with), AmortizedNormal(hidden=4)
    fitted = svi.fit(model, guide, counts(), epochs=1, device="cpu", progress=False, covariates=about)
    fitted.save(tmp_path / "run")
    loaded = Fitted.load(tmp_path / "run")
    assert loaded.model.config == model.config
    for name, x in model.state_dict().items():
        assert torch.equal(x, loaded.model.state_dict()[name])


@pytest.mark.parametrize(
    ("made_with", "message"),
    [
        ({"library": "known"}, "library among observed, latent"),
        ({"dispersion": "cell"}, "dispersion among gene, gene-batch"),
        ({"likelihood": "multinomial", "library": "latent"}, "poisson or a negative binomial for a latent library"),
        ({"likelihood": "gaussian", "library": "latent"}, "poisson or a negative binomial for a latent library"),
        ({"dispersion": "gene-batch"}, 'a category "batch"'),
        ({"dispersion": "gene-batch", "categories": {"donor": 2}}, 'a category "batch"'),
        ({"likelihood": "poisson", "dispersion": "gene-batch", **TWO_BATCHES}, "Expected a negative binomial"),
        ({"sigma": 0.1}, "sigma for gaussian alone"),
        ({"likelihood": "gaussian", "sigma": 0.0}, "sigma positive and finite"),
        ({"likelihood": "gaussian", "sigma": "gene"}, 'or "shared"'),
    ],
)
def test_options_that_do_not_go_together_get_one_line(made_with: dict, message: str) -> None:
    with pytest.raises(PlatewiseError, match=message) as error:
        VAE(**made_with)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"categories": {"donor.id": 2}}, "without dots that torch does not use itself, got 'donor.id'"),
        ({"categories": {"type": 2}}, "torch does not use itself, got 'type'"),
        ({"categories": {"batch": 0}}, "1 or more, got 0. The column to read it off goes to fit"),
        ({"continuous": {"age": 0}}, "1 or more, got 0"),
        ({"categories": {"age": 3}, "continuous": {"age": 1}}, "got 'age' as both kinds"),
    ],
)
def test_covariates_that_cannot_be_are_refused(options: dict, message: str) -> None:
    with pytest.raises(PlatewiseError, match=message):
        VAE(2, **options)


@pytest.mark.parametrize("likelihood", [name for name in LIKELIHOODS if name != "gaussian"])
def test_values_that_the_likelihood_is_not_of_are_refused(likelihood: str) -> None:
    cells = counts().copy()
    cells.X.data = np.log1p(cells.X.data)
    with pytest.raises(PlatewiseError, match=f"for {likelihood}, got .* Give the raw counts"):
        svi.fit(VAE(2, likelihood, hidden=4), AmortizedNormal(hidden=4), cells, epochs=1, progress=False)


def test_an_entry_that_is_stored_twice_is_refused() -> None:
    x = counts().X
    twice = (np.r_[x.data[:1], x.data], np.r_[x.indices[:1], x.indices], np.r_[0, x.indptr[1:] + 1])
    cells = mark(ad.AnnData(sp.csr_matrix(twice, shape=x.shape)), unstored="zero")
    with pytest.raises(PlatewiseError, match="Expected each entry once, got duplicate entries"):
        svi.fit(VAE(2, hidden=4), AmortizedNormal(hidden=4), cells, epochs=1, progress=False)
