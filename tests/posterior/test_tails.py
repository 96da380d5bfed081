"""Tail probabilities of counts against scipy's distributions, far out against exact sums, and what is uniform."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import scipy.stats as st
import torch
from platewise.data import RowBatch
from platewise.data.errors import PlatewiseError
from platewise.models.likelihoods import (
    BernoulliRows,
    GaussianRows,
    MultinomialRows,
    NegativeBinomialRows,
    PoissonRows,
    ZeroInflatedNegativeBinomialRows,
)
from platewise.posterior.count_tails import binomial_tails, negative_binomial_tails, poisson_tails
from platewise.posterior.tails import given_not_zero, log_tail_probability, log_tails, normal_tails

MEAN = np.array([1e-3, 0.4, 3.0, 50.0, 2e3])[:, None]
X = np.array([0.0, 1, 2, 3, 7, 40, 55, 300, 1900, 2100])


def batch_of(x: np.ndarray) -> RowBatch:
    matrix = sp.csr_matrix(x)
    crow, col = (torch.from_numpy(a.astype(np.int64)) for a in (matrix.indptr, matrix.indices))
    return RowBatch(torch.arange(len(x)), crow, col, torch.from_numpy(matrix.data), *x.shape)


def check(tails, of, x, rtol=1e-9) -> None:
    """All tails above 1e-250."""
    exact = [of.sf(x), of.pmf(x), of.cdf(x - 1), of.pmf(np.zeros_like(x)), of.sf(np.zeros_like(x))]
    for found, expected in zip(tails, np.broadcast_arrays(*exact), strict=True):
        seen = expected > 1e-250
        np.testing.assert_allclose(np.exp(found[seen]), expected[seen], rtol=rtol)
        assert (found[~seen] < -570).all()


def full(*arrays):
    return [x.astype(float) for x in map(np.ascontiguousarray, np.broadcast_arrays(*arrays))]


@pytest.mark.parametrize("theta", [0.01, 1.0, 30.0, 1e4])
def test_negative_binomial(theta) -> None:
    x, mean = full(X, MEAN)
    tails = negative_binomial_tails(x, np.log(mean), np.full_like(x, math.log(theta)))
    # scipy is told 1 - q, which near 1 has lost figures of q
    check(tails, st.nbinom(theta, theta / (theta + mean)), x, rtol=1e-6 if theta > 1e3 else 1e-9)


def test_poisson() -> None:
    x, mean = full(X, MEAN)
    check(poisson_tails(x, np.log(mean)), st.poisson(mean), x)


def test_binomial() -> None:
    x, p = full(np.array([0.0, 1, 7, 39, 40]), np.array([1e-6, 0.2, 0.999])[:, None])
    check(binomial_tails(x, np.full_like(x, 40), np.log(p), np.log1p(-p)), st.binom(40, p), x)


def test_a_sure_thing_is_no_surprise() -> None:
    x, zero = np.array([5.0, 0.0]), np.zeros(2)
    tails = binomial_tails(x, x, zero, np.full(2, -np.inf))
    np.testing.assert_array_equal(tails.at, 0)
    assert (tails.above == -np.inf).all()
    assert (tails.below == -np.inf).all()


def test_far_tails_are_the_logarithms_of_sums() -> None:
    k = np.arange(1.0, 60_000)
    x, mean, theta = np.array([2000.0]), np.array([2.0]), np.array([5.0])
    log_pmf = st.nbinom(5, 5 / 7).logpmf(2000 + k)
    found = negative_binomial_tails(x, np.log(mean), np.log(theta)).above
    np.testing.assert_allclose(found, np.logaddexp.reduce(log_pmf), rtol=1e-10)
    assert found[0] < -2000
    log_pmf = st.poisson(2.0).logpmf(2000 + k)
    np.testing.assert_allclose(poisson_tails(x, np.log(mean)).above, np.logaddexp.reduce(log_pmf), rtol=1e-10)
    log_pmf = st.poisson(3000.0).logpmf(np.arange(500.0))
    found = poisson_tails(np.array([500.0]), np.log([3000.0])).below
    np.testing.assert_allclose(found, np.logaddexp.reduce(log_pmf), rtol=1e-10)
    log_pmf = st.binom(9000, 0.001).logpmf(np.arange(2001.0, 9001))
    parameters = (np.array([v]) for v in (9000.0, math.log(0.001), math.log1p(-0.001)))
    np.testing.assert_allclose(binomial_tails(x, *parameters).above, np.logaddexp.reduce(log_pmf), rtol=1e-10)


def test_further_out_is_further_down_far_below_what_a_number_holds() -> None:
    x = np.array([1e2, 1e3, 1e4, 1e5, 1e6])
    for theta in (0.01, 1.0, 1e4):
        above = negative_binomial_tails(x, np.full(5, math.log(1e-3)), np.full(5, math.log(theta))).above
        assert np.isfinite(above).all()
        assert (np.diff(above) < 0).all()
    above = normal_tails(x, np.zeros(5), np.ones(5)).above
    np.testing.assert_allclose(above[0], -5005.524, atol=1e-3)
    assert (np.diff(above) < 0).all()


def test_every_likelihood_of_rows() -> None:
    x = np.array([[0.0, 3, 1], [2, 0, 0], [0, 9, 1]])
    batch, log_mean, zero_logits = batch_of(x), torch.randn(3, 3), torch.randn(3, 3)
    mean, log_theta = log_mean.exp().numpy(), torch.tensor([0.0, 1.0, -1.0])
    theta, pi = log_theta.exp().numpy(), torch.sigmoid(zero_logits).numpy()
    nb, dense = st.nbinom(theta, theta / (theta + mean)), batch.dense()
    check(log_tails(PoissonRows(batch, log_mean), dense), st.poisson(mean), x)
    check(log_tails(NegativeBinomialRows(batch, log_mean, log_theta), dense), nb, x)
    share = torch.softmax(log_mean, -1).numpy()
    check(log_tails(MultinomialRows(batch, log_mean), dense), st.binom(x.sum(1, keepdims=True), share), x)
    inflated = log_tails(ZeroInflatedNegativeBinomialRows(batch, log_mean, log_theta, zero_logits), dense)
    np.testing.assert_allclose(np.exp(inflated.above), (1 - pi) * nb.sf(x))
    np.testing.assert_allclose(np.exp(inflated.at), (1 - pi) * nb.pmf(x) + pi * (x == 0))
    np.testing.assert_allclose(np.exp(inflated.below), (1 - pi) * nb.cdf(x - 1) + pi * (x > 0))
    np.testing.assert_allclose(np.exp(inflated.zero), (1 - pi) * nb.pmf(0) + pi)
    scale = torch.tensor([0.5, 1.0, 2.0])
    normal = log_tails(GaussianRows(batch, log_mean, scale), dense)
    np.testing.assert_allclose(np.exp(normal.above), st.norm(log_mean.numpy(), scale.numpy()).sf(x))
    ones = batch_of((x > 0).astype(float))
    check(log_tails(BernoulliRows(ones, log_mean), ones.dense()), st.bernoulli(torch.sigmoid(log_mean).numpy()), x > 0)


def test_stored_entries_are_the_same_as_picked_from_all() -> None:
    batch = batch_of(np.array([[0.0, 3, 1], [2, 0, 0]]))
    log_mean = torch.randn(2, 3)
    for likelihood in (NegativeBinomialRows(batch, log_mean, torch.randn(3)), MultinomialRows(batch, log_mean)):
        some, every = log_tails(likelihood, batch.value), log_tails(likelihood, batch.dense())
        for a, b in zip(some, every, strict=True):
            np.testing.assert_allclose(a, b[batch.row, batch.col], rtol=1e-12)


def test_counts_that_are_not_zero() -> None:
    x = np.array([1.0, 2, 5])
    tails = given_not_zero(poisson_tails(x, np.full(3, math.log(0.7))), x)
    of, some = st.poisson(0.7), 1 - math.exp(-0.7)
    np.testing.assert_allclose(np.exp(tails.above), of.sf(x) / some)
    np.testing.assert_allclose(np.exp(tails.at), of.pmf(x) / some)
    np.testing.assert_allclose(np.exp(tails.below), (of.cdf(x - 1) - of.pmf(0)) / some)
    rare = given_not_zero(poisson_tails(np.ones(1), np.array([-60.0])), np.ones(1))
    np.testing.assert_allclose([np.exp(x[0]) for x in rare[:3]], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("rest", [-800.0, -math.inf], ids=["next to none", "none"])
@pytest.mark.filterwarnings("error")
def test_a_column_with_all_of_the_mass(rest) -> None:
    batch = batch_of(np.array([[5.0, 0, 0], [4, 1, 0]]))
    likelihood = MultinomialRows(batch, torch.tensor([[0.0, rest, rest]] * 2), validate_args=False)
    every = log_tails(likelihood, batch.dense())
    assert not np.isnan(np.stack(every)).any()
    np.testing.assert_allclose(np.exp(every.at[0]), 1)
    x, at = np.array([5.0, 4.0]), (np.arange(2), 0)
    tails = given_not_zero(type(every)(*(part[at] for part in every)), x)
    log_p, _ = log_tail_probability(tails, np.full(2, 0.5), "two-sided")
    np.testing.assert_allclose(np.exp(log_p), [1, 0])


@pytest.mark.parametrize("log_mean", [-20.0, -38.0, -80.0])
@pytest.mark.parametrize("name", ["poisson", "negative-binomial", "zero-inflated", "multinomial"])
def test_counts_of_columns_that_are_next_to_impossible(name, log_mean) -> None:
    """P(X > x - 1 | X > 0) is P(X = x) / P(X = 1), but for parts in 1e8; in a mixture over draws, too."""
    x = np.array([1.0, 2, 5])
    batch, rare, zeros = batch_of(np.append(x, [9, 9])[None]), torch.full((1, 5), log_mean), torch.zeros(5)
    k = np.arange(1, 6)
    likelihood, log_ratios = {
        "poisson": lambda: (PoissonRows(batch, rare), log_mean - np.log(k)),
        "negative-binomial": lambda: (NegativeBinomialRows(batch, rare, zeros), log_mean + 0 * k),
        "zero-inflated": lambda: (ZeroInflatedNegativeBinomialRows(batch, rare, zeros, zeros), log_mean + 0 * k),
        "multinomial": lambda: (
            MultinomialRows(batch, torch.where(torch.arange(5) < 3, rare + math.log(2), zeros)),
            log_mean + np.log(26 - k + 1) - np.log(k),
        ),
    }[name]()
    draw = log_tails(likelihood, batch.value)
    mixture = type(draw)(*(np.logaddexp(part, part)[:3] - math.log(2) for part in draw))
    tails, u = given_not_zero(mixture, x), np.full(3, 0.5)
    expected = np.append(0, log_ratios[1:].cumsum())[[0, 1, 4]] + math.log(0.5)
    np.testing.assert_allclose(log_tail_probability(tails, u, "upper")[0], expected, atol=1e-6)
    np.testing.assert_allclose(log_tail_probability(tails, u, "two-sided")[0], expected + math.log(2), atol=1e-6)


@pytest.mark.parametrize("tail", ["upper", "lower", "two-sided"])
@pytest.mark.parametrize("truncated", [False, True])
def test_probabilities_of_draws_are_uniform(tail, truncated) -> None:
    rng = np.random.default_rng(0)
    mean = rng.gamma(1, 2, 40_000)
    x = rng.negative_binomial(2, 2 / (2 + mean)).astype(float)
    at = x > 0 if truncated else x >= 0
    tails = negative_binomial_tails(x[at], np.log(mean[at]), np.full(at.sum(), math.log(2)))
    tails = given_not_zero(tails, x[at]) if truncated else tails
    log_p, sign = log_tail_probability(tails, rng.uniform(size=at.sum()), tail)
    assert st.kstest(np.exp(log_p), "uniform").pvalue > 1e-3
    assert abs(sign.mean()) < 0.03


def test_two_sides_of_a_count() -> None:
    u = np.array([0.25])
    tails = poisson_tails(np.array([2.0]), np.log([1.5]))
    of = st.poisson(1.5)
    upper = of.sf(2) + 0.25 * of.pmf(2)
    for tail, expected in {"upper": upper, "lower": 1 - upper, "two-sided": 2 * min(upper, 1 - upper)}.items():
        np.testing.assert_allclose(np.exp(log_tail_probability(tails, u, tail)[0]), expected)


def test_other_distributions_are_refused() -> None:
    with pytest.raises(PlatewiseError, match="whose tails are known, got Normal"):
        log_tails(torch.distributions.Normal(0.0, 1.0), torch.zeros(3))
