"""The exact update of rows whose entries count by weights: those of their row times those of their column.

A row's precision is diag(prior) + tau w_i sum_j v_j E[x x'], and its right-hand side likewise: the table of what
columns add is multiplied by v once, and the sums of a row by w_i, outside the loops of `row_kernel`. What remains of
each row's entries comes from the same sums, and one look at the entries:

    E[(y - b - x' u)^2] = E[(y - b)^2] - 2 E[(y - b) x]' E[u] + tr(E[x x'] E[u u'])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.compiled import Array, compiled
from ..data.parallel import Range, Scratch
from .entries import Entries
from .moments import Moments, unpack
from .row_update import Given, Half, Table, table_of, update_rows


class LineErrors(NamedTuple):
    """What remains of each row's values, their centre taken off, without f: sums weighted by column, not by row.

    Attributes:
        weight: Sum of weights, (n,).
        square: Sum of E[(y - f)^2].
        total: Sum of E[y - f].
    """

    weight: Float[Tensor, " n"]
    square: Float[Tensor, " n"]
    total: Float[Tensor, " n"]

    def errors(self, mean: float, variance: float) -> Float[Tensor, " n"]:
        """Sums of E[(y - mu - f)^2], given mu's moments; not below 0, where rounding would take them."""
        return (self.square - 2 * mean * self.total + self.weight * (mean**2 + variance)).clamp_min(0)


class WeightedRows:
    """A table whose sums are weighted.

    Args:
        table: What each column adds; weighted in place.
        of_rows: Weights of the rows, float64.
        of_cols: Weights of the columns, float64.
    """

    def __init__(self, table: Table, of_rows: Float[Tensor, " n"], of_cols: Float[Tensor, " m"]) -> None:
        table.weigh(of_cols)
        self.table, self.of_rows = table, of_rows

    @property
    def bytes_per_row(self) -> int:
        """Memory that sums of one row take."""
        return self.table.bytes_per_row

    def weigh(self, weight: Float[Tensor, " m"]) -> None:
        """Weigh the columns once more."""
        self.table.weigh(weight)

    def sums(self, entries: Entries, first: int, last: int, scratch: Scratch | None = None) -> tuple[Tensor, Tensor]:
        """Weighted sums over the columns of rows `first` to `last`."""
        gram, rhs = self.table.sums(entries, first, last, scratch)
        weight = self.of_rows[first:last, None]
        return gram.mul_(weight), rhs.mul_(weight)


def update_weighted_rows(
    entries: Entries,
    columns: Moments,
    given: Given,
    of_rows: Float[Tensor, " n"],
    of_cols: Float[Tensor, " m"],
    factorised: bool,
) -> tuple[Half, LineErrors]:
    """Blocks of all rows of a matrix with missing entries, and what remains of each row.

    Args:
        entries: The matrix by rows.
        columns: Blocks of the columns.
        given: What is held fixed.
        of_rows: Weights of the rows, float64.
        of_cols: Weights of the columns, float64.
        factorised: Whether blocks are factorised.
    """
    out = of_rows.new_empty(entries.n_rows, 3)
    bias = columns.bias, columns.cov[:, -1].double(), of_cols

    def look(at: Range, sums: tuple[Tensor, Tensor], mean: Tensor, cov: Tensor) -> None:
        found = (*sums, of_rows[slice(*at)], mean, cov)
        (_errors if mean.device.type == "cpu" else _batched_errors)(entries, bias, found, at, factorised, out)

    table = WeightedRows(table_of(columns), of_rows, of_cols)
    half = update_rows(entries, table, given, columns.mean, factorised, look)
    return half, LineErrors(*out.T)


Triple = tuple[Tensor, Tensor, Tensor]  # of columns: mean and variance of the bias, weight
Found = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # of rows: weighted sums, weight, mean, covariance


def _errors(entries: Entries, bias: Triple, found: Found, at: Range, factorised: bool, out: Tensor) -> None:
    """Write `out`'s rows of a range: weight, square and total."""
    arrays = (x.numpy() for x in (entries.indptr, entries.col, entries.value, *bias, *found))
    _sum_errors(*arrays, factorised, *at, out.numpy())


@compiled
def _sum_errors(
    indptr: Array,
    col: Array,
    value: Array,
    bias: Array,
    spread: Array,
    weight: Array,
    gram: Array,
    rhs: Array,
    of_rows: Array,
    mean: Array,
    cov: Array,
    factorised: bool,
    first: int,
    last: int,
    out: Array,
) -> None:
    """Write `out`'s rows `first` to `last`, whose sums and blocks start at 0."""
    d = mean.shape[1]
    p, u = d * (d + 1) // 2, np.empty(d)
    for i in range(last - first):
        square, total = 0.0, rhs[i, d - 1]
        for k in range(d):
            u[k] = mean[i, k]
        for k in range(d):
            at = k * (k + 1) // 2
            total -= gram[i, p - d + k] * u[k]
            square -= 2 * rhs[i, k] * u[k]
            for j in range(k):
                second = u[k] * u[j] + (0.0 if factorised else cov[i, at + j])
                square += 2 * gram[i, at + j] * second
            square += gram[i, at + k] * (u[k] * u[k] + (cov[i, k] if factorised else cov[i, at + k]))
        biases = 0.0
        for e in range(indptr[first + i], indptr[first + i + 1]):
            j = col[e]
            away = value[e] - bias[j]
            biases += weight[j] * (away * away + spread[j])
        out[first + i, 0] = gram[i, p - 1] / of_rows[i]
        out[first + i, 1] = square / of_rows[i] + biases
        out[first + i, 2] = total / of_rows[i]


def _batched_errors(entries: Entries, bias: Triple, found: Found, at: Range, factorised: bool, out: Tensor) -> None:
    """The same in tensors: the path of GPUs, and the kernel's reference."""
    gram, rhs, of_rows, mean, cov = (x.double() for x in found)
    d, here = mean.shape[1], slice(*at)
    full, spread = unpack(gram, d), torch.diag_embed(cov) if factorised else unpack(cov, d)
    second = torch.baddbmm(spread, mean[:, :, None], mean[:, None, :])
    square = (full * second).sum((1, 2)) - 2 * (rhs * mean).sum(1)
    total = rhs[:, -1] - (full[:, -1] * mean).sum(1)
    out[here, 0], out[here, 2] = full[:, -1, -1] / of_rows, total / of_rows
    out[here, 1] = square / of_rows + _bias_errors(entries, bias, at)


def _bias_errors(entries: Entries, bias: Triple, at: Range) -> Float[Tensor, " n"]:
    """Sum of each row's weighted E[(y - b)^2]."""
    crow = entries.indptr[at[0] : at[1] + 1].long()
    start, stop = crow[0].item(), crow[-1].item()
    col = entries.col[start:stop].long()
    mean, variance, weight = (x[col] for x in bias)
    each = weight * ((entries.value[start:stop].double() - mean).square() + variance)
    return torch.segment_reduce(each, "sum", offsets=crow - start, axis=0, initial=0.0)
