"""Benjamini-Hochberg in blocks, against scipy's of all probabilities at once."""

import numpy as np
import pytest
import scipy.stats as st
from platewise.posterior.false_discovery import FalseDiscovery


def probabilities(n: int = 5000) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.concatenate([rng.uniform(size=n), 10 ** -rng.uniform(1, 12, n // 20), np.full(7, 1e-3)])


def streamed(p: np.ndarray, n: int, **limit) -> tuple[FalseDiscovery, np.ndarray]:
    found = FalseDiscovery(**limit)
    for part in np.array_split(np.log(p), 7):
        found.add(part)
    return found, np.exp(found.adjusted(np.sort(np.log(p))[:n]))


@pytest.mark.parametrize("n", [1, 40, 300, 5257])
def test_kept_probabilities_are_adjusted_exactly(n) -> None:
    p = probabilities()
    found, adjusted = streamed(p, n)
    assert found.is_exact
    np.testing.assert_allclose(adjusted, np.sort(st.false_discovery_control(p))[:n], rtol=1e-12)


@pytest.mark.parametrize("n", [1, 40, 300, 5257])
def test_counted_probabilities_are_adjusted_from_above_within_a_thousandth(n) -> None:
    p = probabilities()
    found, adjusted = streamed(p, n, limit=1000)
    exact = np.sort(st.false_discovery_control(p))[:n]
    assert not found.is_exact
    assert (adjusted >= exact * (1 - 1e-12)).all()
    assert (adjusted <= exact * 1.001).all()


def test_more_of_the_same_far_beyond_a_number() -> None:
    for limit in (100, 5):
        found = FalseDiscovery(limit)
        found.add(np.array([-5000.0, -np.inf, -2000.0, -3.0, -1.0, 0.0]))
        adjusted = found.adjusted(np.array([-np.inf, -5000.0]))
        assert adjusted[0] == -np.inf
        assert adjusted[1] == pytest.approx(-5000 + np.log(3))


def test_none_and_all_ones() -> None:
    found = FalseDiscovery()
    assert len(found.adjusted(np.zeros(0))) == 0
    found.add(np.zeros(10))
    np.testing.assert_array_equal(found.adjusted(np.zeros(10)), 0)
