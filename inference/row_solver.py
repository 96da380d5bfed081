"""Posteriors of many rows from their sums, compiled for the CPU: Cholesky factors of `LANES` rows side by side.

Arrays hold a number of each of the rows where one row's loop would hold one number, so that every operation is on a
whole vector of the processor, whatever the rank. All in float64.
"""

from __future__ import annotations

import numpy as np

from .compiled import Array, compiled

LANES = 8  # float64 lanes of a 512-bit vector


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
    a, x, h, u = np.empty((p, LANES)), np.empty((p, LANES)), np.empty((d, LANES)), np.empty((d, LANES))
    part, logdet = np.empty(LANES), np.empty(LANES)
    for start in range(0, n, LANES):
        live = min(LANES, n - start)
        for v in range(LANES):
            i = start + min(v, live - 1)
            for k in range(d):
                h[k, v] = tau * (rhs[i, k] - mu * gram[i, p - d + k]) + pull[k]
                for j in range(k + 1):
                    a[k * (k + 1) // 2 + j, v] = tau * gram[i, k * (k + 1) // 2 + j] + prior[k, j]
        if factorised:
            for k in range(d):
                for v in range(live):
                    cov[start + v, k] = 1 / a[k * (k + 1) // 2 + k, v]
        _factor(a, d, tiny, logdet, part)
        _invert(a, d, x, part)
        _gram(x, d, a, part)
        _times(a, h, u, part)
        for v in range(live):
            for k in range(d):
                mean[start + v, k] = u[k, v]
            if not factorised:
                for k in range(p):
                    cov[start + v, k] = a[k, v]
            _add(gram[start + v], rhs[start + v], u[:, v], a[:, v], cov[start + v], logdet[v], factorised, sums)


@compiled
def _factor(a: Array, d: int, tiny: float, logdet: Array, part: Array) -> None:
    """Cholesky factors in place, with the inverses of their diagonals; minus the log determinants."""
    logdet[:] = 0
    for i in range(d):
        row = i * (i + 1) // 2
        for j in range(i + 1):
            other = j * (j + 1) // 2
            for v in range(LANES):
                part[v] = a[row + j, v]
            for k in range(j):
                for v in range(LANES):
                    part[v] -= a[row + k, v] * a[other + k, v]
            if j < i:
                for v in range(LANES):
                    a[row + j, v] = part[v] * a[other + j, v]
        for v in range(LANES):
            pivot = max(part[v], tiny * a[row + i, v])
            logdet[v] -= np.log(pivot)
            a[row + i, v] = 1 / np.sqrt(pivot)


@compiled
def _invert(a: Array, d: int, x: Array, part: Array) -> None:
    """Inverses of triangular factors that come with inverse diagonals."""
    for i in range(d):
        row = i * (i + 1) // 2
        for v in range(LANES):
            x[row + i, v] = a[row + i, v]
        for j in range(i):
            part[:] = 0
            for k in range(j, i):
                for v in range(LANES):
                    part[v] += a[row + k, v] * x[k * (k + 1) // 2 + j, v]
            for v in range(LANES):
                x[row + j, v] = -part[v] * a[row + i, v]


@compiled
def _gram(x: Array, d: int, out: Array, part: Array) -> None:
    """X' X of triangular matrices, packed."""
    for i in range(d):
        for j in range(i + 1):
            part[:] = 0
            for k in range(i, d):
                row = k * (k + 1) // 2
                for v in range(LANES):
                    part[v] += x[row + i, v] * x[row + j, v]
            for v in range(LANES):
                out[i * (i + 1) // 2 + j, v] = part[v]


@compiled
def _times(a: Array, h: Array, out: Array, part: Array) -> None:
    """Packed symmetric matrices times vectors."""
    for i in range(len(h)):
        part[:] = 0
        for j in range(len(h)):
            k = i * (i + 1) // 2 + j if j <= i else j * (j + 1) // 2 + i
            for v in range(LANES):
                part[v] += a[k, v] * h[j, v]
        for v in range(LANES):
            out[i, v] = part[v]


@compiled
def _add(
    gram: Array,
    rhs: Array,
    u: Array,
    full: Array,
    cov: Array,
    logdet: float,
    factorised: bool,
    sums: Array,
) -> None:
    """Add one row to the sums."""
    d = len(rhs)
    p = d * (d + 1) // 2
    error, total = 0.0, 0.0
    for k in range(d):
        row = k * (k + 1) // 2
        for i in range(k + 1):
            second = u[k] * u[i]
            if not factorised:
                second += full[row + i]
            elif k == i:
                second += cov[k]
                logdet = np.log(cov[k]) + (logdet if k else 0.0)
            sums[row + i] += second
            error += gram[row + i] * second * (1.0 if k == i else 2.0)
        sums[p + k] += u[k]
        error -= 2 * rhs[k] * u[k]
        total += gram[p - d + k] * u[k]
    sums[p + d] += logdet
    sums[p + d + 1] += error
    sums[p + d + 2] += total
