"""Training data as an algorithm sees them: rows to draw, names and side columns, from memory or from disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from .errors import PlatewiseError
from .loader import DiskRows, MemoryRows, Rows
from .matrix import entries_by_column
from .meaning import Unstored, mark, meaning, require_unstored
from .storage import fingerprint

COUNT = "n_entries"  # column added to the side tables: training entries of each row or column


@dataclass(frozen=True)
class Source:
    """A matrix to fit.

    Attributes:
        rows: Where mini-batches come from.
        obs: Names and side columns of the rows, `n_entries` among them.
        var: The same of the columns.
        meaning: What `uns["platewise"]` says.
        fingerprint: Digest of entries and names.
    """

    rows: Rows
    obs: pd.DataFrame
    var: pd.DataFrame
    meaning: dict[str, Any]
    fingerprint: str


def source_of(
    data: ad.AnnData | Path | str | None,
    *,
    unstored: Unstored | None = None,
    needed_by: str = "",
    allow_empty: bool = False,
) -> Source:
    """The source behind an AnnData, or behind the path of an .h5ad, whose matrix then stays on disk.

    Args:
        data: The matrix, or its path; None for no data, which is a matrix of 1 x 1 without entries.
        unstored: What entries not stored must mean.
        needed_by: Whom it must mean that to.
        allow_empty: Whether a matrix may have no entries; almost always it is a mistake.

    Raises:
        PlatewiseError: If the matrix has one row or one column only, no entries or some that are not finite, is not
            CSR, or does not say what entries not stored mean, or says another thing than what is needed; or if there
            is none, and entries not stored must be zeros.
    """
    if data is None:
        data, allow_empty = _no_data(unstored, needed_by), True
    if isinstance(data, ad.AnnData):
        _require(data, unstored, needed_by)
        return _source(MemoryRows(data.X), data.X, data, allow_empty)
    disk = DiskRows(data)
    with h5py.File(data, "r") as file:
        named = ad.AnnData(**{key: ad.io.read_elem(file[key]) for key in ("obs", "var", "uns")})
    _require(named, unstored, needed_by)
    return _source(disk, disk.arrays, named, allow_empty)


def _no_data(unstored: Unstored | None, needed_by: str) -> ad.AnnData:
    if unstored == "zero":
        raise PlatewiseError(
            f"Expected a matrix for {needed_by}, to which entries not stored are observed zeros, got None. Give one "
            "with mark(adata, unstored='zero')."
        )
    nothing = ad.AnnData(sp.csr_matrix((1, 1), dtype=np.float32))
    return mark(nothing, unstored="missing", row_name="row", col_name="column")


def _require(named: ad.AnnData, unstored: Unstored | None, needed_by: str) -> None:
    if unstored is not None:
        require_unstored(named, unstored, needed_by=needed_by)


def _source(rows: Rows, x: Any, named: ad.AnnData, allow_empty: bool) -> Source:
    empty = allow_empty and not rows.nnz and min(rows.shape) > 0
    per_column = np.zeros(rows.shape[1], np.int64) if empty else entries_by_column(x, rows.shape)
    obs = named.obs.assign(**{COUNT: np.diff(x.indptr[:])})
    var = named.var.assign(**{COUNT: per_column})
    digest = fingerprint(SimpleNamespace(X=x, obs_names=named.obs_names, var_names=named.var_names))
    return Source(rows, obs, var, dict(meaning(named)), digest)
