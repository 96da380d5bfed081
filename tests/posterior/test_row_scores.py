"""Bounds of rows' log evidence: exact where the guide is, ordered elsewhere, row by row, and what is refused."""

from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import mark
from platewise.data.errors import PlatewiseError
from platewise.guides import AmortizedNormal, MeanFieldNormal
from platewise.inference import Fitted, svi
from platewise.models import VAE, LatentFactor
from platewise.posterior import score_rows
from torch import nn

from ..count_data import small_counts

OPTIONS = {"epochs": 5, "batch_rows": 20, "device": "cpu", "progress": False, "dtype": torch.float64}


@cache
def fitted() -> Fitted:
    return svi.fit(VAE(2, hidden=16), AmortizedNormal(hidden=16), small_counts(), **OPTIONS)


class ExactGuide(nn.Module):
    """The posterior of a linear Gaussian VAE (probabilistic PCA)."""

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model, self.unused = model, nn.Parameter(torch.zeros(1))

    def forward(self, batch):
        weights, noise = self.model.decoder.output.weight, self.model.log_sigma.exp()
        scaled = weights / noise[:, None] ** 2
        cov = torch.linalg.inv(torch.eye(weights.shape[1]) + weights.T @ scaled)
        loc = (batch.dense() - self.model.decoder.output.bias) @ scaled @ cov
        with batch.row_plate("cells"):
            pyro.sample("z", dist.MultivariateNormal(loc + 0 * self.unused, cov))


def exact_fit() -> Fitted:
    model = VAE(2, "gaussian", layers=0)
    trained = svi.fit(model, AmortizedNormal(hidden=4), small_counts(), **OPTIONS)
    trained.guide = ExactGuide(model)
    return trained


def log_evidence(model: VAE, x: np.ndarray) -> np.ndarray:
    weights, sigma = model.decoder.output.weight.detach(), model.log_sigma.detach().exp()
    cov = weights @ weights.T + torch.diag(sigma**2)
    evidence = torch.distributions.MultivariateNormal(model.decoder.output.bias.detach(), cov)
    return evidence.log_prob(torch.from_numpy(x).double()).numpy()


def test_with_the_exact_posterior_both_bounds_are_the_log_evidence() -> None:
    trained, cells = exact_fit(), small_counts(1)
    found = score_rows(trained, cells, draws=3)
    expected = log_evidence(trained.model, cells.X.toarray())
    np.testing.assert_allclose(found["elbo"], expected, rtol=1e-9)
    np.testing.assert_allclose(found["log_likelihood_iw"], expected, rtol=1e-9)
    np.testing.assert_allclose(found["effective_draws"], 3, rtol=1e-6)


def test_the_second_bound_is_above_the_first_and_below_the_evidence() -> None:
    trained = svi.fit(VAE(2, "gaussian", layers=0), AmortizedNormal(hidden=4), small_counts(), **OPTIONS)
    found = score_rows(trained, small_counts(), draws=200)
    expected = log_evidence(trained.model, small_counts().X.toarray())
    assert (found["log_likelihood_iw"] >= found["elbo"]).all()
    assert found["log_likelihood_iw"].mean() < expected.mean()
    assert found["effective_draws"].between(1 - 1e-9, 200).all()


def test_rows_are_scored_one_by_one_and_genes_by_name() -> None:
    cells = small_counts(1)
    alone = score_rows(fitted(), cells[7:8].copy(), draws=1)
    assert list(alone.index) == ["cell7"]
    shuffled = cells[:, np.random.default_rng(0).permutation(cells.n_vars)].copy()
    pd.testing.assert_frame_equal(score_rows(fitted(), shuffled, draws=20), score_rows(fitted(), cells, draws=20))


def test_covariates_are_taken_by_name_or_in_order() -> None:
    cells = small_counts()
    model = VAE(2, hidden=8, categories={"batch": 2})
    batch = cells.obs["batch"]
    trained = svi.fit(model, AmortizedNormal(hidden=8), cells, covariates={"batch": batch.to_numpy()}, **OPTIONS)
    some = cells[10:30].copy()
    shuffled = batch.sample(frac=1, random_state=0)
    by_name, in_order = (
        score_rows(trained, some, draws=20, covariates={"batch": given})
        for given in (shuffled, some.obs["batch"].to_numpy())
    )
    pd.testing.assert_frame_equal(by_name, in_order)


def factor_fit() -> Fitted:
    return svi.fit(LatentFactor(2, unstored="zero"), MeanFieldNormal(), small_counts(), **OPTIONS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: score_rows(fitted(), small_counts(), draws=0), "at least 1 draw"),
        (lambda: score_rows(factor_fit(), small_counts()), "latents are all of rows"),
        (lambda: score_rows(fitted(), small_counts(), covariates={"age": np.zeros(60)}), "covariates of the fit"),
        (lambda: score_rows(fitted(), mark(small_counts(), unstored="missing")), "Expected"),
        (lambda: score_rows(fitted(), small_counts()[:, :20].copy()), "Expected"),
    ],
)
def test_misuse_gets_one_line(make, message: str) -> None:
    with pytest.raises(PlatewiseError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_fit_is_left_in_training_mode(tmp_path) -> None:
    assert isinstance(fitted().obs, pd.DataFrame)
    before = fitted().model.training
    score_rows(fitted(), small_counts(), draws=1)
    assert fitted().model.training == before
    assert isinstance(small_counts(), ad.AnnData)


def test_values_that_no_count_can_be_are_refused() -> None:
    logs = small_counts()
    logs.X = logs.X.log1p()
    with pytest.raises(PlatewiseError, match="Give the raw counts"):
        score_rows(fitted(), logs, draws=2)
