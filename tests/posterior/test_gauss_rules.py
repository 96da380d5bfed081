"""Gauss rules against expectations in closed form."""

import numpy as np
import pytest
from platewise.posterior.gauss_rules import log_gamma_rule, normal_rule
from scipy.special import digamma, gammaln, polygamma


def test_the_normal_rule_knows_moments_of_log_normals():
    point, weight = normal_rule(16)
    assert weight.sum() == pytest.approx(1, abs=1e-12)
    for t in (-1.0, 0.5, 2.0):
        assert np.exp(t * point) @ weight == pytest.approx(np.exp(0.5 * t**2), rel=1e-8)


@pytest.mark.parametrize("shape", [1.5, 5.0, 100.0, 1e4])
def test_the_rule_of_a_log_gamma_knows_its_moments(shape):
    point, weight = log_gamma_rule(shape, 16)
    assert (weight > 0).all()
    assert weight @ point == pytest.approx(digamma(shape) - np.log(shape), abs=1e-9)
    assert weight @ point**2 - (weight @ point) ** 2 == pytest.approx(polygamma(1, shape), rel=1e-8)
    for t in (1.0, -0.5):
        exact = np.exp(gammaln(shape + t) - gammaln(shape) - t * np.log(shape))
        assert weight @ np.exp(t * point) == pytest.approx(exact, rel=1e-6)
