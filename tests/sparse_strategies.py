"""Hypothesis strategies of small sparse matrices: empty rows, one row, one column, columns in any order."""

import hypothesis.strategies as st
import numpy as np
import scipy.sparse as sp
import torch
from hypothesis import settings
from hypothesis.extra.numpy import arrays
from platewise.data import RowBatch

some = settings(deadline=None, max_examples=40)  # a shared machine keeps no deadlines


@st.composite
def matrices(draw: st.DrawFn, max_rows: int = 9, max_cols: int = 6) -> sp.csr_matrix:
    """A CSR matrix whose entries may be zeros, rows may be empty and columns unsorted within rows."""
    shape = draw(st.integers(1, max_rows)), draw(st.integers(1, max_cols))
    stored = draw(arrays(bool, shape))
    values = draw(arrays(np.float64, shape, elements=st.integers(-8, 8).map(lambda k: k / 4)))
    row, col = np.nonzero(stored)
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(len(row))
    order = order[np.argsort(row[order], kind="stable")]
    indptr = np.concatenate([[0], stored.sum(1).cumsum()])
    return sp.csr_matrix((values[row[order], col[order]], col[order], indptr), shape=shape)


def as_batch(matrix: sp.csr_matrix, n_rows: int | None = None) -> RowBatch:
    """All rows of a matrix as a batch, of a plate of `n_rows`."""
    crow, col = (torch.from_numpy(x.astype(np.int64)) for x in (matrix.indptr, matrix.indices))
    b, n_cols = matrix.shape
    return RowBatch(torch.arange(b), crow, col, torch.from_numpy(matrix.data), n_rows or b, n_cols)


batches = matrices().map(as_batch)
