"""The exact update of every row's block, given the columns' blocks: the two halves of a sweep of coordinate ascent.

Rows come in ranges whose sums take at most `SUMS_BYTES` on each thread, so peak memory is the table of the columns
(m (p + 2 d) numbers, d = r + 1, p = d (d + 1) / 2), the moments of both sides, and that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .entries import Entries
from .moments import Moments, Sums, packed_size, unpack
from .parallel import in_parallel, ranges
from .row_batched import BatchedRows, solve_batched

SUMS_BYTES = {"cpu": 1 << 25, "cuda": 1 << 30}  # of one range of rows
MOST_ROWS = 16  # a range is at most this part of the rows, so that threads end together
ROUND = 8  # rows of a range come in multiples of this


class Given(NamedTuple):
    """What an update of blocks holds fixed, beside the blocks of the other side.

    Attributes:
        precision: Prior precision of a block, (d, d).
        pull: Prior precision times prior mean, (d,).
        tau: Precision of the noise.
        mu: Mean of the grand mean, less the matrix's centre.
    """

    precision: Float[Tensor, "d d"]
    pull: Float[Tensor, " d"]
    tau: float
    mu: float


class Half(NamedTuple):
    """New blocks of one side, and what the bound needs of them; f is an entry's mean without mu and the other bias.

    Attributes:
        moments: The blocks.
        error: Sum over entries of E[f^2] - 2 E[(y - other bias) f].
        total: Sum over entries of E[f].
    """

    moments: Moments
    error: float
    total: float


def table_of(columns: Moments) -> BatchedRows:
    """The table of what columns add to their rows: of the compiled kernel on the CPU, of tensors elsewhere."""
    if columns.mean.device.type == "cpu":
        from .row_compiled import CompiledRows

        return CompiledRows(columns)  # type: ignore[return-value]
    return BatchedRows(columns)


def update_rows(entries: Entries, columns: Moments, given: Given, factorised: bool) -> Half:
    """Blocks of all rows of a matrix with missing entries.

    Args:
        entries: The matrix by rows.
        columns: Blocks of its columns, bias last.
        given: What is held fixed.
        factorised: Whether blocks are factorised.
    """
    table, n, d = table_of(columns), entries.n_rows, columns.mean.shape[1]
    mean = columns.mean.new_empty(n, d)
    cov = columns.mean.new_empty(n, d if factorised else packed_size(d))

    def update(at: tuple[int, int]) -> Tensor:
        here = slice(*at)
        return solve(*table.sums(entries, *at), given, mean[here], cov[here], factorised)

    parts = in_parallel(update, row_ranges(n, table.bytes_per_row, mean.device))
    return half_of(mean, cov, torch.stack(parts).sum(0), factorised)


def solve(gram: Tensor, rhs: Tensor, given: Given, mean: Tensor, cov: Tensor, factorised: bool) -> Tensor:
    """Write the posteriors of rows with these sums; return sums over them (see `row_solver.solve`)."""
    if mean.device.type == "cpu":
        from .row_compiled import solve_compiled as solver
    else:
        solver = solve_batched
    return solver(gram, rhs, *given, mean, cov, factorised)


def row_ranges(n: int, bytes_per_row: int, device: torch.device) -> list[tuple[int, int]]:
    """Ranges of rows that bound memory; the same whatever the number of threads."""
    most = min(SUMS_BYTES[device.type] // bytes_per_row, math.ceil(n / MOST_ROWS))
    return ranges(n, max(most // ROUND * ROUND, ROUND))


def half_of(mean: Tensor, cov: Tensor, sums: Tensor, factorised: bool) -> Half:
    """Blocks with the sums that a solver returned."""
    n, d = mean.shape
    p = packed_size(d)
    sums = sums.cpu()
    logdet, error, total = sums[p + d :].tolist()
    second = unpack(sums[None, :p], d)[0]
    return Half(Moments(mean, cov, Sums(n, sums[p : p + d], second, logdet), factorised), error, total)
