"""Halves of counts add up to them, and one given the other is as probable as their joint distribution says."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.data.batches import RowBatch
from platewise.data.errors import PlatewiseError
from platewise.models.count_rows import NegativeBinomialRows, PoissonRows, ZeroInflatedNegativeBinomialRows
from platewise.models.multinomial_rows import MultinomialRows
from platewise.posterior.thinned import Rest, halves, rest_given_seen
from scipy.stats import binom, nbinom, poisson

MEAN, THETA, PI = 1.7, 0.6, 0.3  # of the seen half
MOST = 400


def rows(n_cols=1):
    return RowBatch.blank(1, n_cols)


def rest(seen, value):
    def array(x):
        return np.array([[float(x)]])

    return Rest(torch.zeros(1, 1, dtype=torch.long), array(seen), array(value), array(9), array(0))


def given(pmf, seen):
    """P(rest | seen) for rest = 0, 1, ..., of a count whose molecules are halved."""
    k = np.arange(MOST)
    joint = pmf(seen + k) * binom.pmf(seen, seen + k, 0.5)
    return joint / joint.sum()


def with_extra_zeros(k):
    return PI * (k == 0) + (1 - PI) * nbinom.pmf(k, THETA, THETA / (THETA + 2 * MEAN))


def log(x):
    return torch.full((1, 1), float(np.log(x)), dtype=torch.float64)


CASES = {
    "poisson": (lambda k: poisson.pmf(k, 2 * MEAN), lambda: PoissonRows(rows(), log(MEAN))),
    "negative-binomial": (
        lambda k: nbinom.pmf(k, THETA, THETA / (THETA + 2 * MEAN)),
        lambda: NegativeBinomialRows(rows(), log(MEAN), log(THETA)),
    ),
    "zero-inflated-negative-binomial": (
        with_extra_zeros,
        lambda: ZeroInflatedNegativeBinomialRows(rows(), log(MEAN), log(THETA), log(PI / (1 - PI))),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seen", [0, 1, 6])
def test_the_rest_given_the_seen_half(name, seen):
    pmf, likelihood = CASES[name]
    exact = given(pmf, seen)
    for value in (0, 1, 4, 15):
        tails, mean = rest_given_seen(likelihood(), rest(seen, value))
        np.testing.assert_allclose(np.exp(tails.at), exact[value], rtol=1e-7)
        np.testing.assert_allclose(np.exp(tails.below), exact[:value].sum(), rtol=1e-7, atol=1e-12)
        np.testing.assert_allclose(mean, exact @ np.arange(MOST), rtol=1e-6)


def test_shares_of_the_rest():
    logits = torch.tensor([[0.3, -1.0]])
    p = logits.softmax(-1)[0, 0].item()
    tails, mean = rest_given_seen(MultinomialRows(rows(2), logits), rest(3, 4))
    np.testing.assert_allclose(np.exp(tails.below), binom.cdf(3, 9, p))
    np.testing.assert_allclose(mean, 9 * p)
    tails, _ = rest_given_seen(MultinomialRows(rows(), logits[:, :1]), rest(3, 9))  # the only column has them all
    np.testing.assert_allclose(np.exp(tails.at), 1)


def test_what_is_no_count_is_refused():
    with pytest.raises(PlatewiseError, match="Expected a likelihood of counts"):
        rest_given_seen(object(), rest(0, 0))


def test_halves_add_up_and_are_halves():
    counts = sp.random(50, 40, density=0.4, format="csr", random_state=0)
    counts.data = np.floor(1 + 30 * counts.data)
    seen, other = halves(counts, np.random.default_rng(0))
    assert (seen + other != counts).nnz == 0
    assert seen.sum() == pytest.approx(0.5 * counts.sum(), rel=0.05)
    assert min(seen.data.min(), other.data.min()) > 0  # zeros are not stored


@pytest.mark.parametrize("value", [-1.0, 0.5])
def test_values_that_are_no_counts_are_refused(value):
    with pytest.raises(PlatewiseError, match=r"Expected counts .* got others"):
        halves(sp.csr_matrix([[value, 1.0]]), np.random.default_rng(0))
