"""New rows in an old fit: their posterior given their entries, with the columns and the scales as they were fitted.

The posterior of a row's block given the columns' is exact (`inference.fold_in`), so rows that the fit knew, with the
entries that it knew, get back what they had at the fit's own maximum. What new rows say of the columns is left out: fit
again once they are many.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import torch

from ..data.errors import PlatewiseError
from ..data.loader import MemoryRows, RowLoader
from ..data.meaning import meaning
from ..data.source import COUNT
from ..data.storage import fingerprint, read_h5ad
from ..inference.factor_modules import precision_sites
from ..inference.fitted import Fitted
from ..inference.fold_in import fold_sites
from ..inference.moments import slices
from ..inference.protocols import Bilinear, HoldsBlocks
from ..inference.rebuild import allocate
from .columns import on_columns_of

ROWS_AT_ONCE = 1024


def fold_in(fitted: Fitted, data: ad.AnnData | Path | str) -> Fitted:
    """The posterior of the rows of a matrix, given a fit's columns.

    Counts are normalised as the fit's were. Columns are aligned by name; entries of columns that the fit does not know
    are left out, and counted (logger "platewise"). Every row's posterior is the exact one given its entries here alone,
    whether or not the fit knew the row.

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
    name_mu, _, name_item = model.factor_sites
    _copy(old, guide, name_mu, 1)
    _copy(old, guide, name_item, fitted.n_cols)
    if (of_items := precision_sites(model)[1]) is not None:
        _copy(old, guide, of_items, fitted.n_cols)
    loader = RowLoader(MemoryRows(adata.X), ROWS_AT_ONCE, device=fitted.device, dtype=fitted.dtype)
    for batch in loader.in_order():
        first = int(batch.rows[0])
        for site, found in fold_sites(model, fitted.guide, batch).items():
            guide.set_blocks(site, *found, slice(first, first + len(batch.rows)))
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


def _require_exact(fitted: Fitted) -> tuple[Any, Any]:
    model, guide = fitted.model, fitted.guide
    if not (isinstance(model, Bilinear) and isinstance(guide, HoldsBlocks)):
        raise PlatewiseError(
            f"Expected a model and a guide with exact updates (LatentFactor; MeanFieldNormal or RowBlockNormal) to "
            f"fold rows in, got {type(model).__name__} and {type(guide).__name__}. Fit again, with the new rows."
        )
    return model, guide


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
