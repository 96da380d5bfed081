"""Predictors that a fit should beat: means of everything, of columns, and biases of rows and columns.

Biases are the latent factor model without factors, its variances by the method of maximum likelihood (type II), climbed
to by variational EM: exact updates of each side in turn,

    y_ij ~ Normal(mu + a_i + b_j, s^2)     a_i ~ Normal(0, s_a^2)     b_j ~ Normal(0, s_b^2)

Counts have negative binomials of mean (total of the row) x (share of the column), and dispersions by moments.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.special import gammaln, xlogy

from .blocks import Request
from .predictive import MAX_DRAWN, Entries, NormalPredictive, Predictive, SampledPredictive

SWEEPS, TOLERANCE = 200, 1e-5  # of the noise's variance, relative, from one sweep to the next
DRAWS = 200  # of each count, for its CRPS and its intervals; its density is exact
LEAST = 1e-8  # a variance of the noise that still has a density
MOST_THETA = 1e8  # an inverse dispersion as good as Poisson's

Scored = Iterator[tuple[Int[np.ndarray, " e"], Predictive]]


@dataclass(frozen=True)
class Side:
    """Biases of rows, or of columns: posterior means and variances, and the prior's variance, which new ones have."""

    mean: Float[np.ndarray, " n"]
    variance: Float[np.ndarray, " n"]
    prior: float

    def of(self, code: Int[np.ndarray, " e"]) -> tuple[Entries, Entries]:
        """Means and variances by position; of those beyond the end, the prior's."""
        known, at = code < len(self.mean), np.minimum(code, len(self.mean) - 1)
        return np.where(known, self.mean[at], 0.0), np.where(known, self.variance[at], self.prior)

    @classmethod
    def updated(cls, code: Int[np.ndarray, " e"], residual: Entries, noise: float, before: Side) -> Side:
        """Posterior of each bias from what the others leave, and then the prior's variance."""
        n = np.bincount(code, minlength=len(before.mean))
        variance = 1 / (n / noise + 1 / before.prior)
        mean = variance * np.bincount(code, residual, len(before.mean)) / noise
        return cls(mean, variance, max(float(np.mean((mean**2 + variance)[n > 0])), LEAST))


@dataclass(frozen=True)
class Biases:
    """Normals around mu + a_i + b_j."""

    mu: float
    row: Side
    col: Side
    noise: float

    def predictives(self, request: Request) -> Scored:
        """The predictive of all entries, as one block."""
        (a, var_a), (b, var_b) = self.row.of(request.rows.code), self.col.of(request.cols.code)
        yield np.arange(len(request)), NormalPredictive(self.mu + a + b, np.sqrt(self.noise + var_a + var_b))

    @classmethod
    def fit(cls, training: sp.csr_matrix) -> Biases:
        """The biases of stored entries."""
        x: Any = training.tocoo()
        y, mu = x.data.astype(np.float64), float(x.data.mean(dtype=np.float64))
        part = max(float(y.var()) / 3, LEAST)  # a third each, to start from
        row, col = (Side(np.zeros(n), np.zeros(n), part) for n in x.shape)
        noise = part
        for _ in range(SWEEPS):
            row = Side.updated(x.row, y - mu - col.mean[x.col], noise, row)
            col = Side.updated(x.col, y - mu - row.mean[x.row], noise, col)
            rest = y - row.mean[x.row] - col.mean[x.col]
            mu, before = float(rest.mean()), noise
            noise = float(np.mean((rest - mu) ** 2 + row.variance[x.row] + col.variance[x.col])) + LEAST
            if abs(noise - before) < TOLERANCE * before:
                break
        return cls(mu, row, col, noise)


@dataclass(frozen=True)
class NormalMeans:
    """Normals by column, or one for all."""

    mean: Float[np.ndarray, " n_cols"]
    sd: Float[np.ndarray, " n_cols"]

    def predictives(self, request: Request) -> Scored:
        """The predictive of all entries, as one block."""
        col = np.minimum(request.cols.code, len(self.mean) - 1)
        yield np.arange(len(request)), NormalPredictive(self.mean[col], self.sd[col])

    @classmethod
    def of_all(cls, training: sp.csr_matrix, *, every_cell: bool) -> NormalMeans:
        """One normal: of the stored entries, or of all cells, zeros included."""
        n = math.prod(training.shape) if every_cell else training.nnz
        total, squares = (np.array([_power(training, k).sum(dtype=np.float64)]) for k in (1, 2))
        return cls._of_sums(total, squares, n)

    @classmethod
    def of_columns(cls, training: sp.csr_matrix) -> NormalMeans:
        """A normal per column, zeros included."""
        total, squares = (_column_sums(_power(training, k)) for k in (1, 2))
        return cls._of_sums(total, squares, training.shape[0])

    @classmethod
    def _of_sums(cls, total: np.ndarray, squares: np.ndarray, n: int) -> NormalMeans:
        mean = total / n
        return cls(mean, np.sqrt(np.maximum(squares / n - mean**2, LEAST)))


@dataclass(frozen=True)
class CountMeans:
    """Negative binomials: share of each column, and inverse dispersions."""

    share: Float[np.ndarray, " n_cols"]
    theta: Float[np.ndarray, " n_cols"]

    def predictives(self, request: Request, rng: np.random.Generator) -> Scored:
        """Predictives of the cells of whole rows, of given totals, in blocks."""
        totals = np.repeat(request.value.reshape(-1, request.together).sum(1), request.together)
        for at in np.array_split(np.arange(len(request)), math.ceil(len(request) * DRAWS / MAX_DRAWN)):
            theta, mean = self.theta[request.cols.code[at]], (totals * self.share[request.cols.code])[at]
            p = theta / (theta + mean)
            drawn = np.sort(rng.negative_binomial(theta, p, (DRAWS, len(at))), axis=0).astype(np.float32)
            yield at, SampledPredictive(drawn, mean, _log_pmf(request.value[at], theta, p))

    @classmethod
    def fit(cls, training: sp.csr_matrix) -> CountMeans:
        """Shares of the columns, of which one without a count has half of one, and dispersions by moments."""
        totals = np.asarray(training.sum(1, dtype=np.float64)).ravel()
        sums = _column_sums(training)
        share = np.maximum(sums, 0.5) / np.maximum(sums, 0.5).sum()
        weighted = np.asarray(training.T @ totals, dtype=np.float64)
        squares = _column_sums(_power(training, 2)) - 2 * share * weighted + share**2 * (totals**2).sum()
        excess = squares - share * totals.sum()
        theta = share**2 * (totals**2).sum() / np.maximum(excess, LEAST)
        return cls(share, np.clip(theta, 1 / MOST_THETA, MOST_THETA))


def _log_pmf(x: Entries, theta: Entries, p: Entries) -> Entries:
    return gammaln(x + theta) - gammaln(theta) - gammaln(x + 1) + xlogy(theta, p) + xlogy(x, 1 - p)


def _power(x: sp.csr_matrix, k: int) -> sp.csr_matrix:
    return x.astype(np.float64).power(k)


def _column_sums(x: sp.csr_matrix) -> Float[np.ndarray, " n_cols"]:
    return np.asarray(x.sum(0, dtype=np.float64)).ravel()
