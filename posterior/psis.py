"""Pareto smoothed importance sampling: weights by ArviZ, of either major version, and k-hat by `pareto_k`.

References:
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax

from .pareto import pareto_k


def smoothed(log_ratios: Float[np.ndarray, "n k"]) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, " k"]]:
    """Smooth the largest of some importance ratios, column by column.

    Args:
        log_ratios: Log importance ratios of n draws, which need not be normalised.

    Returns:
        Log weights, those of each column normalised, and Pareto k-hat of each column. Both are NaN where a ratio is
        infinite or not a number. Where k-hat is infinite, because all ratios are the same (-inf) or almost all of their
        sum is of fewer than five (inf), no tail can be fitted, and ratios are normalised as they are.
    """
    finite = np.isfinite(log_ratios).all(0)
    weights, k_hat = np.full(log_ratios.shape, np.nan), np.where(finite, pareto_k(log_ratios), np.nan)
    plain, tailed = np.isinf(k_hat), np.isfinite(k_hat)
    weights[:, plain] = log_softmax(log_ratios[:, plain].astype(np.float64), axis=0)
    if tailed.any():
        weights[:, tailed] = _by_arviz(np.ascontiguousarray(log_ratios[:, tailed].T, dtype=np.float64)).T
    return weights, k_hat


def _by_arviz(log_ratios: Float[np.ndarray, "k n"]) -> Float[np.ndarray, "k n"]:
    """ArviZ 0.x takes log ratios, ArviZ 1.x the log likelihoods that they are the negatives of."""
    if version("arviz").startswith("0."):
        weights, _ = import_module("arviz").psislw(log_ratios)
    else:
        weights, _ = import_module("arviz_stats.base").array_stats.psislw(-log_ratios)
    return np.asarray(weights)
