"""The one container: an AnnData of users (or cells) by items (or genes), and what its gaps mean.

``X`` is CSR. In a rating matrix an entry that is not stored is *missing* and a stored 0 is a rating of 0;
in a count matrix an entry that is not stored is an observed zero. ``adata.uns["platewise"]`` records which::

    {"unstored": "missing" | "zero", "row_ids": "int" | "str", "col_ids": "int" | "str",
     "row_name": "user", "col_name": "item"}

Timestamps, where there are any, are ``adata.layers["timestamp"]``: int64 seconds since 1970, on the very
same structure as ``X``. Concatenating AnnData drops ``uns``: `mark` sets the meaning again.
"""

from collections.abc import Iterable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from .errors import PlatewiseError
from .ids import IdKind, name_ids, original_ids
from .meaning import mark, meaning


def make_ratings(
    X: Any,
    row_ids: Iterable[object],
    col_ids: Iterable[object],
    *,
    obs: pd.DataFrame | None = None,
    var: pd.DataFrame | None = None,
    timestamp: np.ndarray | None = None,
) -> ad.AnnData:
    """A container of ratings: entries not stored are missing, a stored 0 is a rating of 0.

    Args:
        X: Sparse matrix (n_users, n_items), CSR or convertible to it; values become float32.
        row_ids: Ids of the users (n_users,): integers or text.
        col_ids: Ids of the items (n_items,).
        obs: Side columns of the users, one row per user in the order of ``row_ids``.
        var: Side columns of the items.
        timestamp: Seconds since 1970 (n_entries,), one per stored entry in the order of the CSR arrays.

    Returns:
        The container, marked as ``"missing"``. It shares the arrays of ``X`` where they fit already.

    Raises:
        PlatewiseError: ``X`` is dense or has duplicate entries, ids do not match its shape, occur twice or
            are of mixed types, or a side table or the timestamps have another length.
    """
    x, stamps = _as_csr(X, timestamp)
    rows, row_kind = _names(row_ids, x.shape[0], "user ids")
    cols, col_kind = _names(col_ids, x.shape[1], "item ids")
    adata = ad.AnnData(x, obs=_side(obs, rows, "obs"), var=_side(var, cols, "var"))
    if stamps is not None:
        adata.layers["timestamp"] = sp.csr_matrix((stamps, x.indices, x.indptr), shape=x.shape, copy=False)
    return mark(adata, unstored="missing", row_ids=row_kind, col_ids=col_kind)


def _as_csr(X: Any, timestamp: np.ndarray | None) -> tuple[sp.csr_matrix, np.ndarray | None]:
    sparse: bool = sp.issparse(X)
    if not sparse:
        raise PlatewiseError(
            f"Expected a scipy sparse matrix, got {type(X).__name__}. "
            "A dense array cannot tell missing from 0: convert it with the entries you mean."
        )
    if timestamp is not None and (X.format != "csr" or len(timestamp) != X.nnz):
        raise PlatewiseError(
            f"Expected one timestamp per stored entry of a CSR matrix ({X.nnz}), "
            f"got {len(timestamp)} for a matrix in {X.format} format. Convert with tocsr() first."
        )
    x = sp.csr_matrix(X, dtype=np.float32, copy=False)
    stamps = None if timestamp is None else np.asarray(timestamp, dtype=np.int64)
    if not x.has_sorted_indices:
        x, stamps = _sorted(x, stamps)
    if not x.has_canonical_format:
        raise PlatewiseError("Expected each entry once, got duplicate entries. Use read_ratings(..., duplicates=...).")
    return x, stamps


def _sorted(x: sp.csr_matrix, stamps: np.ndarray | None) -> tuple[sp.csr_matrix, np.ndarray | None]:
    order = sp.csr_matrix((np.arange(x.nnz), x.indices.copy(), x.indptr), shape=x.shape)
    order.sort_indices()
    x = sp.csr_matrix((x.data[order.data], order.indices, x.indptr), shape=x.shape, copy=False)
    return x, None if stamps is None else stamps[order.data]


def _names(ids: Iterable[object], n: int, of: str) -> tuple[np.ndarray, IdKind]:
    names, kind = name_ids(ids, of)
    if len(names) != n:
        raise PlatewiseError(f"Expected {n} {of}, one per row or column of X, got {len(names)}. Pass them all.")
    index = pd.Index(names)
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise PlatewiseError(f"Expected {of} that are unique, got {twice!r} more than once. Merge them first.")
    return names, kind


def _side(table: pd.DataFrame | None, names: np.ndarray, of: str) -> pd.DataFrame:
    index = pd.Index(names, dtype=object)
    if table is None:
        return pd.DataFrame(index=index)
    if len(table) != len(names):
        raise PlatewiseError(f"Expected {of} with {len(names)} rows, one per id, got {len(table)}. Reindex it by id.")
    return table.set_axis(index, axis=0)


def row_ids(adata: ad.AnnData) -> np.ndarray:
    """The ids of the rows as the user wrote them: int64, or object (str)."""
    return original_ids(adata.obs_names, meaning(adata)["row_ids"])


def col_ids(adata: ad.AnnData) -> np.ndarray:
    """The ids of the columns as the user wrote them: int64, or object (str)."""
    return original_ids(adata.var_names, meaning(adata)["col_ids"])
