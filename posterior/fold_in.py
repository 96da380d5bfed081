"""New rows in an old fit: their posterior given their entries, with the columns and the scales as they were fitted.

The posterior of a row's block given the columns' is exact (`inference.fold_in`), so rows that the fit knew, with the
entries that it knew, get back what they had at the fit's own maximum. What new rows say of the columns is left out: fit
again once they are many.
"""

from __future__ import annotations

import logging
from copy import deepcopy
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch

from ..data.errors import PlatewiseError
from ..data.loader import MemoryRows, RowLoader
from ..data.matrix import by_rows
from ..data.meaning import meaning, require_unstored
from ..data.source import COUNT
from ..data.storage import fingerprint, read_h5ad
from ..inference.fitted import Fitted
from ..inference.fold_in import fold_rows
from ..inference.moments import slices
from ..inference.protocols import Bilinear, HoldsBlocks
from ..inference.rebuild import allocate
from .names import align

ROWS_AT_ONCE = 1024

logger = logging.getLogger("platewise")


def fold_in(fitted: Fitted, data: ad.AnnData | Path | str) -> Fitted:
    """The posterior of the rows of a matrix, given a fit's columns.

    Columns are aligned by name; entries of columns that the fit does not know are left out, and counted (logger
    "platewise"). Every row's posterior is the exact one given its entries here alone, whether or not the fit knew the
    row.

    Args:
        fitted: The fit; left as it is.
        data: The rows with their entries, or the path of their .h5ad.

    Returns:
        A fit with the rows of `data` and the columns of the old one, for every read-out; its training data are the
        entries that were used. There is nothing to go on with.

    Raises:
        PlatewiseError: If model or guide have no exact updates; if `data` are not what the model takes, hold entries
            that are not finite, a row's name twice or none of the fit's columns, or, where entries not stored are
            zeros, not all of them.
    """
    model, old = _require_exact(fitted)
    adata = on_columns_of(fitted, data if isinstance(data, ad.AnnData) else read_h5ad(data))
    guide = _guide_for(fitted, adata.n_obs)
    name_mu, site, name_item = model.factor_sites
    _copy(old, guide, name_mu, 1)
    _copy(old, guide, name_item, fitted.n_cols)
    loader = RowLoader(MemoryRows(adata.X), ROWS_AT_ONCE, device=fitted.device, dtype=fitted.dtype)
    for batch in loader.in_order():
        first = int(batch.rows[0])
        guide.set_blocks(site, *fold_rows(model, fitted.guide, batch), slice(first, first + len(batch.rows)))
    return Fitted(
        model=deepcopy(fitted.model),
        guide=guide,
        algorithm="fold-in",
        options={},
        seed=fitted.seed,
        history=fitted.history.iloc[:0],
        stopped=f"folded in, given the columns of a fit by {fitted.algorithm}",
        converged=None,
        obs=adata.obs.assign(**{COUNT: np.diff(adata.X.indptr)}),
        var=fitted.var,
        meaning=dict(meaning(adata)),
        fingerprint=fingerprint(adata),
        data=adata,
    )


def on_columns_of(fitted: Fitted, adata: ad.AnnData) -> ad.AnnData:
    """A matrix on the columns of a fit, in the fit's order; entries of other columns are left out, and counted.

    Raises:
        PlatewiseError: As `fold_in` does.
    """
    require_unstored(adata, fitted.meaning["unstored"], needed_by=type(fitted.model).__name__)
    _require_usable(adata, fitted.meaning["row_name"])
    aligned = align(adata.var_names, fitted.var.index)
    _require_columns(fitted, aligned.known, aligned.code)
    x: Any = by_rows(adata).X.tocoo()
    kept = aligned.known[x.col]
    _say_what_is_left_out(fitted, len(np.unique(x.col[~kept])), int((~kept).sum()))
    place = (x.row[kept], aligned.code[x.col[kept]])
    matrix = sp.csr_matrix((x.data[kept], place), shape=(adata.n_obs, fitted.n_cols))
    matrix.sort_indices()
    folded = ad.AnnData(matrix, obs=adata.obs.copy(), var=pd.DataFrame(index=fitted.var.index))
    folded.uns["platewise"] = fitted.meaning | {"row_ids": meaning(adata)["row_ids"]}
    return folded


def _require_exact(fitted: Fitted) -> tuple[Any, Any]:
    model, guide = fitted.model, fitted.guide
    if not (isinstance(model, Bilinear) and isinstance(guide, HoldsBlocks)):
        raise PlatewiseError(
            f"Expected a model and a guide with exact updates (LatentFactor; MeanFieldNormal or RowBlockNormal) to "
            f"fold rows in, got {type(model).__name__} and {type(guide).__name__}. Fit again, with the new rows."
        )
    return model, guide


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
    if fitted.meaning["unstored"] == "zero" and n_known < fitted.n_cols:
        raise PlatewiseError(
            f"Expected all {fitted.n_cols} {of}s of the fit, because entries not stored are zeros, got {n_known}. Give "
            "the others too, or fit again on those there are."
        )


def _say_what_is_left_out(fitted: Fitted, n_cols: int, n_entries: int) -> None:
    if n_entries:
        of = fitted.meaning["col_name"]
        logger.info("left out: %d entries of %d %ss that the fit does not know", n_entries, n_cols, of)


def _guide_for(fitted: Fitted, n_rows: int) -> Any:
    """A guide like the fit's, made for other rows."""
    guide: Any = type(fitted.guide)()
    like = torch.empty(0, dtype=fitted.dtype, device=fitted.device)
    allocate(fitted.model, guide, (n_rows, fitted.n_cols), fitted.covariates, like)
    return guide


def _copy(old: Any, new: Any, site: str, n: int) -> None:
    """Give a guide another's `n` blocks of a site, slice by slice."""
    d = old.blocks(site, slice(0, 1))[0].shape[1]
    for at in slices(n, d):
        new.set_blocks(site, *old.blocks(site, at), at)
