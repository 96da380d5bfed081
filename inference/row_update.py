"""The exact update of every row's block, given the columns' blocks: the two halves of a sweep of coordinate ascent.

Rows come in ranges whose sums take at most `SUMS_BYTES` on each thread, so peak memory is the table of the columns
(m (p + d) numbers, d = r + 1, p = d (d + 1) / 2), the moments of both sides, and that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..data.parallel import Range, Scratch, in_parallel, ranges
from .entries import Entries
from .moments import Moments, Sums, packed_size, unpack
from .row_batched import BatchedRows, solve_batched

Look = Callable[[Range, tuple[Tensor, Tensor], Tensor, Tensor], None]  # at a range: its sums, new means, covariances
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


@runtime_checkable
class Table(Protocol):
    """What each column adds to its rows."""

    @property
    def bytes_per_row(self) -> int:
        """Memory that sums of one row take."""

    def weigh(self, weight: Float[Tensor, " m"]) -> None:
        """Multiply what each column adds by its weight, in place."""

    def sums(self, entries: Entries, first: int, last: int, scratch: Scratch | None = None) -> tuple[Tensor, Tensor]:
        """Sums over the columns of rows `first` to `last`: E[x x'] packed (n, p), E[x (y - b)] (n, d); float64."""


def table_of(columns: Moments) -> Table:
    """The table of what columns add to their rows: of the compiled kernel on the CPU, of tensors elsewhere."""
    if columns.mean.device.type == "cpu":
        from .row_compiled import CompiledRows

        return CompiledRows(columns)
    return BatchedRows(columns)


def update_rows(
    entries: Entries, table: Table, given: Given, like: Tensor, factorised: bool, look: Look | None = None
) -> Half:
    """Blocks of all rows of a matrix with missing entries.

    Args:
        entries: The matrix by rows.
        table: What its columns add.
        given: What is held fixed.
        like: A tensor of the blocks' device and dtype.
        factorised: Whether blocks are factorised.
        look: Called with each range's sums and new blocks, on any thread.
    """
    ranges = row_ranges(entries.n_rows, table.bytes_per_row, like.device)
    scratch = Scratch()
    return _solved(lambda at: table.sums(entries, *at, scratch), ranges, given, like, factorised, look)


def add_sums(entries: Entries, table: Table, gram: Tensor, rhs: Tensor, weight: float) -> None:
    """Add to `gram` (n, p) and `rhs` (n, d) the weighted sums of all rows over their columns."""
    scratch = Scratch()
    ranges = row_ranges(entries.n_rows, table.bytes_per_row, gram.device)
    in_parallel(lambda at: _add(gram, rhs, at, table.sums(entries, *at, scratch), weight), ranges)


def _add(gram: Tensor, rhs: Tensor, at: Range, sums: tuple[Tensor, Tensor], weight: float) -> None:
    for into, found in zip((gram, rhs), sums, strict=True):
        into[slice(*at)].add_(found, alpha=weight)


def solve_rows(gram: Tensor, rhs: Tensor, given: Given, like: Tensor, factorised: bool) -> Half:
    """Blocks of all rows from their sums."""
    ranges = row_ranges(len(gram), 8 * gram.shape[1], like.device)
    return _solved(lambda at: (gram[slice(*at)], rhs[slice(*at)]), ranges, given, like, factorised)


def _solved(
    sums: Callable[[Range], tuple[Tensor, Tensor]],
    ranges: list[Range],
    given: Given,
    like: Tensor,
    factorised: bool,
    look: Look | None = None,
) -> Half:
    n, d = ranges[-1][1], len(given.pull)
    mean, cov = like.new_empty(n, d), like.new_empty(n, d if factorised else packed_size(d))
    solver = partial(_solver(like.device), factorised=factorised)
    parts = in_parallel(lambda at: _part(solver, at, sums(at), given, mean, cov, look), ranges)
    total = torch.stack(parts).sum(0).cpu()
    p = packed_size(d)
    logdet, error, fit = total[p + d :].tolist()
    second = unpack(total[None, :p], d)[0]
    return Half(Moments(mean, cov, Sums(n, total[p : p + d], second, logdet), factorised), error, fit)


def _part(
    solver: Callable[..., Tensor],
    at: Range,
    sums: tuple[Tensor, Tensor],
    given: Given,
    mean: Tensor,
    cov: Tensor,
    look: Look | None,
) -> Tensor:
    """Write the blocks of a range; what they add to the totals."""
    here = slice(*at)
    part = solver(*sums, *given, mean[here], cov[here])
    if look is not None:
        look(at, sums, mean[here], cov[here])
    return part


def _solver(device: torch.device) -> Callable[..., Tensor]:
    if device.type == "cpu":
        from .row_compiled import solve_compiled

        return solve_compiled
    return solve_batched


def row_ranges(n: int, bytes_per_row: int, device: torch.device) -> list[Range]:
    """Ranges of rows that bound memory; the same whatever the number of threads."""
    most = min(SUMS_BYTES[device.type] // bytes_per_row, math.ceil(n / MOST_ROWS))
    return ranges(n, max(most // ROUND * ROUND, ROUND))
