"""What a matrix must be before anything is made of it: stored by rows, of some size, and finite throughout."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp

from .errors import PlatewiseError

_CHUNK = 1 << 22  # entries looked at once: bounds memory, and disk is read once


def require_csr(matrix: Any, where: str = "X") -> None:
    """Check that a matrix in memory is stored by rows.

    Raises:
        PlatewiseError: It is dense, or sparse in another format.
    """
    if not (sp.issparse(matrix) and matrix.format == "csr"):
        got = getattr(matrix, "format", type(matrix).__name__)
        raise PlatewiseError(f"Expected a CSR matrix in {where}, got {got}. Convert with scipy.sparse.csr_matrix(X).")


def by_rows(adata: ad.AnnData) -> ad.AnnData:
    """The same container with sparse matrices stored by rows, columns in order.

    Returns:
        ``adata`` itself where it is so already; else a new one, and ``adata`` stays as it is.

    Raises:
        PlatewiseError: ``X`` is dense, or holds an entry twice.
    """
    x: Any = adata.X
    sparse: bool = sp.issparse(x)
    if not sparse:
        raise PlatewiseError(
            f"Expected a sparse matrix in X, got {type(x).__name__}. "
            "A dense array cannot tell missing from 0: store the entries you mean."
        )
    if not all(_is_by_rows(matrix) for matrix in (x, *adata.layers.values())):
        layers = {name: _by_rows(matrix) for name, matrix in adata.layers.items()}
        kept = {name: dict(getattr(adata, name)) for name in ("uns", "obsm", "varm", "obsp", "varp")}
        x = _by_rows(x)
        adata = ad.AnnData(x, obs=adata.obs.copy(), var=adata.var.copy(), layers=layers, **kept)
    if not x.has_canonical_format:
        raise PlatewiseError("Expected each entry once, got duplicate entries. Merge them, e.g. X.sum_duplicates().")
    return adata


def _is_by_rows(matrix: Any) -> bool:
    return not sp.issparse(matrix) or (matrix.format == "csr" and bool(matrix.has_sorted_indices))


def _by_rows(matrix: Any) -> Any:
    return matrix if _is_by_rows(matrix) else matrix.tocsr().sorted_indices()


def entries_by_column(x: Any, shape: tuple[int, int]) -> np.ndarray:
    """Number of entries in each column, once it is sure that something can be learnt from the matrix.

    Args:
        x: Has ``indices`` and ``data`` of a CSR matrix: arrays, or h5py datasets on disk, which are read once.
        shape: Rows and columns.

    Returns:
        int64 of shape (n_columns,).

    Raises:
        PlatewiseError: There is one row or one column only, no entry, or some that are not finite.
    """
    n_rows, n_cols = shape
    n_entries = len(x.data)
    if min(shape) < 2 or not n_entries:
        raise PlatewiseError(
            f"Expected two rows and two columns at least, and entries, got {n_rows} x {n_cols} with {n_entries} "
            "stored. Check what was read."
        )
    counts, n_bad = np.zeros(n_cols, np.int64), 0
    for start in range(0, n_entries, _CHUNK):
        piece = slice(start, start + _CHUNK)
        counts += np.bincount(x.indices[piece], minlength=n_cols)
        n_bad += int(np.count_nonzero(~np.isfinite(x.data[piece])))
    if n_bad:
        raise PlatewiseError(
            f"Expected finite entries, got {n_bad} of {n_entries} that are NaN or infinite. Correct or drop them."
        )
    return counts
