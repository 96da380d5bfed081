"""A whole sparse matrix as exact updates read it: by rows and by columns, values around their mean.

8 bytes an entry and orientation (column 4, value 4) in float32, 16 bytes in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data.batches import RowBatch
from ..data.loader import RowLoader, Rows
from ..data.sparse import csr_tensor

ROWS_AT_ONCE = 4096  # read from the source
ROUNDING = 1e-13  # of means and sums of squares, relative


@dataclass(frozen=True, eq=False)
class Entries:
    """Stored entries by rows, columns ascending within a row.

    Attributes:
        indptr: Start of each row's entries.
        col: Column of each entry.
        value: Value of each entry, less the matrix's centre.
        n_cols: Number of columns.
    """

    indptr: Int[Tensor, " n_plus_1"]
    col: Int[Tensor, " e"]
    value: Float[Tensor, " e"]
    n_cols: int

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.indptr) - 1

    @cached_property
    def count(self) -> Float[Tensor, " n"]:
        """Stored entries of each row."""
        return self.indptr.diff().double()

    @cached_property
    def total(self) -> Float[Tensor, " n"]:
        """Sum of each row's values, float64."""
        rows = torch.repeat_interleave(self.indptr.diff().long(), output_size=len(self.value))
        return torch.zeros_like(self.count).index_add_(0, rows, self.value.double())

    def sparse(self) -> Tensor:
        """The entries as a sparse tensor, (n, n_cols)."""
        crow, col = self.indptr.long(), self.col.long()
        return csr_tensor(crow, col, self.value, (self.n_rows, self.n_cols))

    def transposed(self) -> Entries:
        """The same entries by columns."""
        csr = sp.csr_matrix(
            (self.value.cpu().numpy(), self.col.cpu().numpy(), self.indptr.cpu().numpy()), (self.n_rows, self.n_cols)
        )
        return entries_of(csr.tocsc(), self.n_rows).to(self.value.device)

    def to(self, device: torch.device | str) -> Entries:
        """The same entries on a device."""
        return Entries(self.indptr.to(device), self.col.to(device), self.value.to(device), self.n_cols)


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix by rows and by columns.

    Attributes:
        rows: Entries by rows.
        cols: The same by columns.
        full: Whether entries not stored are observed zeros, and not missing.
        centre: What was taken off every value; 0 where zeros are not stored.
        square: Sum of squared values, float64.
    """

    rows: Entries
    cols: Entries
    full: bool
    centre: float
    square: float

    @property
    def n_entries(self) -> int:
        """Observed entries."""
        return self.rows.n_rows * self.rows.n_cols if self.full else len(self.rows.value)

    @cached_property
    def sum(self) -> float:
        """Sum of all values."""
        return float(self.rows.value.sum(dtype=torch.float64))

    @property
    def spread(self) -> float:
        """Standard deviation of the observed entries; 0 where it is no more than rounding."""
        mean = self.sum / self.n_entries
        spread = max(self.square / self.n_entries - mean**2, 0.0) ** 0.5
        least = max(ROUNDING * abs(self.centre), ROUNDING**0.5 * abs(mean))
        return spread if spread > least else 0.0


def batch_matrix(batch: RowBatch, centre: float) -> Matrix:
    """A batch's rows by rows and by columns."""
    rows = entries_of_batch(batch, centre=centre)
    square = float(rows.value.double().square().sum())
    return Matrix(rows, rows.transposed(), False, centre, square)


def entries_of_batch(
    batch: RowBatch, col: Tensor | None = None, n_cols: int | None = None, centre: float = 0.0
) -> Entries:
    """A batch's entries, columns in order.

    Args:
        batch: The batch.
        col: The entries' columns, if they are numbered otherwise.
        n_cols: How many there are then.
        centre: Taken off every value.
    """
    arrays = (batch.value - centre, (batch.col if col is None else col).int(), batch.crow.int())
    size = (len(batch.rows), n_cols or batch.n_cols)
    csr = sp.csr_matrix(tuple(x.cpu().numpy() for x in arrays), size)
    return entries_of(csr, size[1]).to(batch.value.device)


def matrix_of(source: Rows, full: bool, device: torch.device | str, dtype: torch.dtype) -> Matrix:
    """Read a matrix whole, some rows at a time."""
    rows = _read(source, dtype)
    centre = 0.0 if full else float(rows.value.mean(dtype=torch.float64))
    rows.value.sub_(centre)
    square = sum(float(part.double().square().sum()) for part in rows.value.split(1 << 24))
    cols = rows.transposed()
    return Matrix(rows.to(device), cols.to(device), full, centre, square)


def entries_of(compressed: sp.csr_matrix | sp.csc_matrix, n_cols: int) -> Entries:
    """The entries of a matrix compressed by what are to be rows; columns are put into order."""
    compressed.sort_indices()
    arrays = (compressed.indptr, compressed.indices.astype(np.int32, copy=False), compressed.data)
    indptr, col, value = (torch.from_numpy(x) for x in arrays)
    return Entries(indptr, col, value, n_cols)


def _read(source: Rows, dtype: torch.dtype) -> Entries:
    loader = RowLoader(source, ROWS_AT_ONCE, dtype=dtype)
    kind = np.int32 if source.nnz < 2**31 else np.int64
    indptr, at = np.zeros(source.shape[0] + 1, kind), 0
    col, value = np.empty(source.nnz, np.int32), torch.empty(source.nnz, dtype=dtype).numpy()
    for batch in loader.in_order():
        n = len(batch.value)
        col[at : at + n], value[at : at + n] = batch.col.numpy(), batch.value.numpy()
        indptr[batch.rows.numpy() + 1] = at + batch.crow[1:].numpy()
        at += n
    return entries_of(sp.csr_matrix((value, col, indptr), source.shape, copy=False), source.shape[1])
