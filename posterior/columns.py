"""A later matrix on the columns of a fit, its entries made as the fit's were."""

from __future__ import annotations

import logging
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..data.errors import PlatewiseError
from ..data.matrix import by_rows
from ..data.meaning import meaning
from ..data.preparation import is_expression, prepared_like, require_gaps_like
from ..inference.fitted import Fitted
from .names import align

logger = logging.getLogger("platewise")


def on_columns_of(fitted: Fitted, adata: ad.AnnData) -> ad.AnnData:
    """A matrix on the columns of a fit, in the fit's order; entries of other columns are left out, and counted.

    Counts are normalised as those of the fit were: a row's total is over the fit's columns.

    Args:
        fitted: The fit.
        adata: The matrix; left as it is.

    Raises:
        PlatewiseError: If the matrix is not what the model takes, holds entries that are not finite, a row's name twice
            or none of the fit's columns, or, where entries not stored are zeros, not all of them.
    """
    require_gaps_like(adata, fitted.meaning, needed_by=type(fitted.model).__name__)
    _require_usable(adata, fitted.meaning["row_name"])
    aligned = align(adata.var_names, fitted.var.index)
    _require_columns(fitted, aligned.known, aligned.code)
    x: Any = by_rows(adata).X.tocoo()
    kept = aligned.known[x.col]
    _say_what_is_left_out(fitted, len(np.unique(x.col[~kept])), int((~kept).sum()))
    place = (x.row[kept], aligned.code[x.col[kept]])
    matrix = sp.csr_matrix((x.data[kept], place), shape=(adata.n_obs, fitted.n_cols))
    matrix.sort_indices()
    placed = ad.AnnData(matrix, obs=adata.obs.copy(), var=pd.DataFrame(index=fitted.var.index))
    placed.uns["platewise"] = meaning(adata)
    placed = prepared_like(placed, fitted.meaning)
    placed.uns["platewise"] = fitted.meaning | {"row_ids": meaning(adata)["row_ids"]}
    return placed


def _require_usable(adata: ad.AnnData, of: str) -> None:
    x: Any = adata.X
    if not adata.n_obs or (sp.issparse(x) and not np.isfinite(x.data).all()):
        got = "some that are not finite" if adata.n_obs else f"no {of}"
        raise PlatewiseError(f"Expected {of}s with finite entries to fold in, got {got}. Check how they were made.")
    if not adata.obs_names.is_unique:
        twice = adata.obs_names[adata.obs_names.duplicated()][0]
        raise PlatewiseError(f"Expected each {of} once, got {twice!r} more than once. Merge them first.")


def _require_columns(fitted: Fitted, known: np.ndarray, code: np.ndarray) -> None:
    """Some of the fit's columns, or all of them where one that is not there would be read as zeros."""
    of, n_known = fitted.meaning["col_name"], len(np.unique(code[known]))
    if n_known < known.sum():
        raise PlatewiseError(f"Expected each {of} once, got one more than once. Merge them first.")
    if not n_known:
        raise PlatewiseError(
            f"Expected {of}s that the fit knows, such as {fitted.var.index[0]!r}, got none. Check the {of} ids."
        )
    if is_expression(fitted.meaning) and n_known < fitted.n_cols:
        raise PlatewiseError(
            f"Expected all {fitted.n_cols} {of}s of the fit, because entries not stored are zeros, got {n_known}. Give "
            "the others too, or fit again on those there are."
        )


def _say_what_is_left_out(fitted: Fitted, n_cols: int, n_entries: int) -> None:
    if n_entries:
        of = fitted.meaning["col_name"]
        logger.info("left out: %d entries of %d %ss that the fit does not know", n_entries, n_cols, of)
