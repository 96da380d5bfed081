"""Whether ranks are uniform: of true values among posterior draws they are, where the posterior is right.

A rank is the number of draws, of `draws`, that are below the truth: 0, ..., draws.

References:
    Talts, Betancourt, Simpson, Vehtari and Gelman (2018), Validating Bayesian inference algorithms with
    simulation-based calibration.
    Sailynoja, Burkner and Vehtari (2022), Graphical test for discrete uniformity and its applications in
    goodness-of-fit evaluation and multiple sample comparison.
    Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work? Evaluating variational inference.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import binom, chi2

N_NULL = 2000  # sets of uniform ranks, or of signs, that a p-value is found by: none is below 1 / 2001
LEAST_EXPECTED = 5  # ranks in a bin
MOST_BINS, MOST_PLACES = 20, 100

Ranks = Int[np.ndarray, " n"]


def chi_squared_p(ranks: Ranks, draws: int) -> float:
    """P-value of the chi-squared test over bins of ranks; NaN of fewer than 10, which are too few for two bins."""
    n_bins = min(MOST_BINS, len(ranks) // LEAST_EXPECTED, draws + 1)
    if n_bins < 2:
        return np.nan
    edges = np.round(np.linspace(0, draws + 1, n_bins + 1))
    expected = len(ranks) * np.diff(edges) / (draws + 1)
    found, _ = np.histogram(ranks, edges - 0.5)
    return float(chi2.sf(((found - expected) ** 2 / expected).sum(), n_bins - 1))


def ecdf_p(ranks: Ranks, draws: int) -> float:
    """P-value of the largest departure of the ranks' distribution function: the level at which its band touches it.

    At each place the number of ranks below is binomial; the least of these tail probabilities is set against that of
    uniform ranks.
    """
    tails, null = _bands(len(ranks), draws)
    return float((1 + (null <= _least(ranks, tails, draws) * (1 + 1e-9)).sum()) / (1 + len(null)))


def asymmetry_p(ranks: Ranks, draws: int) -> float:
    """P-value of the test that ranks are as often above the middle as below, at every distance: of a posterior's place.

    The statistic is that of Kolmogorov and Smirnov between probabilities and one less these (VSBC); as the two depend
    on each other, it is set against random changes of sign, which is exact.
    """
    off = ranks - draws / 2
    order = np.argsort(-np.abs(off), kind="stable")
    last = np.append(np.diff(np.abs(off[order])) != 0, True)  # of those at one distance
    signs = np.random.default_rng(0).choice([-1, 1], (N_NULL, len(ranks))) * (off[order] != 0)
    null = np.abs(signs.cumsum(1)[:, last]).max(1)
    found = np.abs(np.sign(off[order]).cumsum()[last]).max()
    return float((1 + (null >= found).sum()) / (1 + N_NULL))


@lru_cache(maxsize=16)
def _bands(n: int, draws: int) -> tuple[Float[np.ndarray, "n_plus_1 k"], Float[np.ndarray, " null"]]:
    """Tail probability of each number of ranks below each place, and the least of them for sets of uniform ranks."""
    share = (_places(draws) + 1) / (draws + 1)
    number = np.arange(n + 1)[:, None]
    tails = np.minimum(binom.cdf(number, n, share), binom.sf(number - 1, n, share))
    uniform = np.random.default_rng(0).integers(draws + 1, size=(N_NULL, n))
    return tails, np.array([_least(ranks, tails, draws) for ranks in uniform])


def _places(draws: int) -> Int[np.ndarray, " k"]:
    """Ranks at which the distribution function is looked at; at the last it is 1."""
    return np.unique(np.linspace(0, draws - 1, min(MOST_PLACES, draws)).round().astype(np.int64))


def _least(ranks: Ranks, tails: Float[np.ndarray, "n_plus_1 k"], draws: int) -> float:
    places = _places(draws)
    below = np.searchsorted(np.sort(ranks), places, side="right")
    return float(tails[below, np.arange(len(places))].min())
