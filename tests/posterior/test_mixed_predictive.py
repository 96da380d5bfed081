"""Mixtures of normals with one mean: against Student's t, a fine grid, one normal, and data that one normal misses."""

import numpy as np
import pytest
from platewise.posterior.gauss_rules import log_gamma_rule, normal_rule
from platewise.posterior.mixed_predictive import MixedPredictive
from platewise.posterior.predictive import NormalPredictive
from scipy.integrate import quad
from scipy.stats import t as student

Y = np.array([-6.0, -2.5, -1.0, -0.2, 0.0, 0.6, 1.7, 3.0, 5.0])
LEVELS = (0.5, 0.8, 0.9, 0.95)


def mixture(variance, weight, n=9) -> MixedPredictive:
    """Entries of mean 0 whose normals all have these variances."""
    sd = np.sqrt(np.full(n, variance @ weight))
    return MixedPredictive(np.zeros(n), sd, np.tile(variance, (n, 1)), weight)


@pytest.mark.parametrize("shape", [3.0, 8.0, 1e4])
def test_with_a_gamma_precision_and_a_known_mean_it_is_students_t(shape):
    rule = log_gamma_rule(shape, 16)
    found, exact = mixture(np.exp(-rule.point), rule.weight), student(2 * shape)
    np.testing.assert_allclose(found.cdf(Y), exact.cdf(Y), atol=1e-6)
    np.testing.assert_allclose(found.log_density(Y), exact.logpdf(Y), atol=1e-3)
    for p in (0.005, 0.25, 0.5, 0.95):
        np.testing.assert_allclose(found.quantile(p), exact.ppf(p), atol=1e-4)


@pytest.mark.parametrize("spread", [0.1, 0.37, 0.6])  # a busy row; the least certain of MovieLens; one entry
@pytest.mark.parametrize("variance", [0.0, 0.3])  # of the expectation, in noise variances
def test_sixteen_points_do_what_four_thousand_do(spread, variance):
    rule, grid = normal_rule(16), np.linspace(-12, 12, 4001)
    fine = np.exp(-0.5 * grid**2)
    found = mixture(variance + np.exp(spread * rule.point), rule.weight)
    exact = mixture(variance + np.exp(spread * grid), fine / fine.sum())
    inside = exact.log_density(Y) > np.log(1e-6)
    np.testing.assert_allclose(found.cdf(Y), exact.cdf(Y), atol=1e-8)
    np.testing.assert_allclose(found.log_density(Y)[inside], exact.log_density(Y)[inside], atol=1e-3)
    np.testing.assert_allclose(found.tails(Y).above[inside], exact.tails(Y).above[inside], atol=1e-3)
    np.testing.assert_allclose(found.quantile(0.975), exact.quantile(0.975), atol=1e-6)


@pytest.mark.parametrize("p", [1e-6, 0.025, 0.3, 0.5, 0.9, 0.999])
def test_quantiles_are_where_the_distribution_function_says(p):
    rng = np.random.default_rng(0)
    variance = rng.uniform(0.01, 100, (200, 1)) * np.exp(rng.uniform(0, 2, (200, 1)) * normal_rule(8).point)
    found = MixedPredictive(
        rng.normal(size=200), np.sqrt(variance @ normal_rule(8).weight), variance, normal_rule(8).weight
    )
    np.testing.assert_allclose(found.cdf(found.quantile(p)), p, rtol=1e-7)
    lower, upper = found.interval(0.9)
    np.testing.assert_allclose(found.cdf(upper) - found.cdf(lower), 0.9, rtol=1e-8)


def test_of_one_part_it_is_the_normal():
    variance = np.array([[0.3], [2.0], [1.0]])
    normal = NormalPredictive(np.array([0.0, 1.0, -3.0]), np.sqrt(variance[:, 0]))
    mixed = MixedPredictive(normal.mean, normal.sd, variance, np.ones(1))
    y = np.array([0.5, -2.0, 10.0])
    for name in ("cdf", "log_density", "crps", "tails"):
        np.testing.assert_allclose(getattr(mixed, name)(y), getattr(normal, name)(y), rtol=1e-12)
    np.testing.assert_allclose(mixed.interval(0.8), normal.interval(0.8), rtol=1e-8)


def test_crps_against_its_integral():
    found = mixture(np.array([0.2, 1.0, 4.0]), np.array([0.3, 0.5, 0.2]), 1)

    def squared(x, y):
        return float((found.cdf(np.array([x])) - (x >= y))[0] ** 2)

    for y in (-1.0, 0.3, 5.0):
        exact = quad(squared, -25, y, (y,))[0] + quad(squared, y, 25, (y,))[0]
        assert found.crps(np.array([y]))[0] == pytest.approx(exact, abs=1e-6)


def test_tails_far_out_are_logarithms_and_not_zero():
    tails = mixture(np.array([0.5, 1.0]), np.array([0.5, 0.5]), 2).tails(np.array([60.0, -60.0]))
    assert tails.above[0] == pytest.approx(tails.below[1])
    assert -2000 < tails.above[0] < -1500


def test_it_covers_what_one_normal_of_the_same_variance_does_not():
    rule = log_gamma_rule(2.0, 16)
    y = student(4).rvs(20_000, random_state=1)
    mixed = mixture(np.exp(-rule.point), rule.weight, len(y))
    normal = NormalPredictive(mixed.mean, np.full(len(y), np.sqrt(2)))  # of four degrees of freedom
    off = {
        type(found).__name__: max(abs((np.abs(found.cdf(y) - 0.5) <= p / 2).mean() - p) for p in LEVELS)
        for found in (mixed, normal)
    }
    assert off["MixedPredictive"] < 0.01
    assert off["NormalPredictive"] > 0.05
    assert mixed.log_density(y).mean() > normal.log_density(y).mean() + 0.05
