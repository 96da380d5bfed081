"""Rows of a later matrix, with all their entries, run through a fit whose latents are all of rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anndata as ad
import torch
from pyro import poutine

from ..data.errors import PlatewiseError
from ..data.loader import MemoryRows, RowLoader
from ..data.seeds import require_seed
from ..data.sites import latent_sites, plate_of
from ..inference.fitted import Fitted
from ..models.vae_options import refuse_unfit_values
from .columns import on_columns_of
from .covariates import Covariates, covariates_of
from .reader import running

BATCH_ROWS = 256


@contextmanager
def rows_of(fitted: Fitted, data: ad.AnnData, covariates: Covariates | None, seed: int) -> Iterator[RowLoader]:
    """Batches of a matrix's rows on the columns of a fit, for its guide and model in evaluation mode.

    Args:
        fitted: The fit; left as it is.
        data: The matrix; rows that the fit never saw will do.
        covariates: Those of the fit, for the rows of `data`; those that it read off columns of obs need not be given.
        seed: Seed of everything random.

    Raises:
        PlatewiseError: If the model has latents that are not of rows, or the guide needs a table of rows; or if the
            matrix, the covariates or the seed are not what the model takes.
    """
    require_seed(seed)
    _require_latents_of_rows(fitted)
    placed = on_columns_of(fitted, data)
    about = covariates_of(fitted, covariates, placed.obs)
    with running(fitted):
        torch.manual_seed(seed)
        loader = RowLoader(MemoryRows(placed.X), BATCH_ROWS, 0, fitted.device, about, fitted.dtype)
        if placed.n_obs and hasattr(fitted.model, "likelihood_name"):
            refuse_unfit_values(str(fitted.model.likelihood_name), loader.look(BATCH_ROWS))  # say, normalised ones
        yield loader


def are_latents_of_rows(fitted: Fitted) -> bool:
    """Whether all latents of a fit are of rows, and read off their entries and not from a table: those of a VAE."""
    if any(getattr(part, "sparse", False) for part in fitted.guide.modules()):
        return False
    batch = fitted.blank_batch()
    with running(fitted):
        trace = poutine.trace(fitted.model).get_trace(batch)
    return all(plate_of(site, trace, batch) == "rows" for site in latent_sites(trace).values())


def _require_latents_of_rows(fitted: Fitted) -> None:
    if not are_latents_of_rows(fitted):
        raise PlatewiseError(
            f"Expected a fit whose latents are all of rows and read off their entries (a VAE), got "
            f"{type(fitted.model).__name__} by {type(fitted.guide).__name__}. Use evaluate and factors."
        )
