"""The evidence lower bound of a bilinear Gaussian model from sums over its blocks, and its maximum in each global.

    ELBO = -N/2 log(2 pi sigma^2) - E[sum (y - mu - f)^2] / (2 sigma^2) - KL(mu) - sum KL(user) - sum KL(item)

with f = a_i + b_j + A_i . B_j. Where rows or columns have precisions of their own, squares are weighted by these, and
`log_precisions` adds the rest. All in float64 on the host. Each update below is the exact maximum over one global, the
rest held fixed, within the floors that keep scales positive: the bound cannot fall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from .entries import Entries, Matrix
from .moments import Moments, Sums
from .row_update import Half
from .weighted_rows import LineErrors


@dataclass(frozen=True)
class Scales:
    """Variances of the model.

    Attributes:
        user: Prior variances of a row's block, (d,).
        item: The same of a column's.
        noise: Variance of an entry given its mean.
        mu: Prior variance of the grand mean.
    """

    user: Float[Tensor, " d"]
    item: Float[Tensor, " d"]
    noise: float
    mu: float


@dataclass(frozen=True)
class GrandMean:
    """Normal posterior of the grand mean, whose prior's mean is 0; `mean` is less the matrix's `centre`."""

    mean: float
    variance: float
    centre: float


@dataclass(frozen=True)
class Residual:
    """What remains of the values, less their centre, without f.

    Attributes:
        n: Number of observed entries.
        square: Sum of E[(y - f)^2], weighted where entries have weights.
        total: Sum of E[y - f], likewise.
        weights: Sum of the entries' weights; None where each counts 1.
    """

    n: int
    square: float
    total: float
    weights: float | None = None

    @property
    def mass(self) -> float:
        """What the entries count together."""
        return float(self.n) if self.weights is None else self.weights

    def error(self, mu: GrandMean) -> float:
        """Sum of E[(y - mu - f)^2]; not below 0, where rounding would take it."""
        return max(self.square - 2 * mu.mean * self.total + self.mass * (mu.mean**2 + mu.variance), 0.0)

    def shifted(self, by: float) -> Residual:
        """The residual once `by` has moved from f into mu."""
        square = self.square + by * (2 * self.total + self.mass * by)
        return replace(self, square=square, total=self.total + self.mass * by)

    def scaled(self, by: float) -> Residual:
        """The residual once all weights are multiplied by a number."""
        return replace(self, square=by * self.square, total=by * self.total, weights=by * self.mass)


def residual_of(matrix: Matrix, fixed_entries: Entries, fixed: Moments, new: Half) -> Residual:
    """The residual after one side's update.

    Args:
        matrix: The whole matrix.
        fixed_entries: Its entries by the side that was held fixed.
        fixed: That side's blocks.
        new: The update of the other side.
    """
    count = torch.full_like(fixed_entries.count, fixed_entries.n_cols) if matrix.full else fixed_entries.count
    biases = float(fixed.bias @ count), float(fixed.bias @ fixed_entries.total), float(fixed.bias_square @ count)
    square = matrix.square - 2 * biases[1] + biases[2] + new.error
    return Residual(matrix.n_entries, square, matrix.sum - biases[0] - new.total)


def weighted_residual(n: int, lines: LineErrors, weight: Float[Tensor, " k"]) -> Residual:
    """The residual of `n` entries from what remains of each row, or column, and its weight."""
    square, total, weights = (float(weight @ x) for x in (lines.square, lines.total, lines.weight))
    return Residual(n, square, total, weights)


def elbo(residual: Residual, users: Sums, items: Sums, mu: GrandMean, gain: float, scales: Scales) -> float:
    """The bound, in nats, where the residual knows the grand mean without its gain."""
    fit = -0.5 * (residual.n * math.log(2 * math.pi * scales.noise) + residual.error(mu) / scales.noise)
    return (
        fit - divergence(users, scales.user) - divergence(items, scales.item) - divergence_of_mean(mu, gain, scales.mu)
    )


def divergence(sums: Sums, variance: Float[Tensor, " d"]) -> float:
    """Sum of the divergences of blocks from their prior Normal(0, diag variance)."""
    fit = float((sums.second.diagonal() / variance).sum())
    return 0.5 * (sums.n * float(variance.log().sum() - len(variance)) + fit - sums.logdet)


def divergence_of_mean(mu: GrandMean, gain: float, variance: float) -> float:
    """Divergence of the grand mean, its gain included, from its prior."""
    square = mu.variance + (mu.mean + mu.centre + gain) ** 2
    return 0.5 * (math.log(variance / mu.variance) + square / variance - 1)


def best_mean(residual: Residual, mu: GrandMean, gain: float, scales: Scales) -> GrandMean:
    """The grand mean's best posterior, where the prior knows it with its gain."""
    precision = residual.mass / scales.noise + 1 / scales.mu
    mean = (residual.total / scales.noise - (mu.centre + gain) / scales.mu) / precision
    return replace(mu, mean=mean, variance=1 / precision)


def best_variance(sums: Sums, floor: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """The best prior variances of blocks."""
    return torch.maximum(sums.second.diagonal() / sums.n, floor)


def best_noise(residual: Residual, mu: GrandMean, floor: float) -> float:
    """The best variance of the noise."""
    return max(residual.error(mu) / residual.n, floor)
