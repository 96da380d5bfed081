"""Pareto k-hat: how heavy the tail of importance weights is.

Importance weights w_s = p(z_s) / q(z_s) of draws z_s ~ q have as many finite moments as 1 / k, k being the shape of the
generalised Pareto distribution of their largest ones, by the posterior mean of Zhang and Stephens (2009) and with a
weak prior of ten observations at 0.5. It is worked out here, as ArviZ 0.x does, so that one fit has one k-hat. ArviZ
1.x counts one weight less in the tail, which moves k-hat by 0.1 at times, gives weights that are all on a few draws the
k-hat of good ones, and takes several times as long. The tests hold it to both.

References:
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling.
    Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work? Evaluating variational inference.
    Zhang and Stephens (2009), A new and efficient estimation method for the generalized Pareto distribution.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

MIN_DRAWS = 100  # below, the tail is of fewer than 20 weights
MOST = 0.7  # however many the draws: from here on the number that is needed grows beyond reach
FEWEST = 5  # weights in a tail that can be fitted
PRIOR_K, PRIOR_WEIGHT = 0.5, 10


def k_threshold(draws: int) -> float:
    """The k-hat up to which estimates from so many draws are reliable: min(1 - 1 / log10(draws), 0.7)."""
    return min(1 - 1 / math.log10(draws), MOST)


def pareto_k(log_weights: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """Pareto k-hat of each column of log importance weights, which need not be normalised.

    Returns:
        k-hat; NaN where a weight is infinite or not a number (zero will do), inf where almost all of the weight is on
        fewer than five draws, and -inf where all weights are the same: the draws are from the target itself.
    """
    return np.array([_k_of(column) for column in log_weights.T.astype(np.float64)])


def _k_of(log_weights: Float[np.ndarray, " n"]) -> float:
    top = log_weights.max()
    if not np.isfinite(top):  # of which NaN is a case: the largest of numbers with a NaN is NaN
        return math.nan
    ordered = np.sort(log_weights - top)
    if ordered[0] > -1e-10:
        return -math.inf
    n = len(ordered)
    n_tail = math.ceil(min(0.2 * n, 3 * math.sqrt(n)))
    cutoff = max(ordered[-n_tail - 1], math.log(np.finfo(np.float64).tiny))
    tail = np.exp(ordered[ordered > cutoff]) - math.exp(cutoff)
    return _shape_of(tail) if len(tail) >= FEWEST and tail[0] > 0 else math.inf


def _shape_of(tail: Float[np.ndarray, " m"]) -> float:
    """Shape of a generalised Pareto distribution of sorted excesses, under its weak prior."""
    m = len(tail)
    n_grid = 30 + int(math.sqrt(m))
    grid = (1 - np.sqrt(n_grid / (np.arange(1, n_grid + 1) - 0.5))) / (3 * tail[int(m / 4 + 0.5) - 1]) + 1 / tail[-1]
    shapes = np.log1p(-grid[:, None] * tail).mean(1)
    profile = m * (np.log(-grid / shapes) - shapes - 1)
    weight = np.exp(profile - profile.max())
    at = (grid * weight).sum() / weight.sum()
    shape = np.log1p(-at * tail).mean()
    return float((m * shape + PRIOR_WEIGHT * PRIOR_K) / (m + PRIOR_WEIGHT))
