"""The data that a fit was made on, for the read-outs that need its entries again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd
import scipy.sparse as sp

from ..data.errors import PlatewiseError
from ..data.normalise import NORMALISED
from ..data.preparation import prepared_like
from ..data.storage import fingerprint, read_h5ad
from ..inference.fitted import Fitted
from ..inference.validation import HELD_OUT


def trained_on(fitted: Fitted) -> pd.Index:
    """Names of the rows that the parameters were fitted to: those held out of the fit are none."""
    obs = fitted.obs
    return obs.index[~obs[HELD_OUT].astype(bool)] if fitted.options.get("validation") else obs.index


def given_or_remembered(fitted: Fitted, data: ad.AnnData | Path | str | None, expected: str) -> ad.AnnData | Path | str:
    """The data that are given, or else those that a fit remembers.

    Raises:
        PlatewiseError: If there are none; `expected` says what they are needed for.
    """
    found = fitted.data if data is None else data
    if found is None:
        raise PlatewiseError(f"Expected {expected}, got none. Pass data=, the training part.")
    return found


def is_training_data(fitted: Fitted, data: ad.AnnData) -> bool:
    """Whether these are exactly the data that a fit was made on."""
    try:
        training_data(fitted, data)
    except PlatewiseError:
        return False
    return True


def training_matrix(fitted: Fitted, data: ad.AnnData | Path | str) -> sp.csr_matrix:
    """The training entries, rows and columns in the fit's order; see `training_data`."""
    x: Any = training_data(fitted, data).X
    return x


def training_data(fitted: Fitted, data: ad.AnnData | Path | str) -> ad.AnnData:
    """The matrix that a fit was made on, prepared as it was.

    Args:
        fitted: The fit.
        data: What it was made on, or the path of the .h5ad.

    Raises:
        PlatewiseError: If it was made on something else (fingerprints differ).
    """
    adata = data if isinstance(data, ad.AnnData) else read_h5ad(data)
    if NORMALISED in fitted.meaning and NORMALISED not in adata.uns.get("platewise", {}):
        adata = prepared_like(adata, fitted.meaning)  # the counts that the fit normalised
    x: Any = adata.X
    is_csr: bool = isinstance(x, sp.csr_matrix | sp.csr_array)
    if not is_csr or fingerprint(adata) != fitted.fingerprint:
        raise PlatewiseError(
            "Expected the data that the fit was made on, got others (fingerprints differ). Pass the training part, "
            "unchanged."
        )
    return adata
