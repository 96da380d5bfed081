"""Refined posteriors: nearer to the best of the family, never reported by luck, row by row, and what is refused."""

from functools import cache

import numpy as np
import pandas as pd
import pyro.distributions as dist
import pytest
import torch
from platewise.data.errors import PlatewiseError
from platewise.guides import AmortizedFlow, AmortizedFullNormal, AmortizedNormal
from platewise.inference import Fitted, svi
from platewise.models import VAE
from platewise.posterior import refine, score_rows
from torch import Tensor

from ..count_data import small_counts

OPTIONS = {"batch_rows": 20, "device": "cpu", "progress": False, "dtype": torch.float64}
QUICK = {"steps": 30, "draws": 20}


@cache
def fitted(kind: type = AmortizedFullNormal, epochs: int = 3) -> Fitted:
    """A linear decoder and normal noise, where a row's posterior is normal; then weights that the encoder never met."""
    trained = svi.fit(VAE(2, "gaussian", layers=0), kind(hidden=8), small_counts(), epochs=epochs, **OPTIONS)
    trained.model.decoder.output.weight.data *= 5
    return trained


def log_evidence(model: VAE) -> np.ndarray:
    weight, sigma = model.decoder.output.weight.detach(), model.log_sigma.detach().exp()
    evidence = dist.MultivariateNormal(model.decoder.output.bias.detach(), weight @ weight.T + torch.diag(sigma**2))
    return evidence.log_prob(torch.from_numpy(small_counts().X.toarray()).double()).numpy()


def posterior_means(model: VAE) -> np.ndarray:
    weight = model.decoder.output.weight.detach() / model.log_sigma.detach().exp()[:, None]
    centred = torch.from_numpy(small_counts().X.toarray()).double() - model.decoder.output.bias.detach()
    scaled = centred / model.log_sigma.detach().exp()
    return (scaled @ weight @ torch.linalg.inv(torch.eye(2) + weight.T @ weight)).numpy()


def test_a_full_covariance_reaches_the_evidence_and_the_posterior() -> None:
    cells = small_counts()
    found = refine(fitted(), cells, steps=150, learning_rate=0.1, draws=50, key="Z")
    exact = log_evidence(fitted().model)
    assert (exact - found["elbo_amortised"]).mean() > 0.5
    np.testing.assert_allclose(found["elbo_refined"], exact, atol=0.3)
    np.testing.assert_allclose(cells.obsm["Z"], posterior_means(fitted().model), atol=0.2)
    assert (cells.obsm["Z_sd"] > 0).all()


@pytest.mark.parametrize("kind", [AmortizedNormal, AmortizedFullNormal])
def test_bounds_are_those_of_scored_rows_and_below_the_evidence(kind: type) -> None:
    found = refine(fitted(kind), small_counts(), steps=40, draws=60)
    scored = score_rows(fitted(kind), small_counts(), draws=60)
    assert abs(found["elbo_amortised"].mean() - scored["elbo"].mean()) < 0.5
    assert found["elbo_refined"].mean() < log_evidence(fitted(kind).model).mean() + 0.1
    assert found["gap"].mean() > 0
    np.testing.assert_allclose(found["gap"], found["elbo_refined"] - found["elbo_amortised"])


def test_a_row_that_does_not_gain_keeps_the_encoders_answer() -> None:
    """Steps so long that they lead nowhere."""
    found = refine(fitted(), small_counts(), steps=1, learning_rate=1e3, draws=5)
    assert (found["gap"] == 0).all()


def test_counts_and_covariates() -> None:
    cells = small_counts()
    covariates = {"batch": cells.obs["batch"].to_numpy()}
    model = VAE(2, hidden=8, categories={"batch": 2})
    trained = svi.fit(model, AmortizedNormal(hidden=8), cells, covariates=covariates, epochs=2, **OPTIONS)
    found = refine(trained, cells, covariates=covariates, **QUICK)
    assert found["gap"].mean() > 0


def test_numbers_beside_the_embedding_are_refined_too() -> None:
    cells = small_counts()
    model = VAE(2, hidden=8, library="latent")
    trained = svi.fit(model, AmortizedFullNormal(hidden=8), cells, epochs=2, **OPTIONS)
    trained.guide.encoder.output.bias.data[-2] += 0.5  # the sizes' locations: half as large again
    found = refine(trained, cells, key="Z", **QUICK)
    assert found["gap"].mean() > 1
    assert cells.obsm["Z"].shape == (60, 2)


def test_one_seed_gives_one_report_by_name() -> None:
    cells = small_counts(1)[7:12].copy()
    one, two = (refine(fitted(), cells, seed=5, steps=3, draws=2) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    assert list(one.index) == list(cells.obs_names)
    assert not cells.obsm


def values_of(trained: Fitted) -> list[Tensor]:
    return [x.clone() for module in (trained.model, trained.guide) for x in module.state_dict().values()]


def test_a_fit_is_left_as_it_is() -> None:
    before, training = values_of(fitted()), fitted().model.training
    refine(fitted(), small_counts(), steps=2, draws=2)
    assert all(torch.equal(x, y) for x, y in zip(before, values_of(fitted()), strict=True))
    assert fitted().model.training == training
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: refine(fitted(AmortizedFlow, 1), small_counts()), "got one by AmortizedFlow"),
        (lambda: refine(fitted(), small_counts(), steps=0), "at least 1"),
        (lambda: refine(fitted(), small_counts(), draws=0), "at least 1"),
        (lambda: refine(fitted(), small_counts(), learning_rate=float("nan")), "positive learning_rate"),
        (lambda: refine(fitted(), small_counts()[:, :20].copy()), "Expected"),
    ],
)
def test_misuse_gets_one_line(make, message: str) -> None:
    with pytest.raises(PlatewiseError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
