"""A sum from a sample and surrogates: exact where all are looked at, unbiased, with errors that are right."""

import numpy as np
import pytest
from platewise.posterior.difference_estimator import difference_estimate


@pytest.fixture
def terms():
    rng = np.random.default_rng(0)
    value = rng.normal(-1.3, 0.7, 600)
    return value, value + rng.normal(0.2, 0.1, 600)


def test_all_of_them_are_no_estimate(terms):
    value, surrogate = terms
    found = difference_estimate(surrogate, np.arange(600), value)
    assert found.value == pytest.approx(value.sum())
    assert found.se == pytest.approx(np.sqrt(600) * value.std(ddof=1))
    assert found.subsampling_se == 0


def test_a_perfect_surrogate_has_no_error_of_sampling(terms):
    value, _ = terms
    found = difference_estimate(value, np.arange(10), value[:10])
    assert found.value == pytest.approx(value.sum())
    assert found.subsampling_se == pytest.approx(0, abs=1e-9)


def test_unbiased_and_as_far_off_as_it_says(terms):
    value, surrogate = terms
    rng = np.random.default_rng(1)
    samples = [rng.choice(600, 60, replace=False) for _ in range(2000)]
    found = [difference_estimate(surrogate, at, value[at]) for at in samples]
    estimates, error = np.array([x.value for x in found]), np.array([x.subsampling_se for x in found])
    assert abs(estimates.mean() - value.sum()) < 4 * estimates.std() / np.sqrt(2000)
    assert np.sqrt((error**2).mean()) == pytest.approx(estimates.std(), rel=0.1)
    assert np.mean([x.se for x in found]) == pytest.approx(np.sqrt(600) * value.std(), rel=0.02)


def test_terms_sampled_in_groups_err_together():
    """Terms of a group share a shift: the error is that of few groups and not of many terms."""
    rng = np.random.default_rng(2)
    value = np.repeat(rng.normal(size=50), 20) + rng.normal(0, 0.1, 1000)
    samples = [rng.choice(50, 10, replace=False) for _ in range(500)]
    at = [(20 * s[:, None] + rng.permuted(np.tile(np.arange(20), (10, 1)), axis=1)[:, :5]).ravel() for s in samples]
    found = [difference_estimate(np.zeros(1000), x, value[x], np.repeat(np.arange(10), 5)) for x in at]
    error = np.sqrt(np.mean([x.subsampling_se**2 for x in found]))
    assert error == pytest.approx(np.std([x.value for x in found]), rel=0.2)
    alone = difference_estimate(np.zeros(1000), at[0], value[at[0]])
    assert found[0].subsampling_se > 1.5 * alone.subsampling_se


def test_one_term_says_nothing_of_its_error(terms):
    assert difference_estimate(terms[1], np.array([3]), terms[0][[3]]).subsampling_se == np.inf
