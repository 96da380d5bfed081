"""Tests of uniform ranks: p-values that are uniform where ranks are, and small where they are not."""

import numpy as np
import pytest
from platewise.posterior.uniform_ranks import asymmetry_p, chi_squared_p, ecdf_p

DRAWS = 99
TESTS = {"chi-squared": chi_squared_p, "ecdf": ecdf_p, "asymmetry": asymmetry_p}


def ranks(rng: np.random.Generator, a: float, b: float, n: int = 100) -> np.ndarray:
    """Of probabilities with a beta distribution: uniform for (1, 1)."""
    return rng.binomial(DRAWS, rng.beta(a, b, n))


@pytest.mark.parametrize("name", TESTS)
def test_of_uniform_ranks_one_in_ten_is_rejected_at_a_tenth(name: str) -> None:
    rng = np.random.default_rng(0)
    p = np.array([TESTS[name](rng.integers(DRAWS + 1, size=100), DRAWS) for _ in range(300)])
    assert 0.05 < (p < 0.1).mean() < 0.16  # four standard errors and no more
    assert 0.4 < p.mean() < 0.6


@pytest.mark.parametrize(
    ("a", "b", "rejected"),
    [
        (0.3, 0.3, {"chi-squared", "ecdf"}),  # a U: too narrow, at its place
        (4, 4, {"chi-squared", "ecdf"}),  # too wide
        (2, 1, {"chi-squared", "ecdf", "asymmetry"}),  # off its place
    ],
)
def test_what_departs_is_seen_by_the_tests_that_look_for_it(a: float, b: float, rejected: set[str]) -> None:
    found = ranks(np.random.default_rng(1), a, b)
    assert {name for name, test in TESTS.items() if test(found, DRAWS) < 0.01} == rejected


def test_asymmetry_does_not_mind_the_spread() -> None:
    found = np.concatenate([np.zeros(50, np.int64), np.full(50, DRAWS)])
    assert asymmetry_p(found, DRAWS) > 0.3
    assert asymmetry_p(np.full(50, DRAWS), DRAWS) < 0.001
    assert asymmetry_p(np.full(50, 5), 10) == 1.0  # all in the middle: on neither side


def test_few_replicates_and_few_draws() -> None:
    assert np.isnan(chi_squared_p(np.array([1, 2, 3]), DRAWS))
    for test in (ecdf_p, asymmetry_p):
        assert 0 < test(np.array([0, 1, 1, 0, 1]), 1) <= 1
