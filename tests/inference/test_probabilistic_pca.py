"""A linear Gaussian VAE is probabilistic PCA, whose likelihood and whose optimum are known.

References:
    Tipping and Bishop (1999), Probabilistic principal component analysis.
    Lucas, Tucker, Grosse and Norouzi (2019), Don't blame the ELBO! A linear VAE perspective on posterior collapse.
"""

from functools import cache
from typing import Any

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.data import RowBatch, mark
from platewise.data.loader import MemoryRows, RowLoader
from platewise.guides import AmortizedFullNormal, AmortizedNormal
from platewise.inference import Fitted, svi
from platewise.inference.elbo import SampledELBO
from platewise.models import VAE

N_ROWS, N_COLS, RANK = 400, 20, 3


@cache
def rows() -> ad.AnnData:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(RANK, N_COLS)) * np.array([[2.0], [1.2], [0.8]])
    x = rng.normal(size=(N_ROWS, RANK)) @ weights + rng.normal(size=N_COLS) + 0.7 * rng.normal(size=(N_ROWS, N_COLS))
    return mark(ad.AnnData(sp.csr_matrix(x.astype(np.float32))), unstored="zero")


def spectrum() -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of the rows' covariance, descending, and eigenvectors, (N_COLS, N_COLS)."""
    values, vectors = np.linalg.eigh(np.cov(rows().X.toarray(), rowvar=False, bias=True))
    return values[::-1].copy(), vectors[:, ::-1].copy()


def largest_log_likelihood() -> float:
    """Of a row, on average, at the maximum: the noise is the mean of the eigenvalues that no factor takes."""
    values, _ = spectrum()
    noise = values[RANK:].mean()
    log_det = np.log(values[:RANK]).sum() + (N_COLS - RANK) * np.log(noise)
    return float(-(N_COLS * np.log(2 * np.pi) + log_det + N_COLS) / 2)


def linear_vae(guide: type) -> tuple[VAE, Any]:
    model = VAE(RANK, "gaussian", layers=0, dropout=0.0, sigma="shared")
    return model, guide(hidden=N_COLS, layers=0, dropout=0.0, inputs="raw")


@cache
def fitted() -> Fitted:
    options = {"epochs": 200, "batch_rows": 200, "learning_rate": 0.05, "weight_decay": 0.0, "kl_warmup": 0.0}
    return svi.fit(*linear_vae(AmortizedFullNormal), rows(), device="cpu", progress=False, **options)


def all_rows(dtype: torch.dtype) -> RowBatch:
    return next(RowLoader(MemoryRows(rows().X), N_ROWS, dtype=dtype).in_order())


def test_the_model_finds_the_largest_likelihood() -> None:
    """In closed form: x ~ Normal(bias, W W' + sigma^2)."""
    model = fitted().model
    weights, bias = (x.detach().double() for x in (model.decoder.output.weight, model.decoder.output.bias))
    noise = (2 * model.log_sigma.detach().double()).exp() * torch.eye(N_COLS)
    marginal = torch.distributions.MultivariateNormal(bias, weights @ weights.T + noise)
    found = marginal.log_prob(torch.from_numpy(rows().X.toarray()).double()).mean().item()
    assert found == pytest.approx(largest_log_likelihood(), rel=5e-3)
    assert found <= largest_log_likelihood()


@torch.no_grad()
def test_the_bound_finds_the_largest_likelihood() -> None:
    bound = SampledELBO(fitted().model.eval(), fitted().guide.eval(), 100)(all_rows(torch.float32)) / N_ROWS
    assert bound.item() == pytest.approx(largest_log_likelihood(), rel=5e-3)


@torch.no_grad()
def test_a_factorised_posterior_is_exact_in_the_principal_axes() -> None:
    """With the parameters set to the solution: W = U (D - sigma^2)^(1/2), q's mean D^-1 W' (x - bias)."""
    model, guide = linear_vae(AmortizedNormal)
    batch = all_rows(torch.float64)
    model.allocate(batch)
    guide.setup(model, batch)
    values, vectors = (torch.from_numpy(x) for x in spectrum())
    noise, taken = values[RANK:].mean(), values[:RANK]
    weights, bias = vectors[:, :RANK] * (taken - noise).sqrt(), torch.from_numpy(rows().X.toarray()).double().mean(0)
    model.decoder.output.weight.copy_(weights)
    model.decoder.output.bias.copy_(bias)
    model.log_sigma.copy_(noise.log() / 2)
    to_mean = weights.T / taken[:, None]
    guide.encoder.first.copy_(torch.eye(N_COLS))
    guide.encoder.output.weight.copy_(torch.cat([to_mean, torch.zeros_like(to_mean)]))
    guide.encoder.output.bias.copy_(torch.cat([-to_mean @ bias, (noise / taken).log() / 2]))
    bound = SampledELBO(model, guide, 400)(batch) / N_ROWS
    assert bound.item() == pytest.approx(largest_log_likelihood(), rel=1e-3)
