"""Embeddings put into the matrix they are of, where scanpy's neighbours and UMAP find them."""

from __future__ import annotations

import anndata as ad
import numpy as np
import torch

from ..inference.fitted import Fitted
from .covariates import Covariates
from .factors import factors
from .rows import rows_of

KEY = "X_platewise"


def embed(fitted: Fitted, data: ad.AnnData, *, covariates: Covariates | None = None, key: str = KEY) -> ad.AnnData:
    """Put posterior means and standard deviations of rows' embeddings into a matrix, in place.

    Of a factor model they are its factors in the canonical frame, each times the root mean square of the columns' own,
    so that a distance is one of predictions; columns likewise, in `varm`. Of a VAE they are its encoder's.

    Args:
        fitted: The fit.
        data: The training data of a factor model; of a VAE any rows with the fit's columns.
        covariates: Those of the fit, for rows of `data`, if a VAE takes any.
        key: Name in `obsm` and `varm`; standard deviations are at `key + "_sd"`.

    Returns:
        `data` itself.

    Raises:
        PlatewiseError: If the fit has no embeddings, or the data are not what they are of.
    """
    if hasattr(fitted.model, "factor_sites"):
        return _write_factors(fitted, data, key)
    with rows_of(fitted, data, covariates, 0) as loader:
        parts = [next(iter(fitted.guide.posterior(batch).values())) for batch in loader.in_order()]  # type: ignore[operator]
    data.obsm[key] = torch.cat([q.mean for q in parts]).cpu().numpy()
    data.obsm[f"{key}_sd"] = torch.cat([q.stddev for q in parts]).cpu().numpy()
    return data


def _write_factors(fitted: Fitted, data: ad.AnnData, key: str) -> ad.AnnData:
    found = factors(fitted)
    found.require_same_names(data)
    root = np.sqrt(found.strength)
    data.obsm.update({key: found.obsm["X_factors"] * root, f"{key}_sd": found.obsm["X_factors_sd"] * root})
    data.varm.update({key: found.varm["factors"] * root, f"{key}_sd": found.varm["factors_sd"] * root})
    return data
