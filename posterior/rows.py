"""Rows of a later matrix, with all their entries, run through a fit whose latents are all of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anndata as ad
import numpy as np
import pandas as pd
import pyro
import torch
from pyro import poutine

from ..data.errors import PlatewiseError
from ..data.loader import MemoryRows, RowLoader
from ..data.sites import latent_sites, plate_of
from ..inference.covariates import as_arrays
from ..inference.device import own_generators
from ..inference.fitted import Fitted
from .columns import on_columns_of
from .covariates import Covariates
from .reader import evaluation_mode

BATCH_ROWS = 256


@contextmanager
def rows_of(fitted: Fitted, data: ad.AnnData, covariates: Covariates | None, seed: int) -> Iterator[RowLoader]:
    """Batches of a matrix's rows on the columns of a fit, for its guide and model in evaluation mode.

    Args:
        fitted: The fit; left as it is.
        data: The matrix; rows that the fit never saw will do.
        covariates: Those of the fit, an array with one row per row of `data` or a Series or DataFrame by row id each.
        seed: Seed of everything random.

    Raises:
        PlatewiseError: If the model has latents that are not of rows, or the guide needs a table of rows; or if the
            matrix or the covariates are not what the model takes.
    """
    _require_latents_of_rows(fitted)
    placed = on_columns_of(fitted, data)
    about = as_arrays(_by_row(fitted, covariates or {}, placed.obs_names), placed.n_obs)
    with evaluation_mode(fitted), torch.no_grad(), pyro.validation_enabled(False), own_generators(fitted.device):
        torch.manual_seed(seed)
        yield RowLoader(MemoryRows(placed.X), BATCH_ROWS, 0, fitted.device, about, fitted.dtype)


def _require_latents_of_rows(fitted: Fitted) -> None:
    batch = fitted.blank_batch()
    with evaluation_mode(fitted), torch.no_grad(), pyro.validation_enabled(False), own_generators(fitted.device):
        trace = poutine.trace(fitted.model).get_trace(batch)
    others = [name for name, site in latent_sites(trace).items() if plate_of(site, trace, batch) != "rows"]
    if others or any(getattr(part, "sparse", False) for part in fitted.guide.modules()):
        raise PlatewiseError(
            f"Expected a fit whose latents are all of rows and read off their entries (a VAE), got "
            f"{type(fitted.model).__name__} by {type(fitted.guide).__name__}. Use evaluate and factors."
        )


def _by_row(fitted: Fitted, covariates: Covariates, names: pd.Index) -> dict[str, np.ndarray]:
    if set(covariates) != set(fitted.covariates):
        raise PlatewiseError(
            f"Expected the covariates of the fit, {sorted(fitted.covariates)}, got {sorted(covariates)}. Pass them as "
            "covariates={name: array}."
        )
    return {name: _in_order(name, values, names) for name, values in covariates.items()}


def _in_order(name: str, values: object, names: pd.Index) -> np.ndarray:
    if not isinstance(values, pd.Series | pd.DataFrame):
        return np.asarray(values)
    missing = names.difference(values.index)
    if len(missing):
        raise PlatewiseError(f"Expected covariate {name!r} of row {missing[0]!r}, got none. Give it for every row.")
    return values.loc[names].to_numpy()
