"""Fits of data drawn from the model: against the truth, a closed form, and a long run of NUTS."""

import numpy as np
import pyro
import pytest
import torch
from platewise.data import RowBatch, RowLoader, simulate_ratings
from platewise.data.loader import MemoryRows
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import svi
from platewise.models import LatentFactor
from pyro.infer import MCMC, NUTS

from ..regression_model import SLOPE_SCALE, Regression, RegressionGuide, regression_data

TRUTH = {"sigma": 0.5, "user_scale": [0.5, 0.5, 0.3], "item_scale": [0.5, 0.5, 0.3]}


@pytest.mark.parametrize(("family", "lowest"), [(MeanFieldNormal, 0.78), (RowBlockNormal, 0.85)])
def test_intervals_of_every_cell_hold_its_true_mean(family, lowest):
    """90 % intervals of the expected rating, of rated and unrated cells, when the model and its scales are right."""
    ratings, truth = simulate_ratings(LatentFactor(2, **TRUTH), 150, 60, 3000, given={"mu": 3.5}, seed=2)
    fitted = svi.fit(LatentFactor(2, **TRUTH), family(), ratings, epochs=80, batch_rows=50, seed=1, progress=False)
    mean, sd = _predictive(fitted)
    exact = _true_means(truth)
    error = mean - exact
    assert error.std() < 0.6 * exact.std()
    assert lowest < (abs(error) < 1.645 * sd).mean() < 0.95
    assert abs(error.mean()) < 0.05


def _predictive(fitted: svi.Fitted) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every cell's expected rating."""
    n, m = fitted.n_rows, fitted.n_cols
    crow, col = torch.arange(n + 1) * m, torch.arange(m).repeat(n)
    every = RowBatch(torch.arange(n), crow, col, torch.zeros(n * m), n, m).to("cpu", fitted.dtype)
    with torch.no_grad():
        mean, variance, _ = fitted.model.predictive_moments(every, fitted.guide.posterior(every))
    return mean.numpy(), variance.sqrt().numpy()


def _true_means(truth: dict[str, np.ndarray]) -> np.ndarray:
    return (truth["mu"] + truth["a"][:, None] + truth["b"] + truth["A"] @ truth["B"].T).ravel()


@pytest.mark.slow
def test_learned_scales_come_near_the_true_ones():
    ratings, _ = simulate_ratings(LatentFactor(2, **TRUTH), 300, 100, 9000, given={"mu": 3.5}, seed=2)
    model = LatentFactor(4)
    svi.fit(model, RowBlockNormal(), ratings, epochs=60, seed=1, progress=False)
    assert model.sigma.item() == pytest.approx(0.5, rel=0.05)
    user, item = model.log_user_scale.exp(), model.log_item_scale.exp()
    strength = (user[:-1] * item[:-1]).sort(descending=True).values
    assert strength[1] > 0.1 > 3 * strength[2]  # two factors are there, and two are pruned
    assert (user[-1] - 0.3).abs() < 0.08


@pytest.mark.parametrize("guide", [MeanFieldNormal, RowBlockNormal, lambda: RegressionGuide(60)])
def test_the_slope_is_that_of_the_closed_form(guide):
    """With noise and group scale given the posterior is normal, and so is each guide: means agree exactly."""
    ratings, covariates = regression_data()
    given = {"noise": 0.5, "group_scale": 0.6}
    guide = guide()
    if isinstance(guide, RegressionGuide):
        guide = _WithoutScale(60)
    about = {"covariates": covariates, "epochs": 150, "batch_rows": 60, "learning_rate": 0.1, "particles": 8}
    fitted = svi.fit(Regression(**given), guide, ratings, progress=False, seed=1, **about)
    mean, sd = _exact_slope(ratings.X, covariates["x"], **given)
    assert abs(_draws_of(fitted, "slope", covariates, ratings.X).mean() - mean) < 0.3 * sd


class _WithoutScale(RegressionGuide):
    """The guide by hand, of the model whose group scale is given."""

    def forward(self, batch: RowBatch) -> None:
        with pyro.poutine.block(hide=["group_scale"]):
            super().forward(batch)

    def __init__(self, n_rows: int) -> None:
        super().__init__(n_rows)
        for name in ("log_group_loc_unconstrained", "log_group_scale_unconstrained"):
            getattr(self, name).requires_grad_(False)


def _exact_slope(x, covariate: np.ndarray, noise: float, group_scale: float) -> tuple[float, float]:
    """Posterior mean and standard deviation of the slope, with the intercepts integrated out."""
    entries = x.tocoo()
    at, y = covariate[entries.row], entries.data
    same = (entries.row[:, None] == entries.row).astype(float)
    weights = np.linalg.inv(noise**2 * np.eye(len(y)) + group_scale**2 * same)
    precision = at @ weights @ at + SLOPE_SCALE**-2
    return float(at @ weights @ y / precision), float(precision**-0.5)


def _draws_of(fitted: svi.Fitted, site: str, covariates: dict, x) -> np.ndarray:
    loader = RowLoader(MemoryRows(x), x.shape[0], covariates=covariates, dtype=fitted.dtype)
    batch = loader.look(x.shape[0])
    torch.manual_seed(0)
    with torch.no_grad(), pyro.plate("draws", 4000, dim=-2):
        trace = pyro.poutine.trace(fitted.guide).get_trace(batch)
    return trace.nodes[site]["value"].numpy().ravel()


@pytest.mark.slow
def test_everything_unknown_agrees_with_a_long_run_of_nuts():
    """Noise fixed, group scale unknown: no closed form. Tolerances in posterior standard deviations."""
    ratings, covariates = regression_data(30, 6)
    batch = RowLoader(MemoryRows(ratings.X), 30, covariates=covariates, dtype=torch.float64).look(30)
    chain = MCMC(NUTS(Regression(noise=0.5)), num_samples=600, warmup_steps=300, disable_progbar=True)
    chain.run(batch)
    draws = chain.get_samples()
    about = {"covariates": covariates, "epochs": 400, "batch_rows": 30, "learning_rate": 0.05, "particles": 8}
    for guide in (MeanFieldNormal(), RowBlockNormal(), RegressionGuide(30)):
        fitted = svi.fit(Regression(noise=0.5), guide, ratings, progress=False, **about)
        for site in ("slope", "group_scale"):
            ours, sd = _draws_of(fitted, site, covariates, ratings.X), draws[site].std().item()
            assert abs(ours.mean() - draws[site].mean().item()) < 0.4 * sd, (site, type(guide).__name__)
            assert 0.3 < ours.std() / sd < 1.3, (site, type(guide).__name__)  # sites are independent: too narrow
