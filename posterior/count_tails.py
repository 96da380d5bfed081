"""Tail probabilities of counts, in logarithms: exact where they underflow, so that what is impossible is still ranked.

The tail on the far side of the mean is an incomplete beta or gamma function. Below 1e-280 it is the sum of its terms
instead, each a ratio times the one before:

    P(X > x) = P(X = x + 1) (1 + r(x + 1) + r(x + 1) r(x + 2) + ...)        r(k) = P(X = k + 1) / P(X = k)

References:
    Johnson, Kemp and Kotz (2005), Univariate discrete distributions, sections 3.4, 4.4 and 5.6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import betainc, gammainc, gammaincc, gammaln

Array = Float[np.ndarray, "..."]

UNDERFLOW = 1e-280
TERMS = 256  # of a far tail; what is left is taken as geometric, which its ratios nearly are


class Tails(NamedTuple):
    """Log-probabilities of a value and its sides, in nats; all of one shape.

    Attributes:
        above: log P(X > x).
        at: log P(X = x); minus infinity for a density.
        below: log P(X < x).
        zero: log P(X = 0).
        some: log P(X > 0), which `zero` does not tell where next to all of the mass is there.
    """

    above: Array
    at: Array
    below: Array
    zero: Array
    some: Array


@dataclass(frozen=True, eq=False)
class _Elements:
    """Independent counts from 0 to `most`, one distribution per element."""

    def take(self, at: Bool[np.ndarray, "..."]) -> Any:
        """The distributions of some elements."""
        return type(self)(*(getattr(self, field.name)[at] for field in fields(self)))


@dataclass(frozen=True, eq=False)
class _NegativeBinomial(_Elements):
    """Mean mu, inverse dispersion theta: P(X = k + 1) / P(X = k) = q (k + theta) / (k + 1), q = mu / (mu + theta)."""

    log_mean: Array
    log_theta: Array
    most = np.inf

    @property
    def mean(self) -> Array:
        return np.exp(self.log_mean)

    @property
    def _log_q(self) -> tuple[Array, Array]:
        s = self.log_mean - self.log_theta
        return -np.logaddexp(0, -s), -np.logaddexp(0, s)

    def log_pmf(self, x: Array) -> Array:
        theta, (log_q, log_rest) = np.exp(self.log_theta), self._log_q
        return gammaln(x + theta) - gammaln(theta) - gammaln(x + 1) + x * log_q + theta * log_rest

    def log_ratio(self, x: Array) -> Array:
        return self._log_q[0] + np.log(x + np.exp(self.log_theta)) - np.log(x + 1)

    def above(self, x: Array) -> Array:
        return betainc(x + 1, np.exp(self.log_theta), np.exp(self._log_q[0]))

    def below(self, x: Array) -> Array:
        return betainc(np.exp(self.log_theta), x, np.exp(self._log_q[1]))


@dataclass(frozen=True, eq=False)
class _Poisson(_Elements):
    """P(X = k + 1) / P(X = k) = rate / (k + 1)."""

    log_rate: Array
    most = np.inf

    @property
    def mean(self) -> Array:
        return np.exp(self.log_rate)

    def log_pmf(self, x: Array) -> Array:
        return x * self.log_rate - self.mean - gammaln(x + 1)

    def log_ratio(self, x: Array) -> Array:
        return self.log_rate - np.log(x + 1)

    def above(self, x: Array) -> Array:
        return gammainc(x + 1, self.mean)

    def below(self, x: Array) -> Array:
        return gammaincc(x, self.mean)


@dataclass(frozen=True, eq=False)
class _Binomial(_Elements):
    """`total` trials of log-probability `log_p`, and `log_rest` of the contrary."""

    total: Array
    log_p: Array
    log_rest: Array

    @property
    def mean(self) -> Array:
        return self.total * np.exp(self.log_p)

    @property
    def most(self) -> Array:
        return self.total

    def log_pmf(self, x: Array) -> Array:
        rest = self.total - x
        choices = gammaln(self.total + 1) - gammaln(x + 1) - gammaln(rest + 1)
        # what is sure has log_rest = -inf, what cannot be has log_p = -inf: of no trials, neither counts
        return choices + _none_of_none(x, self.log_p) + _none_of_none(rest, self.log_rest)

    def log_ratio(self, x: Array) -> Array:
        return np.log(np.maximum(self.total - x, 0)) - np.log(x + 1) + self.log_p - self.log_rest

    def above(self, x: Array) -> Array:
        return betainc(x + 1, self.total - x, np.exp(self.log_p))

    def below(self, x: Array) -> Array:
        return betainc(self.total - x + 1, x, np.exp(self.log_rest))


def _none_of_none(n: Array, log_p: Array) -> Array:
    """The product n log p, which is 0 where n is."""
    return n * np.where(n > 0, log_p, 0)


_Counts = _NegativeBinomial | _Poisson | _Binomial


def poisson_tails(x: Array, log_rate: Array) -> Tails:
    """Tails of Poisson counts at `x`, whole numbers from 0."""
    return _tails_of(_Poisson(log_rate), x)


def negative_binomial_tails(x: Array, log_mean: Array, log_theta: Array) -> Tails:
    """Tails at `x`, whole numbers from 0, of negative binomials with variance mu + mu^2 / theta."""
    return _tails_of(_NegativeBinomial(log_mean, log_theta), x)


def binomial_tails(x: Array, total: Array, log_p: Array, log_rest: Array) -> Tails:
    """Tails at `x`, from 0 to `total`, of binomials with log-probabilities `log_p`, and `log_rest` of the contrary."""
    return _tails_of(_Binomial(total, log_p, log_rest), x)


def _tails_of(counts: _Counts, x: Array) -> Tails:
    with np.errstate(divide="ignore"):
        at, zero, high = counts.log_pmf(x), counts.log_pmf(np.zeros_like(x)), x > counts.mean
        upper, lower = high & (x < counts.most), ~high & (x > 0)
        far = np.zeros_like(at)
        far[upper] = counts.take(upper).above(x[upper])
        far[lower] = counts.take(lower).below(x[lower])
        # the other tail holds a good part of the mass, so that the difference loses no figures that matter
        near = np.log(np.maximum(1 - far - np.exp(at), 0))
        log_far, some = np.log(far), np.log(-np.expm1(zero))
        for side, sum_up in ((upper, _sum_above), (lower, _sum_below)):
            tiny = side & (far < UNDERFLOW)
            if tiny.any():
                log_far[tiny] = sum_up(counts.take(tiny), x[tiny], at[tiny])
    return Tails(np.where(high, log_far, near), at, np.where(high, near, log_far), zero, some)


def _sum_above(counts: _Counts, x: Array, log_at: Array) -> Array:
    return log_at + counts.log_ratio(x) + _log_series(lambda m: np.exp(counts.log_ratio(x + m)))


def _sum_below(counts: _Counts, x: Array, log_at: Array) -> Array:
    def ratio(m: int) -> Array:
        k = x - 1 - m
        return np.where(k >= 0, np.exp(-counts.log_ratio(np.maximum(k, 0))), 0)

    return log_at - counts.log_ratio(x - 1) + _log_series(ratio)


def _log_series(ratio: Callable[[int], Array]) -> Array:
    """Log of 1 + ratio(1) + ratio(1) ratio(2) + ..."""
    last = ratio(1)
    term = last
    total = 1 + term
    for m in range(2, TERMS + 1):
        last = ratio(m)
        term = term * last
        total = total + term
    return np.log(total + term * last / np.maximum(1 - last, 1e-12))
