"""A model without data: known divergences, and the normals that two of them choose."""

import math
import re

import pytest
import torch
from platewise.data import PlatewiseError, RowBatch
from platewise.guides import MeanFieldNormal
from platewise.inference import svi
from platewise.models import StudentT
from platewise.models.quadrature import divergence, divergence_integrand, real_line
from torch.distributions import Laplace, Normal, kl_divergence

GRID = real_line(1.0)


def _from_target(q: Normal, model: StudentT) -> float:
    """D[q || p], in nats."""
    return divergence(q.log_prob(GRID), model.log_prob(GRID), GRID).item()


def test_the_bound_finds_the_normal_nearest_to_the_target():
    model, guide = StudentT(), MeanFieldNormal()
    guide.setup(model, RowBatch.blank(1, 1))
    guide.set_blocks("x", torch.zeros(1, 1), torch.ones(1, 1))
    assert _from_target(Normal(0.0, 1.0), model) == pytest.approx(0.4271, abs=5e-5)
    fitted = svi.fit(model, guide, None, progress=False, dtype=torch.float64, min_steps=500)
    mean, sd = guide.blocks("x")[0].item(), guide.blocks("x")[1].sqrt().item()
    assert (mean, sd) == (pytest.approx(1.0, abs=0.03), pytest.approx(1.26, abs=0.03))
    assert _from_target(Normal(mean, sd), model) == pytest.approx(0.0407, abs=5e-4)
    last = fitted.history["elbo"].tail(100).mean()
    assert -last == pytest.approx(0.0407, abs=0.01)
    assert fitted.history["elbo"].iloc[0] == pytest.approx(-0.4271, abs=0.15)


def test_the_other_divergence_is_least_where_moments_match():
    model = StudentT()
    matched, p = model.matched_normal(), model.log_prob(GRID)

    def to_normal(loc: float, scale: float) -> float:
        return divergence(p, Normal(loc, scale).log_prob(GRID), GRID).item()

    mean, sd = matched.mean.item(), matched.stddev.item()
    assert (mean, sd) == (1.0, pytest.approx(math.sqrt(3)))
    entropy_of_normal = 0.5 * math.log(2 * math.pi * math.e * 3)
    assert to_normal(mean, sd) == pytest.approx(entropy_of_normal - model.target.entropy().item(), abs=3e-6)
    others = [(mean + 0.02, sd), (mean - 0.02, sd), (mean, sd + 0.02), (mean, sd - 0.02)]
    assert all(to_normal(mean, sd) < to_normal(*other) for other in others)


@pytest.mark.parametrize("moved", [(3.0, 2.0), (-5.0, 0.4)])
def test_the_target_moves_and_widens_as_told(moved):
    loc, scale = moved
    model = StudentT(5.0, loc, scale)
    x = torch.linspace(-8, 8, 9)
    standard = StudentT(5.0, 0.0, 1.0).log_prob((x - loc) / scale) - math.log(scale)
    torch.testing.assert_close(model.log_prob(x), standard)
    assert model.matched_normal().stddev.item() == pytest.approx(scale * math.sqrt(5 / 3))


@pytest.mark.parametrize(
    ("q", "p"),
    [(Normal(0.3, 0.7), Normal(1.0, 2.0)), (Normal(1.0, 1e-2), Normal(1.0, 3.0)), (Laplace(0, 1), Laplace(1, 2))],
)
def test_quadrature_agrees_with_closed_forms(q, p):
    got = divergence(q.log_prob(GRID), p.log_prob(GRID), GRID)
    torch.testing.assert_close(got, kl_divergence(q, p), atol=1e-6, rtol=0, check_dtype=False)


def test_the_integrand_is_zero_where_q_is_and_of_both_signs():
    q, p = (torch.tensor(x).log() for x in ([0.0, 0.2, 0.8], [0.5, 0.4, 0.1]))
    integrand = divergence_integrand(q, p)
    assert integrand[0] == 0
    assert integrand[1] < 0 < integrand[2]


def test_the_target_is_a_density():
    assert torch.trapezoid(StudentT().log_prob(GRID).exp(), GRID).item() == pytest.approx(1.0, abs=1e-7)


def test_a_target_without_mean_or_variance_is_fitted():
    guide = MeanFieldNormal()
    fitted = svi.fit(StudentT(df=0.8, loc=-2.0), guide, None, progress=False, min_steps=150)
    assert math.isfinite(fitted.elbo)
    assert guide.blocks("x")[0].item() == pytest.approx(-2.0, abs=0.3)


@pytest.mark.parametrize("given", [{"df": 0.0}, {"scale": -1.0}, {"loc": math.inf}])
def test_impossible_targets_are_refused(given):
    (name, value), *_ = given.items()
    with pytest.raises(PlatewiseError, match=f"df and scale positive, got .*{name}={re.escape(str(value))}"):
        StudentT(**given)


def test_no_normal_matches_moments_that_are_not_there():
    with pytest.raises(PlatewiseError, match=r"Expected df above 2.*got 2\.0"):
        StudentT(df=2.0).matched_normal()
