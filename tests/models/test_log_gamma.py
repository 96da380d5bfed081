"""The logarithm of a gamma variable: density, moments, draws, and the normal's divergence from it."""

import numpy as np
import pytest
import torch
from platewise.models.log_gamma import LogGamma, expected_power
from scipy import integrate, stats
from torch.distributions import Gamma, Laplace, Normal, kl_divergence

SHAPES = pytest.mark.parametrize(("a", "b"), [(0.4, 1.0), (1.5, 1.5), (4.0, 0.5), (300.0, 300.0)])


def _law(a: float, b: float) -> LogGamma:
    return LogGamma(torch.tensor(a), torch.tensor(b))


def _integral(of: object, law: LogGamma) -> float:
    """Of a function times the density, over all that has mass."""
    low, high = float(law.mean - 40 * law.stddev), float(law.mean + 12 * law.stddev)
    value, _ = integrate.quad(lambda x: of(x) * np.exp(float(law.log_prob(torch.tensor(x)))), low, high, limit=400)
    return value


@SHAPES
def test_density_and_moments_are_those_of_quadrature(a, b):
    law = _law(a, b)
    assert _integral(lambda x: 1.0, law) == pytest.approx(1.0, rel=1e-6)
    assert _integral(lambda x: x, law) == pytest.approx(float(law.mean), abs=1e-6)
    assert _integral(lambda x: (x - float(law.mean)) ** 2, law) == pytest.approx(float(law.variance), rel=1e-5)


@SHAPES
def test_the_density_is_scipys(a, b):
    x = np.linspace(-3, 2, 7)
    expected = torch.from_numpy(stats.loggamma(a, loc=-np.log(b)).logpdf(x))
    torch.testing.assert_close(_law(a, b).log_prob(torch.from_numpy(x)), expected)


@SHAPES
def test_draws_are_of_that_law(a, b):
    x = _law(a, b).sample((4000,)).numpy()
    assert stats.kstest(x, stats.loggamma(a, loc=-np.log(b)).cdf).pvalue > 1e-4


def test_draws_of_a_tiny_shape_are_finite_and_have_gradients():
    a = torch.full((2000,), 1e-3, dtype=torch.float32, requires_grad=True)
    x = LogGamma(a, torch.ones(2000, dtype=torch.float32)).rsample()
    x.sum().backward()
    assert x.isfinite().all()
    assert a.grad.isfinite().all()


@pytest.mark.parametrize("t", [1.0, -1.0, 0.5])
def test_expected_powers_are_those_of_the_gamma_and_of_the_normal(t):
    law, q = _law(4.0, 0.5), Normal(torch.tensor(0.3), torch.tensor(0.7))
    assert float(expected_power(law, t)) == pytest.approx(_integral(lambda x: np.exp(t * x), law), rel=1e-6)
    draws = torch.randn(100_000).mul(0.7).add(0.3).mul(t).exp()
    assert abs(draws.mean() - expected_power(q, t)) < 5 * draws.std() / len(draws) ** 0.5
    assert float(expected_power(_law(4.0, 4.0), 1.0)) == pytest.approx(1.0)


def test_a_power_without_an_expectation_is_infinite_and_of_another_family_unknown():
    assert float(_law(0.9, 1.0).expected_power(-1.0)) == float("inf")
    with pytest.raises(NotImplementedError, match="Laplace"):
        expected_power(Laplace(0.0, 1.0), 1.0)


@pytest.mark.parametrize(("m", "s", "a", "b"), [(0.0, 1.0, 1.5, 1.5), (-2.0, 0.1, 4.0, 0.5), (1.0, 0.5, 50.0, 20.0)])
def test_the_divergence_of_a_normal_is_that_of_quadrature(m, s, a, b):
    q, p = stats.norm(m, s), stats.loggamma(a, loc=-np.log(b))
    expected, _ = integrate.quad(lambda x: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), m - 12 * s, m + 12 * s, limit=200)
    found = kl_divergence(Normal(torch.tensor(m), torch.tensor(s)), _law(a, b))
    assert float(found) == pytest.approx(expected, rel=1e-7)


def test_it_expands_and_is_the_logarithm_of_a_gamma():
    law = _law(2.0, 3.0).expand((5,))
    assert (law.batch_shape, law.rsample((4,)).shape) == ((5,), (4, 5))
    x = torch.tensor(0.4)
    expected = Gamma(2.0, 3.0).log_prob(x.exp()) + x  # and the Jacobian
    torch.testing.assert_close(law.log_prob(x), expected.expand(5))
