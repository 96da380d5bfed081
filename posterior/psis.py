"""Pareto smoothed importance sampling by ArviZ, of either major version.

References:
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

import numpy as np
from jaxtyping import Float

SAME = 1e-10  # log ratios that differ by no more are of draws that weigh the same


def smoothed(log_ratios: Float[np.ndarray, "n k"]) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, " k"]]:
    """Smooth the largest of some importance ratios, column by column.

    Args:
        log_ratios: Log importance ratios of n draws, which need not be normalised.

    Returns:
        Log weights, those of each column normalised, and Pareto k-hat of each column: NaN where a ratio is infinite or
        not a number, and -inf where all are the same, which needs no smoothing.
    """
    finite = np.isfinite(log_ratios).all(0)
    weights, k_hat = np.full(log_ratios.shape, np.nan), np.full(log_ratios.shape[1], np.nan)
    same = finite & (np.ptp(np.where(finite, log_ratios, 0), axis=0) < SAME)
    weights[:, same], k_hat[same] = -np.log(len(log_ratios)), -np.inf
    rest = finite & ~same
    if rest.any():
        found, k_hat[rest] = _by_arviz(np.ascontiguousarray(log_ratios[:, rest].T, dtype=np.float64))
        weights[:, rest] = found.T
    return weights, k_hat


def _by_arviz(log_ratios: Float[np.ndarray, "k n"]) -> tuple[Float[np.ndarray, "k n"], Float[np.ndarray, " k"]]:
    """ArviZ 0.x takes log ratios, ArviZ 1.x the log likelihoods that they are the negatives of."""
    if version("arviz").startswith("0."):
        weights, k_hat = import_module("arviz").psislw(log_ratios)
    else:
        weights, k_hat = import_module("arviz_stats.base").array_stats.psislw(-log_ratios)
    return weights, k_hat
