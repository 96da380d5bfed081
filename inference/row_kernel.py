"""The update of many rows at once, compiled for the CPU (numba): sums over each row's columns, then small Cholesky's.

A row's precision is diag(prior) + tau * sum over its columns of E[x x'], its mean the solution for tau * sum of
E[x (y - mu - b)], where x = (B, 1) and b are a column's factors and bias. Three loops, all without the interpreter's
lock, each on a range of rows:

1. `tabulate` writes what a column adds to its rows: E[x x'] packed, whose last d numbers are x, and E[x b]. p + d
   numbers, with d = r + 1 and p = d (d + 1) / 2.
2. `accumulate` sums the table over each row's columns. The table is stored by panels of `WIDTH` numbers and read in
   tiles of columns, so that the piece in hand stays in the second-level cache; sums of at most a tile's entries are
   taken in the table's precision, and added up in float64.
3. `row_solver.solve` factorises row after row, in float64.

The floor of a half sweep, with e entries and n rows: e (p + 2 d) additions, on e (p + d) numbers read from a table of
m (p + d) that does not fit the nearest cache, and n d^3 / 2 multiply-adds (factor, inverse, product: d^3 / 6 each).
x, at the end of E[x x'], is read once for both of its sums. Rank 16: 187 additions an entry, 2,456 multiply-adds a row;
rank 64: 2,275 and 137,313.
"""

from __future__ import annotations

import numpy as np

from ..data.compiled import Array, compiled

WIDTH = 64  # numbers in a panel: a panel's row is some whole cache lines
TILE_BYTES = 1 << 20  # of a panel, read by many rows before the next piece


@compiled
def tabulate(mean: Array, cov: Array, factorised: bool, first: int, last: int, table: Array) -> None:
    """Write the rows `first` to `last` of the table.

    Args:
        mean: Means of the columns' blocks, bias last, (m, d).
        cov: Their packed covariances (m, p), or variances (m, d).
        factorised: Which of the two.
        first: First column written.
        last: The one after the last.
        table: E[x x'] packed and E[x b], (panels, m, WIDTH).
    """
    d = mean.shape[1]
    p = d * (d + 1) // 2
    line, x = np.zeros(table.shape[0] * WIDTH, mean.dtype), np.empty(d, mean.dtype)
    for j in range(first, last):
        bias = mean[j, d - 1]
        for k in range(d):
            x[k] = mean[j, k] if k < d - 1 else 1.0
            for i in range(k + 1):
                line[k * (k + 1) // 2 + i] = x[k] * x[i]
        for k in range(d):
            line[p + k] = x[k] * bias
        for k in range(d - 1):
            if factorised:
                line[k * (k + 1) // 2 + k] += cov[j, k]
            else:
                line[p + k] += cov[j, d * (d - 1) // 2 + k]
                for i in range(k + 1):
                    line[k * (k + 1) // 2 + i] += cov[j, k * (k + 1) // 2 + i]
        for c in range(table.shape[0]):
            table[c, j] = line[c * WIDTH : (c + 1) * WIDTH]


@compiled
def accumulate(
    indptr: Array,
    col: Array,
    weight: Array,
    table: Array,
    start: int,
    first: int,
    last: int,
    out: Array,
    weighted: Array,
) -> None:
    """Add to `out` the table's rows summed over the columns of the matrix's rows `first` to `last`.

    Args:
        indptr: Start of each row's entries.
        col: Column of each entry, ascending within a row.
        weight: Weight of each entry.
        table: What to sum, (panels, m, WIDTH).
        start: The first panel whose weighted sums are wanted too.
        first: First row.
        last: The one after the last.
        out: Sums, float64, (last - first, panels * WIDTH).
        weighted: Weighted sums of some panels, float64, (last - first, so many * WIDTH).
    """
    n, m = last - first, table.shape[1]
    tile = max(TILE_BYTES // (WIDTH * table.itemsize), 1)
    at, part = np.empty(n, np.int64), np.empty((2, WIDTH), table.dtype)
    for c in range(table.shape[0]):
        panel, both = table[c], 0 <= (c - start) * WIDTH < weighted.shape[1]
        at[:] = indptr[first:last]
        for end in range(tile, m + tile, tile):
            for i in range(n):
                stop = indptr[first + i + 1]
                if at[i] >= stop or col[at[i]] >= end:
                    continue
                if both:
                    at[i] = _sum_weighted(col, weight, panel, at[i], stop, end, part)
                    for k in range(WIDTH):
                        weighted[i, (c - start) * WIDTH + k] += part[1, k]
                else:
                    at[i] = _sum(col, panel, at[i], stop, end, part)
                for k in range(WIDTH):
                    out[i, c * WIDTH + k] += part[0, k]


@compiled
def _sum(col: Array, panel: Array, e: int, stop: int, end: int, part: Array) -> int:
    """Sum a panel over the entries from `e` on whose column is before `end`, four at a time; where they stop."""
    part[0] = 0
    while e + 4 <= stop and col[e + 3] < end:
        a, b, c, d = col[e], col[e + 1], col[e + 2], col[e + 3]
        for k in range(WIDTH):
            part[0, k] += (panel[a, k] + panel[b, k]) + (panel[c, k] + panel[d, k])
        e += 4
    while e < stop and col[e] < end:
        a = col[e]
        for k in range(WIDTH):
            part[0, k] += panel[a, k]
        e += 1
    return e


@compiled
def _sum_weighted(col: Array, weight: Array, panel: Array, e: int, stop: int, end: int, part: Array) -> int:
    """The same, and the sum of each entry's weight times the panel."""
    part[:] = 0
    while e + 2 <= stop and col[e + 1] < end:
        a, b, s, t = col[e], col[e + 1], weight[e], weight[e + 1]
        for k in range(WIDTH):
            part[0, k] += panel[a, k] + panel[b, k]
            part[1, k] += s * panel[a, k] + t * panel[b, k]
        e += 2
    while e < stop and col[e] < end:
        a, s = col[e], weight[e]
        for k in range(WIDTH):
            part[0, k] += panel[a, k]
            part[1, k] += s * panel[a, k]
        e += 1
    return e
