"""The negative binomial's log-probability of rows and its gradient, compiled for the CPU (numba), a row at a time.

A row stays in the nearest cache from its mean to its sum, or to its gradient, so that either is one pass over memory.
Zeros are worked out in the precision given, and the entries, of whose large terms a little is left, in float64. With
s = log mu - log theta, u = e^s, t = log(1 + u) and v = u / (1 + u):

    log NB(0) = -theta t           d/ds = -theta v                     d/d log theta = -theta (t - v)
    log NB(x) = c + x s - (x + theta) t    d/ds = (x - theta u) / (1 + u) = g    d/d log theta = theta (c' - t) - g

    c  = log Gamma(x + theta) / (Gamma(theta) x!) = log prod_{k < x} (theta + k) / (k + 1)
    c' = sum_{k < x} 1 / (theta + k)

where products and sums stop at `SHORT`, and Stirling's series takes over: from there on it is exact to 1e-14.
"""

from __future__ import annotations

import math

import numpy as np

from ..data.compiled import Array, compiled
from .vector_math import LARGEST, exp, log1p

SHORT = 12
STIRLING = (1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
DIGAMMA = (-1 / 132, 1 / 240, -1 / 252, 1 / 120, -1 / 12)


@compiled
def log_prob(
    first: int,
    last: int,
    crow: Array,
    col: Array,
    value: Array,
    log_mean: Array,
    log_theta: Array,
    out: Array,
    slopes: Array,
) -> None:
    """Write the log-probabilities of the rows `first` to `last`, and the slopes of their entries.

    Args:
        first: First row.
        last: The one after the last.
        crow: Start of each row's entries (n + 1,).
        col: Their columns (e,).
        value: Their counts (e,), float64.
        log_mean: log mu (n, n_cols).
        log_theta: log theta, of all rows (1, n_cols) or of each (n, n_cols).
        out: Log-probabilities (n,).
        slopes: Of each entry, by its s and by its log theta at a given mu, (e, 2).
    """
    n_cols = log_mean.shape[1]
    room = np.empty((4, n_cols), np.float32)
    theta, s, u, t = room[0], room[1], room[2], room[3]  # a tuple's parts are not known to be contiguous
    bits, wide_bits = np.empty(n_cols, np.int32), np.empty(n_cols, np.int64)
    at_entries = np.empty((6, n_cols))
    for i in range(first, last):
        prior = log_theta[i if len(log_theta) > 1 else 0]
        entries = slice(crow[i], crow[i + 1])
        _zeros(log_mean[i], prior, col[entries], theta, s, u, t, bits)
        zeros = np.float32(0)
        for j in range(n_cols):
            zeros += theta[j] * max(t[j], s[j])
        of_entries = _entries(log_mean[i], prior, col[entries], value[entries], at_entries, wide_bits, slopes[entries])
        out[i] = of_entries - zeros


@compiled
def _zeros(
    log_mean: Array, log_theta: Array, col: Array, theta: Array, s: Array, u: Array, t: Array, bits: Array
) -> None:
    """Write theta, s, u and t of a row; where there is an entry, an s at which they vanish."""
    exp(log_theta, bits, theta)
    for j in range(len(s)):
        s[j] = log_mean[j] - log_theta[j]
    for j in col:
        s[j] = -LARGEST
    exp(s, bits, u)
    log1p(u, bits, t)


@compiled
def _entries(
    log_mean: Array, log_theta: Array, col: Array, value: Array, room: Array, bits: Array, slopes: Array
) -> float:
    """The sum of a row's entries' log-probabilities; write their slopes."""
    n = len(col)
    log_theta_, theta, s, u, t, ratio = room[0][:n], room[1][:n], room[2][:n], room[3][:n], room[4][:n], room[5][:n]
    for k in range(n):
        log_theta_[k] = log_theta[col[k]]
        s[k] = log_mean[col[k]] - log_theta_[k]
    exp(log_theta_, bits, theta)
    exp(s, bits, u)
    log1p(u, bits, t)
    total = 0.0
    for k in range(n):
        product, beyond, slope = _coefficient(value[k], theta[k])
        ratio[k] = product - 1
        softplus = max(t[k], s[k])
        total += beyond + value[k] * s[k] - (value[k] + theta[k]) * softplus
        by_s = (value[k] - theta[k] * u[k]) / (1 + u[k])
        slopes[k, 0], slopes[k, 1] = by_s, theta[k] * (slope - softplus) - by_s
    log1p(ratio, bits, u)
    for k in range(n):
        total += u[k]
    return total


@compiled
def _coefficient(x: float, theta: float) -> tuple[float, float, float]:
    """The coefficient c, as the logarithm of a product and what comes beside it, and its slope c'."""
    product, beyond, slope = 1.0, 0.0, 0.0
    for k in range(int(min(x, SHORT))):
        product *= (theta + k) / (k + 1)
        slope += 1 / (theta + k)
    if x > SHORT:
        (above, more), (below, less), (factorial, _) = _stirling(x + theta), _stirling(SHORT + theta), _stirling(x + 1)
        beyond = above - below - factorial + math.lgamma(SHORT + 1)
        slope += more - less
    return product, beyond if x == np.floor(x) else -np.inf, slope


@compiled
def _stirling(y: float) -> tuple[float, float]:
    """Logarithm of the gamma function and its derivative, for y of at least `SHORT`."""
    log, inverse = math.log(y), 1 / (y * y)
    series, slope = 0.0, 0.0
    for c in STIRLING:
        series = series * inverse + c
    for c in DIGAMMA:
        slope = slope * inverse + c
    return (y - 0.5) * log - y + 0.5 * math.log(2 * math.pi) + series / y, log - 0.5 / y + slope * inverse


@compiled
def gradients(
    first: int,
    last: int,
    crow: Array,
    col: Array,
    log_mean: Array,
    log_theta: Array,
    slopes: Array,
    weight: Array,
    by_mean: Array,
    by_theta: Array,
) -> None:
    """Write the gradients of the weighted sum of the rows `first` to `last`.

    Args:
        first: First row.
        last: The one after the last.
        crow: Start of each row's entries (n + 1,).
        col: Their columns (e,).
        log_mean: log mu (n, n_cols).
        log_theta: log theta, of all rows (1, n_cols) or of each (n, n_cols).
        slopes: Of the entries, as `log_prob` wrote them.
        weight: Of each row (n,).
        by_mean: Gradient by log mu (n, n_cols).
        by_theta: Gradient by log theta, summed over these rows (1, n_cols) or of each row (last - first, n_cols).
    """
    n_cols = log_mean.shape[1]
    room = np.empty((4, n_cols), np.float32)
    theta, s, u, t = room[0], room[1], room[2], room[3]  # a tuple's parts are not known to be contiguous
    real, bits = np.float32, np.empty(n_cols, np.int32)
    by_theta[:] = 0
    for i in range(first, last):
        prior, sums = log_theta[i if len(log_theta) > 1 else 0], by_theta[i - first if len(by_theta) > 1 else 0]
        _zeros(log_mean[i], prior, col[crow[i] : crow[i + 1]], theta, s, u, t, bits)
        for j in range(n_cols):
            v, w = u[j] / (real(1) + u[j]), weight[i] * theta[j]
            series = v * v * (real(1 / 2) + v * (real(1 / 3) + v * (real(1 / 4) + v * real(1 / 5))))  # of t - v
            by_mean[i, j] = -w * v
            sums[j] -= w * (series if v < real(0.04) else t[j] - v)
        for e in range(crow[i], crow[i + 1]):
            by_mean[i, col[e]] = weight[i] * slopes[e, 0]
            sums[col[e]] += weight[i] * slopes[e, 1]
