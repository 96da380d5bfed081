"""Posteriors of many rows from their sums, compiled for the CPU: small Cholesky factorisations, in float64.

All three steps add multiples of rows to a row, four at a time, so that every inner loop runs along memory and each
number written is read from four.
"""

from __future__ import annotations

import numpy as np

from ..data.compiled import Array, compiled


@compiled
def solve(
    gram: Array,
    rhs: Array,
    prior: Array,
    pull: Array,
    tau: float,
    mu: float,
    tiny: float,
    factorised: bool,
    mean: Array,
    cov: Array,
    sums: Array,
) -> None:
    """Posterior of each row from its sums.

    Args:
        gram: Sum of E[x x'], packed, (n, p).
        rhs: Sum of E[x (y - b)], (n, d).
        prior: Prior precision, (d, d).
        pull: Prior precision times prior mean, (d,).
        tau: Precision of the noise.
        mu: Grand mean, taken off every entry.
        tiny: A pivot's least size relative to its diagonal element: the precision of `gram`.
        factorised: Whether `cov` is to be the variances that are best for a factorised posterior.
        mean: Posterior means, written, (n, d).
        cov: Packed covariances (n, p) or variances (n, d), written.
        sums: Added to, float64: the packed sum of E[u u'] (p), the sum of means (d), of log determinants, of
            -2 rhs' E[u] + tr(gram E[u u']), and of E[u]' (sum of x).
    """
    n, d = rhs.shape
    p = d * (d + 1) // 2
    a, x, u, h = np.zeros((d, d)), np.zeros((d, d)), np.empty(d), np.empty(d)
    for row in range(n):
        for i in range(d):
            h[i] = tau * (rhs[row, i] - mu * gram[row, p - d + i]) + pull[i]
            for j in range(i + 1):
                a[j, i] = tau * gram[row, i * (i + 1) // 2 + j] + prior[j, i]
            x[i, i] = 1 / a[i, i]
        if factorised:
            for i in range(d):
                cov[row, i] = x[i, i]
        logdet = _factor(a, tiny)
        _invert(a, x)
        _solve(x, h, u)
        if factorised:
            x[:] = 0
            logdet = 0.0
            for i in range(d):
                x[i, i] = cov[row, i]
                logdet += np.log(x[i, i])
        else:
            _square(x, a)
            a, x = x, a
            for i in range(d):
                cov[row, i * (i + 1) // 2 : (i + 1) * (i + 2) // 2] = x[i, : i + 1]
        for i in range(d):
            mean[row, i] = u[i]
        _add(gram[row], rhs[row], u, x, logdet, sums)


@compiled
def _factor(a: Array, tiny: float) -> float:
    """Upper factors U, U'U = a, in place of a's upper half; minus the log determinant of a."""
    d, logdet = len(a), 0.0
    for i in range(d):
        full, k = a[i, i], 0
        while k + 4 <= i:
            s, t, u, v = a[k, i], a[k + 1, i], a[k + 2, i], a[k + 3, i]
            for j in range(i, d):
                a[i, j] -= (s * a[k, j] + t * a[k + 1, j]) + (u * a[k + 2, j] + v * a[k + 3, j])
            k += 4
        while k < i:
            s = a[k, i]
            for j in range(i, d):
                a[i, j] -= s * a[k, j]
            k += 1
        a[i, i] = max(a[i, i], tiny * full)
        logdet -= np.log(a[i, i])
        scale = 1 / np.sqrt(a[i, i])
        for j in range(i, d):
            a[i, j] *= scale
    return logdet


@compiled
def _invert(a: Array, x: Array) -> None:
    """Lower inverses X of U', row by row."""
    for i in range(len(a)):
        x[i] = 0
        scale, k = 1 / a[i, i], 0
        while k + 4 <= i:
            s, t, u, v = a[k, i], a[k + 1, i], a[k + 2, i], a[k + 3, i]
            for j in range(k + 4):
                x[i, j] -= (s * x[k, j] + t * x[k + 1, j]) + (u * x[k + 2, j] + v * x[k + 3, j])
            k += 4
        while k < i:
            s = a[k, i]
            for j in range(k + 1):
                x[i, j] -= s * x[k, j]
            k += 1
        for j in range(i):
            x[i, j] *= scale
        x[i, i] = scale


@compiled
def _solve(x: Array, h: Array, out: Array) -> None:
    """X' X h."""
    out[:] = 0
    for i in range(len(h)):
        part = 0.0
        for j in range(i + 1):
            part += x[i, j] * h[j]
        for j in range(i + 1):
            out[j] += part * x[i, j]


@compiled
def _square(x: Array, out: Array) -> None:
    """The lower half of X' X."""
    d = len(x)
    for i in range(d):
        k = i
        out[i, : i + 1] = 0
        while k + 4 <= d:
            s, t, u, v = x[k, i], x[k + 1, i], x[k + 2, i], x[k + 3, i]
            for j in range(i + 1):
                out[i, j] += (s * x[k, j] + t * x[k + 1, j]) + (u * x[k + 2, j] + v * x[k + 3, j])
            k += 4
        while k < d:
            s = x[k, i]
            for j in range(i + 1):
                out[i, j] += s * x[k, j]
            k += 1


@compiled
def _add(gram: Array, rhs: Array, u: Array, cov: Array, logdet: float, sums: Array) -> None:
    """Add one row to the sums."""
    d = len(rhs)
    p = d * (d + 1) // 2
    error, total = 0.0, 0.0
    for i in range(d):
        at, part = i * (i + 1) // 2, 0.0
        for j in range(i + 1):
            second = u[i] * u[j] + cov[i, j]
            sums[at + j] += second
            part += 2 * gram[at + j] * second
        error += part - gram[at + i] * (u[i] * u[i] + cov[i, i]) - 2 * rhs[i] * u[i]
        sums[p + i] += u[i]
        total += gram[p - d + i] * u[i]
    sums[p + d] += logdet
    sums[p + d + 1] += error
    sums[p + d + 2] += total
