"""Pareto k-hat of weights: that of ArviZ in both majors, of known tails, and at the edges."""

import math

import arviz as az
import numpy as np
import pytest
from arviz_stats.base import array_stats
from platewise.posterior.pareto import k_threshold, pareto_k


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("n", [100, 1000])
def test_it_is_that_of_arviz(n: int, scale: float) -> None:
    x = scale * np.random.default_rng(n).normal(size=n)
    assert pareto_k(x[:, None])[0] == pytest.approx(az.psislw(x.copy())[1], abs=1e-6)
    assert pareto_k(x[:, None])[0] == pytest.approx(array_stats.psislw(-x)[1], abs=0.1)  # one weight less in the tail


@pytest.mark.parametrize("shape", [0.2, 0.5, 1.0])
def test_the_shape_of_a_pareto_tail_is_found(shape: float) -> None:
    weights = np.random.default_rng(0).pareto(1 / shape, size=(20_000, 1)) + 1
    assert pareto_k(np.log(weights))[0] == pytest.approx(shape, abs=0.1)


def test_a_constant_factor_and_the_order_of_draws_do_not_matter() -> None:
    x = np.random.default_rng(0).normal(size=(500, 1))
    np.testing.assert_allclose(pareto_k(np.hstack([x, x + 1e4, x[::-1]])), pareto_k(x)[0], rtol=1e-6)


def test_the_edges() -> None:
    x = np.random.default_rng(0).normal(size=200)
    same, one = np.zeros(200), np.append(np.full(199, -np.inf), 0)
    with_zero, with_nan, with_inf = (np.append(x, y) for y in (-np.inf, np.nan, np.inf))
    assert pareto_k(np.stack([same, one], 1)).tolist() == [-math.inf, math.inf]
    k = pareto_k(np.stack([with_zero, with_nan, with_inf], 1))
    assert np.isfinite(k).tolist() == [True, False, False]
    assert np.isnan(k[1:]).all()


def test_the_threshold_rises_to_seven_tenths() -> None:
    assert k_threshold(100) == pytest.approx(0.5)
    assert k_threshold(1000) == pytest.approx(2 / 3)
    assert k_threshold(10**5) == 0.7
