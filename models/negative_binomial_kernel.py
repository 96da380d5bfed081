"""The negative binomial's log-probability of rows and its gradient, compiled for the CPU (numba), a row at a time.

A row stays in the nearest cache from its parameters to its sum, or to its gradient, so that either is one pass over
memory. Means are given by their logarithms f, log mu = f, or as shares of a row's size l, mu = l softmax(f). Zeros are
worked out in float32, and the entries, of whose large terms a little is left, in float64. With s = log mu - log theta,
u = e^s, t = log(1 + u) and v = u / (1 + u):

    log NB(0) = -theta t                     d/ds = -theta v                        d/d log theta = -theta (t - v)
    log NB(x) = c + x s - (x + theta) t      d/ds = (x - theta u) / (1 + u) = g     d/d log theta = theta (c' - t) - g

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
MOST = 1e37  # of odds u in float32
LOG_FACTORIAL = math.lgamma(SHORT + 1)
STIRLING = (1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12)
DIGAMMA = (-1 / 132, 1 / 240, -1 / 252, 1 / 120, -1 / 12)


@compiled
def log_prob(
    first: int,
    last: int,
    crow: Array,
    col: Array,
    value: Array,
    f: Array,
    log_size: Array,
    log_theta: Array,
    out: Array,
    slopes: Array,
    by_f: Array,
    by_size: Array,
    by_theta: Array,
) -> None:
    """Write the log-probabilities of the rows `first` to `last`, the slopes of their entries, and gradients.

    Args:
        first: First row.
        last: The one after the last.
        crow: Start of each row's entries (n + 1,).
        col: Their columns (e,).
        value: Their counts (e,), float64.
        f: What the means are made of (n, n_cols), float32.
        log_size: log l of each row (n,), float32; of none (0,) if f is log mu.
        log_theta: log theta, of all rows (1, n_cols) or of each (n, n_cols), float32.
        out: Log-probabilities (n,), float32.
        slopes: Of each entry, by its s and by its log theta at a given mu, (e, 2), float32.
        by_f: Gradient of each row by f (n, n_cols); with (0, n_cols) none is written.
        by_size: By log l (n,), or (0,).
        by_theta: By log theta, summed over these rows (1, n_cols) or of each row (last - first, n_cols).
    """
    n_cols = f.shape[1]
    room, bits = np.empty((5, n_cols), np.float32), np.empty(n_cols, np.int32)
    wide_room, wide_bits = np.empty((6, n_cols)), np.empty(n_cols, np.int64)
    by_theta[:] = 0
    for i in range(first, last):
        prior, entries = log_theta[i if len(log_theta) > 1 else 0], slice(crow[i], crow[i + 1])
        shift = _means(f, log_size, i, room, bits)
        _odds(prior, col[entries], i == first or len(log_theta) > 1, room, bits)
        theta, t, zeros = room[0], room[4], np.float32(0)
        for j in range(n_cols):
            zeros += theta[j] * t[j]
        at_entries = col[entries], value[entries], slopes[entries]
        out[i] = _entries(f[i], shift, prior, *at_entries, wide_room, wide_bits) - zeros
        if len(by_f):
            sums = by_theta[i - first if len(by_theta) > 1 else 0]
            _gradient(i, np.float32(1), room, col[entries], slopes[entries], log_size, by_f[i], by_size, sums)


@compiled
def _means(f: Array, log_size: Array, i: int, room: Array, bits: Array) -> float:
    """Write log mu and mu of a row into `room[1]` and `room[2]`; return what was added to f for log mu."""
    n_cols, s, mean = f.shape[1], room[1], room[2]
    if len(log_size) == 0:
        s[:] = f[i]
        exp(s, bits, mean)
        return 0.0
    largest, total = np.float32(-np.inf), np.float32(0)
    for j in range(n_cols):
        largest = max(largest, f[i, j])
    for j in range(n_cols):
        s[j] = f[i, j] - largest
    exp(s, bits, mean)
    for j in range(n_cols):
        total += mean[j]
    shift = np.float32(log_size[i] - np.log(total))
    factor = np.exp(min(shift, np.float32(LARGEST)))
    for j in range(n_cols):
        s[j] += shift
        mean[j] *= factor
    return np.float64(shift) - np.float64(largest)


@compiled
def _odds(log_theta: Array, col: Array, fresh: bool, room: Array, bits: Array) -> None:
    """From log mu and mu of a row: theta, s, u and t in `room[0]`, `room[1]`, `room[3]` and `room[4]`.

    Where there is an entry, s is such that u and t vanish.
    """
    theta, s, mean, u, t = room[0], room[1], room[2], room[3], room[4]
    if fresh:
        exp(log_theta, bits, theta)
    for j in range(len(theta)):
        s[j] -= log_theta[j]
        u[j] = min(mean[j] / theta[j], np.float32(MOST))
    for j in col:
        s[j], u[j] = np.float32(-LARGEST), np.float32(0)
    log1p(u, bits, t)
    for j in range(len(theta)):
        t[j] = max(s[j], t[j])  # in this order it keeps NaN; and t is s where u was cut off


@compiled
def _entries(
    f: Array, shift: float, log_theta: Array, col: Array, value: Array, slopes: Array, room: Array, bits: Array
) -> float:
    """The sum of a row's entries' log-probabilities; write their slopes."""
    n, total = len(col), 0.0
    # a tuple's parts are not known to lie together in memory
    log_theta_, theta, s, u, t, slope = room[0][:n], room[1][:n], room[2][:n], room[3][:n], room[4][:n], room[5][:n]
    for k in range(n):
        log_theta_[k] = log_theta[col[k]]
        s[k] = f[col[k]] + shift - log_theta_[k]
    exp(log_theta_, bits, theta)
    exp(s, bits, u)
    log1p(u, bits, t)
    coefficient = log_theta_
    _short_products(value, theta, coefficient, slope)
    for k in range(n):
        x, softplus = value[k], max(s[k], t[k])
        beyond, slope_beyond = _beyond(x, theta[k])
        total += beyond + x * s[k] - (x + theta[k]) * softplus
        by_s = (x - theta[k] * u[k]) / (1 + u[k])
        slopes[k, 0], slopes[k, 1] = by_s, theta[k] * (slope[k] + slope_beyond - softplus) - by_s
        coefficient[k] -= 1
    log1p(coefficient, bits, u)
    for k in range(n):
        total += u[k]
    return total


@compiled
def _short_products(value: Array, theta: Array, product: Array, slope: Array) -> None:
    """Write the product in e^c, of at most `SHORT` factors, and the slope of its logarithm."""
    most = 0.0
    for x in value:
        most = max(most, x)
    product[:], slope[:] = 1.0, 0.0
    for q in range(int(min(most, SHORT))):
        share = 1 / (q + 1)
        for k in range(len(value)):  # without branches, for vector instructions
            more = (slope[k] * (theta[k] + q) + product[k]) * share
            slope[k] = more if value[k] > q else slope[k]
            product[k] *= (theta[k] + q) * share if value[k] > q else 1.0
    for k in range(len(value)):
        slope[k] /= product[k]


@compiled
def _beyond(x: float, theta: float) -> tuple[float, float]:
    """What c and c' have beside that product; c is minus infinity for what is no count."""
    if x < 0 or x != np.floor(x):
        return -np.inf, 0.0
    if x <= SHORT:
        return 0.0, 0.0
    (above, more), (below, less), (factorial, _) = _stirling(x + theta), _stirling(SHORT + theta), _stirling(x + 1)
    return above - below - factorial + LOG_FACTORIAL, more - less


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
    f: Array,
    log_size: Array,
    log_theta: Array,
    slopes: Array,
    weight: Array,
    by_f: Array,
    by_size: Array,
    by_theta: Array,
) -> None:
    """Write the gradients of the rows `first` to `last` again, each row with a weight of its own.

    Args:
        first: First row.
        last: The one after the last.
        crow: As for `log_prob`, and so are `col`, `f`, `log_size` and `log_theta`.
        col: Columns of the entries.
        f: What the means are made of.
        log_size: log l.
        log_theta: log theta.
        slopes: Of the entries, as `log_prob` wrote them.
        weight: Of each row (n,), float32.
        by_f: Gradient by f, as for `log_prob`, and so are `by_size` and `by_theta`.
        by_size: By log l.
        by_theta: By log theta.
    """
    room, bits = np.empty((5, f.shape[1]), np.float32), np.empty(f.shape[1], np.int32)
    by_theta[:] = 0
    for i in range(first, last):
        prior, entries = log_theta[i if len(log_theta) > 1 else 0], slice(crow[i], crow[i + 1])
        _means(f, log_size, i, room, bits)
        _odds(prior, col[entries], i == first or len(log_theta) > 1, room, bits)
        sums = by_theta[i - first if len(by_theta) > 1 else 0]
        _gradient(i, weight[i], room, col[entries], slopes[entries], log_size, by_f[i], by_size, sums)


@compiled
def _gradient(
    i: int,
    weight: float,
    room: Array,
    col: Array,
    slopes: Array,
    log_size: Array,
    by_f: Array,
    by_size: Array,
    by_theta: Array,
) -> None:
    """Write a row's gradient by f and by log l, and add the one by log theta."""
    theta, mean, u, t, real = room[0], room[2], room[3], room[4], np.float32
    for j in range(len(theta)):
        v, w = u[j] / (real(1) + u[j]), weight * theta[j]
        series = v * v * (real(1 / 2) + v * (real(1 / 3) + v * (real(1 / 4) + v * real(1 / 5))))  # of t - v
        by_f[j] = -w * v
        by_theta[j] -= w * (series if v < real(0.04) else t[j] - v)
    for k in range(len(col)):
        by_f[col[k]] = weight * slopes[k, 0]
        by_theta[col[k]] += weight * slopes[k, 1]
    if len(log_size):  # f is a logit: of a gradient by log mu, the part that moves shares
        total = real(0)
        for j in range(len(theta)):
            total += by_f[j]
        factor = real(total * np.exp(-log_size[i]))
        for j in range(len(theta)):
            by_f[j] -= factor * mean[j]
        by_size[i] = total
