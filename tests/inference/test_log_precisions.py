"""Posteriors of log precisions: each update against numerical maximisation, and the limits of the data."""

import math

import numpy as np
import pytest
import torch
from platewise.inference.log_precisions import LogPrecisions, Precisions
from platewise.models.log_gamma import LogGamma
from scipy import optimize, special
from torch.distributions import Normal, kl_divergence

BOUNDS = (1.5, 1e4)


def _random(n: int = 20, shape: float = 3.0, bounds: tuple[float, float] | None = BOUNDS) -> LogPrecisions:
    return LogPrecisions(0.5 * torch.randn(n), torch.rand(n) + 0.1, shape, bounds)


@pytest.mark.parametrize(("n", "r", "a"), [(0, 0.0, 1.5), (1, 5.0, 3.0), (40, 12.0, 8.0), (3000, 2900.0, 50.0)])
def test_the_update_is_the_maximum_of_the_bound_over_normals(n, r, a):
    def loss(x: np.ndarray) -> float:
        m, log_s = x
        weight = math.exp(m + 0.5 * math.exp(2 * log_s))
        return -((n / 2 + a) * m - (r / 2 + a) * weight + log_s)

    best = optimize.minimize(loss, [0.0, -1.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13})
    found = LogPrecisions(torch.zeros(1), torch.ones(1), a).updated(torch.tensor([float(n)]), torch.tensor([r]))
    assert found.mean.item() == pytest.approx(best.x[0], abs=1e-5)
    assert found.variance.item() == pytest.approx(math.exp(2 * best.x[1]), rel=1e-4)
    assert found.weight.item() == pytest.approx((n / 2 + a) / (r / 2 + a))  # of the gamma posterior, too


def test_without_entries_every_weight_is_one():
    side = _random().without_data()
    torch.testing.assert_close(side.weight, torch.ones(20))
    same = side.updated(torch.zeros(20), torch.zeros(20))
    torch.testing.assert_close(same.mean, side.mean)
    assert Precisions(None, None).without_data().are_constant


def test_the_divergence_is_torchs():
    side = _random()
    law = LogGamma(torch.tensor(3.0), torch.tensor(3.0))
    expected = kl_divergence(Normal(side.mean, side.variance.sqrt()), law.expand((20,))).sum()
    assert side.divergence() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("spread", [0.02, 0.2, 0.6])
def test_the_best_shape_is_that_of_a_search(spread):
    side = LogPrecisions(spread * torch.randn(500), torch.full((500,), 0.5 * spread**2), 3.0, BOUNDS)
    c = float((side.mean - side.weight).mean())
    best = optimize.minimize_scalar(
        lambda x: -(math.exp(x) * x - special.gammaln(math.exp(x)) + math.exp(x) * c), (0.5, 2.0), tol=1e-10
    )
    assert side.with_best_shape().shape == pytest.approx(math.exp(best.x), rel=1e-4)


@pytest.mark.parametrize(("spread", "expected"), [(3.0, 1.5), (1e-6, 1e4)])
def test_a_shape_beyond_its_bounds_stays_at_one(spread, expected):
    side = LogPrecisions(spread * torch.randn(500), torch.full((500,), 1e-13), 3.0, BOUNDS)
    assert side.with_best_shape().shape == expected


def test_a_given_shape_stays():
    side = _random(bounds=None)
    assert side.with_best_shape() is side


def test_centring_is_the_shift_that_costs_least():
    side = _random()
    shift = side.centring()
    assert side.shifted(shift).weight.mean().item() == pytest.approx(1.0)
    costs = [side.shifted(shift + d).divergence() for d in (-1e-3, 0.0, 1e-3)]
    assert costs[1] < min(costs[0], costs[2])
