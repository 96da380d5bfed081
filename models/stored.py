"""A value of rows of a sparse matrix, as its entries that are not zero: their places, values, and sums over rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.sparse import spread_by_row, sum_by_row


@dataclass(frozen=True, eq=False)
class Stored:
    """Entries of an (n, n_cols) matrix, row by row; what is not among them is zero. Particles are further rows.

    Attributes:
        crow: Start of each row's entries.
        col: Column of each entry.
        value: Value of each entry, in float64: entries are few, and their terms cancel.
        n_cols: Columns of the matrix.
    """

    crow: Int[Tensor, " n_plus_1"]
    col: Int[Tensor, " e"]
    value: Float[Tensor, " e"]
    n_cols: int

    @cached_property
    def flat(self) -> Int[Tensor, " e"]:
        """Place of each entry in the matrix, read row by row; each once."""
        start = torch.arange(0, (len(self.crow) - 1) * self.n_cols, self.n_cols, device=self.col.device)
        return self.col + self.spread(start)

    def row_sums(self, x: Float[Tensor, " e"]) -> Float[Tensor, " n"]:
        """Sum of each row's entries; 0 for a row without any."""
        return sum_by_row(x, self.crow)

    def spread(self, x: Shaped[Tensor, " n"]) -> Shaped[Tensor, " e"]:
        """`x` of each entry's row."""
        return spread_by_row(x, self.crow, len(self.col))

    def split(self, x: Tensor, fill: float) -> tuple[Float[Tensor, " e"], Tensor]:
        """`x` at the entries in float64, and `x` for everything else: of shape (n, n_cols) with `fill` at the entries.

        Gradients of the two fall on different places, so that nothing is accumulated. One number per column,
        (n_cols,), comes back whole.
        """
        if x.ndim == 1:
            return x.double().index_select(0, self.col), x
        at_entries, elsewhere = _Split.apply(x, self.flat, fill)
        return at_entries.double(), elsewhere


def stored_of(batch: RowBatch, value: Tensor, batch_shape: Sequence[int]) -> tuple[Stored, torch.Size]:
    """Entries of a value: of the batch's own, given by their values, or of a dense tensor.

    Args:
        batch: The batch whose sparsity pattern a vector of values has.
        value: Values of the batch's entries (e,), or a dense tensor (..., b, n_cols).
        batch_shape: Shape of the rows, particles first: (..., b).

    Returns:
        The entries, and the shape of the rows: `batch_shape`, with the value's particles.

    Raises:
        PlatewiseError: On any other shape.
    """
    if value.shape == batch.col.shape:
        shape = torch.Size(batch_shape)
        return _of_batch(batch, value, shape.numel() // max(len(batch.rows), 1)), shape
    b, n_cols = len(batch.rows), batch.n_cols
    if value.shape[-2:] == (b, n_cols) and _broadcast(value.shape[:-1], batch_shape):
        shape = torch.broadcast_shapes(value.shape[:-1], batch_shape)
        return _of_dense(value.expand(*shape, n_cols).reshape(-1, n_cols)), shape
    raise PlatewiseError(
        f"Expected the batch's {len(batch.col)} stored values or a dense tensor of shape (..., {b}, {n_cols}), got "
        f"shape {tuple(value.shape)}. Pass obs=batch.value."
    )


def _broadcast(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether two shapes fit together."""
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(a), reversed(b), strict=False))


def _of_batch(batch: RowBatch, value: Float[Tensor, " e"], particles: int) -> Stored:
    """The batch's entries once per particle, whose rows come one after the other."""
    if particles == 1:
        return Stored(batch.crow, batch.col, value.double(), batch.n_cols)
    starts = len(batch.col) * torch.arange(particles, device=batch.col.device)[:, None]
    crow = torch.cat([(batch.crow[:-1] + starts).flatten(), batch.crow[-1:] * particles])
    return Stored(crow, batch.col.repeat(particles), value.double().repeat(particles), batch.n_cols)


def _of_dense(x: Float[Tensor, "n n_cols"]) -> Stored:
    row, col = x.nonzero(as_tuple=True)
    crow = torch.cat([row.new_zeros(1), torch.bincount(row, minlength=len(x)).cumsum(0)])
    return Stored(crow, col, x[row, col].double(), x.shape[1])


class _Split(torch.autograd.Function):
    """Entries of a matrix, and the matrix with something else in their place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, flat: Tensor, fill: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(flat)
        x = x.contiguous()
        elsewhere = x.clone()
        elsewhere.view(-1).index_fill_(0, flat, fill)
        return x.view(-1).index_select(0, flat), elsewhere

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, at_entries: Tensor, elsewhere: Tensor) -> tuple[Tensor, None, None]:
        (flat,) = ctx.saved_tensors
        grad = elsewhere.clone(memory_format=torch.contiguous_format)
        grad.view(-1).index_copy_(0, flat, at_entries)
        return grad, None, None
