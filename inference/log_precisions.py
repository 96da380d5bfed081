"""Posteriors of the log precisions of rows or columns, and their exact updates.

With n entries in a row, R = sum over them of E[(y - mean)^2] E[exp(h)] / sigma^2 and a prior LogGamma(alpha, alpha),
the bound depends on q(g) = Normal(m, s^2) by

    (n / 2 + alpha) m - (R / 2 + alpha) exp(m + s^2 / 2) + log(s)

whose maximum is s^2 = 1 / (n / 2 + alpha) and m = log((n / 2 + alpha) / (R / 2 + alpha)) - s^2 / 2. E[exp(g)] is then
that of the gamma posterior which is exact given all else: the normal costs some bound, and leaves weights as they were.

References:
    Lakshminarayanan, Bouchard and Archambeau (2011), Robust Bayesian matrix factorisation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

NEWTON_STEPS = 100  # at most; some five are usual
TOLERANCE = 1e-12  # of a shape's logarithm


@dataclass(frozen=True)
class LogPrecisions:
    """Normal posteriors of one side's log precisions; float64, on the blocks' device.

    Attributes:
        mean: Means, (n,).
        variance: Variances, (n,).
        shape: Shape and rate alpha of the prior.
        bounds: Least and most shape that may be learned; None where it is given.
    """

    mean: Float[Tensor, " n"]
    variance: Float[Tensor, " n"]
    shape: float
    bounds: tuple[float, float] | None = None

    @property
    def weight(self) -> Float[Tensor, " n"]:
        """E[exp(g)]: what entries count."""
        return (self.mean + 0.5 * self.variance).exp()

    def without_data(self) -> LogPrecisions:
        """The best posteriors of rows without entries: all weights are one."""
        variance = torch.full_like(self.variance, 1 / self.shape)
        return replace(self, mean=-0.5 * variance, variance=variance)

    def updated(self, count: Float[Tensor, " n"], errors: Float[Tensor, " n"]) -> LogPrecisions:
        """The best posteriors.

        Args:
            count: Entries of each row, n.
            errors: Their weighted squared errors in noise variances, R.
        """
        concentration, rate = 0.5 * count + self.shape, 0.5 * errors + self.shape
        variance = 1 / concentration
        return replace(self, mean=(concentration / rate).log() - 0.5 * variance, variance=variance)

    def shifted(self, by: float) -> LogPrecisions:
        """The same around other means."""
        return replace(self, mean=self.mean + by)

    def centring(self) -> float:
        """The shift, to be made good by sigma, that is best for the bound: weights of mean one."""
        return -math.log(float(self.weight.mean()))

    def with_best_shape(self) -> LogPrecisions:
        """The prior's best shape within its bounds, where it is learned: the ELBO is concave in it.

        It maximises alpha log alpha - lgamma(alpha) + alpha c, with c the mean of E[g] - E[exp(g)].
        """
        if self.bounds is None:
            return self
        c = float((self.mean - self.weight).mean())
        return replace(self, shape=_best_shape(c, self.shape, *self.bounds))

    def divergence(self) -> float:
        """Sum of the divergences from the prior."""
        a, n = self.shape, len(self.mean)
        entropy = 0.5 * float((2 * math.pi * math.e * self.variance).log().sum())
        expected = n * (a * math.log(a) - math.lgamma(a)) + a * float((self.mean - self.weight).sum())
        return -entropy - expected


def _best_shape(c: float, start: float, least: float, most: float) -> float:
    """Where log(alpha) + 1 - digamma(alpha) + c is zero, by Newton's method on the logarithm; a bound if beyond it."""
    if _slope(least, c) <= 0:
        return least
    if _slope(most, c) >= 0:
        return most
    low, high, x = math.log(least), math.log(most), math.log(start)
    for _ in range(NEWTON_STEPS):
        a = math.exp(x)
        slope = _slope(a, c)
        low, high = (x, high) if slope > 0 else (low, x)
        curvature = 1 - a * float(torch.polygamma(1, torch.tensor(a, dtype=torch.float64)))  # below 0
        new = x - slope / curvature
        new = new if low < new < high else 0.5 * (low + high)
        if abs(new - x) < TOLERANCE:
            return math.exp(new)
        x = new
    return math.exp(x)


def _slope(a: float, c: float) -> float:
    """Derivative by the shape, for one row."""
    return math.log(a) + 1 - float(torch.digamma(torch.tensor(a, dtype=torch.float64))) + c


@dataclass(frozen=True)
class Precisions:
    """Log precisions of rows and of columns; None for a side whose entries all count alike.

    Attributes:
        users: Those of the rows.
        items: Those of the columns.
    """

    users: LogPrecisions | None = None
    items: LogPrecisions | None = None

    @property
    def are_constant(self) -> bool:
        """Whether all entries have one noise."""
        return self.users is None and self.items is None

    def without_data(self) -> Precisions:
        """Both sides' before any entries."""
        return Precisions(*(side and side.without_data() for side in (self.users, self.items)))

    def with_best_shapes(self) -> Precisions:
        """Both sides' with the best shapes of their priors, where these are learned."""
        return self if self.are_constant else Precisions(*(x and x.with_best_shape() for x in (self.users, self.items)))

    def bound(self, row_count: Float[Tensor, " n"], col_count: Float[Tensor, " m"]) -> float:
        """What they add to the bound beside their weights: entries' expected log precisions, less divergences."""
        total = 0.0
        for side, count in ((self.users, row_count), (self.items, col_count)):
            if side is not None:
                total += 0.5 * float(count @ side.mean) - side.divergence()
        return total


CONSTANT = Precisions()


def weights(side: LogPrecisions | None, like: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Weights of a side's rows; ones where all count alike."""
    return torch.ones_like(like) if side is None else side.weight
