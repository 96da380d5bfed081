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

from .loader import DiskRows, MemoryRows, Rows
from .matrix import entries_by_column
from .meaning import Unstored, meaning, require_unstored
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


def source_of(data: ad.AnnData | Path | str, *, unstored: Unstored | None = None, needed_by: str = "") -> Source:
    """The source behind an AnnData, or behind the path of an .h5ad, whose matrix then stays on disk.

    Args:
        data: The matrix, or its path.
        unstored: What entries not stored must mean.
        needed_by: Whom it must mean that to.

    Raises:
        PlatewiseError: If the matrix has one row or one column only, no entries or some that are not finite, is not
            CSR, or does not say what entries not stored mean, or says another thing than what is needed.
    """
    if isinstance(data, ad.AnnData):
        _require(data, unstored, needed_by)
        return _source(MemoryRows(data.X), data.X, data)
    disk = DiskRows(data)
    with h5py.File(data, "r") as file:
        named = ad.AnnData(**{key: ad.io.read_elem(file[key]) for key in ("obs", "var", "uns")})
    _require(named, unstored, needed_by)
    return _source(disk, disk.arrays, named)


def _require(named: ad.AnnData, unstored: Unstored | None, needed_by: str) -> None:
    if unstored is not None:
        require_unstored(named, unstored, needed_by=needed_by)


def _source(rows: Rows, x: Any, named: ad.AnnData) -> Source:
    per_column = entries_by_column(x, rows.shape)
    obs = named.obs.assign(**{COUNT: np.diff(x.indptr[:])})
    var = named.var.assign(**{COUNT: per_column})
    digest = fingerprint(SimpleNamespace(X=x, obs_names=named.obs_names, var_names=named.var_names))
    return Source(rows, obs, var, dict(meaning(named)), digest)
