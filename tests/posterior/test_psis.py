"""Smoothed importance weights: ArviZ's of either major version, and what it has no answer to."""

import arviz
import numpy as np
import pytest
from platewise.posterior import psis
from platewise.posterior.pareto import pareto_k


@pytest.fixture
def ratios():
    return np.random.default_rng(0).normal(0, [0.1, 1.0, 4.0], size=(1000, 3))


def test_weights_are_normalised_and_their_order_is_kept(ratios):
    weights, k_hat = psis.smoothed(ratios + 700)
    np.testing.assert_allclose(np.exp(weights).sum(0), 1)
    np.testing.assert_array_equal(np.argsort(weights[:, 1]), np.argsort(ratios[:, 1]))
    np.testing.assert_allclose(k_hat, pareto_k(ratios))
    assert k_hat[0] < 0.3 < 0.7 < k_hat[2]


def test_both_major_versions_say_the_same(ratios, monkeypatch):
    pytest.importorskip("arviz_stats")
    if not hasattr(arviz, "psislw"):
        pytest.skip("ArviZ 0.x is not installed")
    here = psis.smoothed(ratios)
    for version in ("0.23.4", "1.0.0"):
        monkeypatch.setattr(psis, "version", lambda name, v=version: v)
        there = psis.smoothed(ratios)
        np.testing.assert_allclose(there[0], here[0], atol=0.1)
        np.testing.assert_array_equal(there[1], here[1])


def test_draws_that_all_weigh_the_same_need_no_smoothing():
    weights, k_hat = psis.smoothed(np.full((200, 1), -3.0))
    np.testing.assert_allclose(weights, -np.log(200))
    assert k_hat[0] == -np.inf


def test_what_is_no_number_has_no_weights(ratios):
    ratios[7, 1] = np.nan
    ratios[7, 2] = np.inf
    weights, k_hat = psis.smoothed(ratios)
    assert np.isnan(k_hat).tolist() == [False, True, True]
    assert np.isnan(weights).all(0).tolist() == [False, True, True]


def test_weights_that_are_all_on_a_few_draws_are_left_as_they_are_and_fail(ratios, monkeypatch):
    """ArviZ 1.x would give them a k-hat of 0.06, and weights that are no numbers."""
    monkeypatch.setattr(psis, "version", lambda name: "1.0.0")
    pytest.importorskip("arviz_stats")
    ratios[:, 1] = -1e4
    ratios[:3, 1] = np.log([0.2, 0.3, 0.5])
    weights, k_hat = psis.smoothed(ratios)
    assert np.isposinf(k_hat).tolist() == [False, True, False]
    np.testing.assert_allclose(np.exp(weights[:4, 1]), [0.2, 0.3, 0.5, 0])
    np.testing.assert_allclose(np.exp(weights).sum(0), 1)
