"""Held-out entries, aligned with a fit by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..data.errors import PlatewiseError
from ..data.meaning import require_unstored
from ..data.preparation import is_expression
from ..data.storage import read_h5ad
from ..inference.fitted import Fitted
from .blocks import Request
from .columns import on_columns_of
from .names import Aligned, Side, align_seen


def held_out(fitted: Fitted, test: ad.AnnData | Path | str) -> Request:
    """The stored entries of a matrix, whatever the order of its rows and columns.

    Args:
        fitted: The fit.
        test: The matrix, or the path of its .h5ad.

    Raises:
        PlatewiseError: If it has no entries, has some that are not finite, is not sparse, or does not mean by entries
            not stored what the model does.
    """
    adata = test if isinstance(test, ad.AnnData) else read_h5ad(test)
    if is_expression(fitted.meaning):
        adata = on_columns_of(fitted, adata)
    else:
        require_unstored(adata, fitted.meaning["unstored"], needed_by=type(fitted.model).__name__)
    x: Any = adata.X
    sparse: bool = sp.issparse(x)
    if not sparse:
        raise PlatewiseError(
            f"Expected held-out entries as a sparse matrix, got {type(x).__name__}. Store the entries you mean."
        )
    x = x.tocoo()
    if not len(x.data) or not np.isfinite(x.data).all():
        got = "some that are not finite" if len(x.data) else "none"
        raise PlatewiseError(f"Expected held-out entries, got {got}. Check how the test part was made.")
    rows, cols = _aligned(adata.obs_names, x.row, fitted, "obs"), _aligned(adata.var_names, x.col, fitted, "var")
    return Request(rows, cols, np.asarray(x.data, dtype=np.float64))


def _aligned(names: pd.Index, index: np.ndarray, fitted: Fitted, side: Side) -> Aligned:
    """Each entry's name among those of the fit; names without entries do not count as new."""
    used, place = np.unique(index, return_inverse=True)
    return align_seen(names[used], fitted, side).take(place)
