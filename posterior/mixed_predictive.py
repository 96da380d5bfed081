"""Predictive distributions of entries whose noise is uncertain: mixtures of normals with one mean.

    y ~ sum_k w_k Normal(mean, v + s_k^2),    s_k^2 the noise's variance with weight w_k, v that of the expectation

They have longer tails and a narrower middle than the normal with their variance: with v = 0 and a gamma precision they
are Student's t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import log_ndtr, ndtr, ndtri

from .count_tails import Tails

Entries = Float[np.ndarray, " e"]

STEPS = 60  # of Newton's method, at most; three or four are usual
LAST_STEP = 1e-5  # in standard deviations; what is left then is of the order of its square


@dataclass(frozen=True, eq=False)
class MixedPredictive:
    """Mixtures of normals that share their mean.

    Attributes:
        mean: Means.
        sd: Standard deviations.
        variance: Variances of each entry's normals.
        weight: How much each counts, adding up to 1.
    """

    mean: Entries
    sd: Entries
    variance: Float[np.ndarray, "e k"]
    weight: Float[np.ndarray, " k"]

    def cdf(self, y: Entries) -> Entries:
        """Probability of at most y."""
        return np.asarray(ndtr(self._standardised(y)) @ self.weight)

    def pit(self, y: Entries, u: Entries) -> Entries:
        """Probability integral transform; `u`, which breaks ties, is not needed."""
        return self.cdf(y)

    def log_density(self, y: Entries) -> Entries:
        """Log density, in nats."""
        terms = -0.5 * (self._standardised(y) ** 2 + np.log(2 * math.pi * self.variance))
        return _log_mean_exp(terms, self.weight)

    def tails(self, y: Entries) -> Tails:
        """Log-probabilities of what lies on either side of y."""
        z, never = self._standardised(y), np.full(len(y), -np.inf)
        above, below = (_log_mean_exp(log_ndtr(x), self.weight) for x in (-z, z))
        return Tails(above, never, below, never, np.zeros(len(y)))

    def quantile(self, p: float) -> Entries:
        """Quantiles at probability p, to 1e-8 standard deviations."""
        reach = self._reach(min(p, 1 - p))
        return self.mean + (reach if p >= 0.5 else -reach)

    def interval(self, level: float) -> tuple[Entries, Entries]:
        """Ends of the central interval."""
        reach = self._reach((1 - level) / 2)
        return self.mean - reach, self.mean + reach

    def crps(self, y: Entries) -> Entries:
        """CRPS in closed form: E|Y - y| - E|Y - Y'| / 2, both of normals with mean 0."""
        z, sd = self._standardised(y), np.sqrt(self.variance)
        density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        distance = (sd * (z * (2 * ndtr(z) - 1) + 2 * density)) @ self.weight
        return np.asarray(distance - self._mean_scale_of_differences() / math.sqrt(2 * math.pi))

    def _mean_scale_of_differences(self) -> Entries:
        """Mean standard deviation of the difference of two independent draws, over which normals they come from."""
        variance, weight = self.variance, self.weight
        mean = np.sqrt(2 * variance) @ weight**2
        for k in range(1, len(weight)):
            mean += 2 * weight[k] * (np.sqrt(variance[:, k, None] + variance[:, :k]) @ weight[:k])
        return np.asarray(mean)

    def _standardised(self, y: Entries) -> Float[np.ndarray, "e k"]:
        return (y - self.mean)[:, None] / np.sqrt(self.variance)

    def _reach(self, q: float) -> Entries:
        """How far above the mean the share beyond is q, at most a half: Newton's method between bounds.

        On the scale of the normal's quantiles the share is all but linear, and the bounds are the quantiles of the
        narrowest and of the widest normal.
        """
        scale = np.sqrt(self.variance)
        target = -float(ndtri(q))
        low, high = target * scale.min(1), target * scale.max(1)
        kurtosis = 3 * ((self.variance**2 @ self.weight) / (self.variance @ self.weight) ** 2 - 1)
        x = self.sd * (target + kurtosis * (target**3 - 3 * target) / 24)  # Cornish and Fisher's
        for _ in range(STEPS):
            x = np.where((low <= x) & (x <= high), x, (low + high) / 2)
            z = x[:, None] / scale
            place = -ndtri(ndtr(-z) @ self.weight)
            low, high = np.where(place <= target, x, low), np.where(place >= target, x, high)
            # the density over that of a standard normal at the same place
            slope = (np.exp(0.5 * (place[:, None] ** 2 - z**2)) / scale) @ self.weight
            step = (target - place) / slope
            x = x + step
            if (np.abs(step) <= LAST_STEP * self.sd).all():
                break
        return x


def _log_mean_exp(terms: Float[np.ndarray, "e k"], weight: Float[np.ndarray, " k"]) -> Entries:
    """Log of the weighted mean of exponentials."""
    most = terms.max(1)
    return np.asarray(most + np.log(np.exp(terms - most[:, None]) @ weight))
