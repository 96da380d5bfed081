"""Embeddings put into the matrix they are of, where scanpy's neighbours and UMAP find them."""

from __future__ import annotations

from collections.abc import Mapping

import anndata as ad
import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from ..data.errors import PlatewiseError
from ..inference.fitted import Fitted
from .covariates import Covariates
from .factors import factors
from .rows import rows_of

KEY = "X_platewise"
DRAWS = 500  # for the moments of a family that has none in closed form


def embed(fitted: Fitted, data: ad.AnnData, *, covariates: Covariates | None = None, key: str = KEY) -> ad.AnnData:
    """Put posterior means and standard deviations of rows' embeddings into a matrix, in place.

    Of a factor model they are its factors in the canonical frame, each times the root mean square of the columns' own,
    so that a distance is one of predictions; columns likewise, in `varm`. Of a VAE they are its encoder's, of its site
    of vectors; of a family without moments in closed form (a flow) they come from 500 draws, means to within about 5
    per cent of a standard deviation.

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
        parts = [_moments(vectors_of(fitted, fitted.guide.posterior(batch))) for batch in loader.in_order()]  # type: ignore[operator]
    write_embedding(data, key, *(torch.cat(part) for part in zip(*parts, strict=True)))
    return data


def write_embedding(data: ad.AnnData, key: str, mean: Tensor, sd: Tensor) -> None:
    """Put means and standard deviations of rows' embeddings, (n_rows, d) each, beside a matrix."""
    data.obsm[key], data.obsm[f"{key}_sd"] = mean.cpu().numpy(), sd.cpu().numpy()


def vectors_of(fitted: Fitted, posterior: Mapping[str, Distribution]) -> Distribution:
    """The first site with a vector per row: the embedding, beside which there may be numbers, a cell's size say.

    Raises:
        PlatewiseError: If there is none.
    """
    found = next((q for q in posterior.values() if len(q.event_shape) == 1), None)
    if found is None:
        raise PlatewiseError(
            f"Expected a model with a latent vector per row, got {type(fitted.model).__name__} with "
            f"{sorted(posterior)}. Take the guide's posterior(batch) instead."
        )
    return found


def _moments(q: Distribution) -> tuple[Tensor, Tensor]:
    try:
        return q.mean, q.stddev
    except NotImplementedError:
        draws = q.sample(torch.Size([DRAWS]))
        return draws.mean(0), draws.std(0)


def _write_factors(fitted: Fitted, data: ad.AnnData, key: str) -> ad.AnnData:
    found = factors(fitted)
    found.require_same_names(data)
    root = np.sqrt(found.strength)
    data.obsm.update({key: found.obsm["X_factors"] * root, f"{key}_sd": found.obsm["X_factors_sd"] * root})
    data.varm.update({key: found.varm["factors"] * root, f"{key}_sd": found.varm["factors_sd"] * root})
    return data
