"""Platewise's own methods on cells: the VAE and the factor model, as a person would call them."""

from typing import Any

import numpy as np
import pyro
import torch
from anndata import AnnData
from cell_data import CellSplit
from platewise.cli.algorithms import OF_WHOLE_ROWS
from platewise.data import RowLoader, log_normalise, source_of
from platewise.guides import AmortizedNormal, RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent, svi
from platewise.inference.svi_options import chosen_options
from platewise.inference.validation import bound_per_row
from platewise.models import VAE, LatentFactor
from platewise.posterior import embed


def parts(split: CellSplit, **network: Any) -> tuple[VAE, AmortizedNormal]:
    """An untrained model and guide at their defaults, or with networks of other sizes."""
    categories = {split.batch: split.n_batches} if split.batch else None
    return VAE(categories=categories, **network), AmortizedNormal(**network)


def covariates(split: CellSplit, cells: AnnData) -> dict[str, np.ndarray]:
    """What the model reads beside the counts."""
    return {split.batch: split.codes(cells)} if split.batch else {}


def fit_vae(split: CellSplit, seed: int, epochs: int | None) -> Fitted:
    """Fit the VAE at its recommended options, or for so many epochs."""
    about, given = covariates(split, split.fit), {"epochs": epochs} if epochs else {}
    return svi.fit(*parts(split), split.fit, seed=seed, covariates=about, device="cpu", progress=False, **given)


def start(split: CellSplit, seed: int, options: dict[str, Any], **network: Any) -> svi.State:
    """The same fit in its own hands, before the first step."""
    torch.manual_seed(seed)
    model, guide = parts(split, **network)
    settings = chosen_options(model, options)
    rows, about = source_of(split.fit).rows, covariates(split, split.fit)
    state = svi.init(model, guide, RowLoader(rows, settings.batch_rows, seed, "cpu", about), settings)
    state.elbo.train()
    return state


def held_out_curve(split: CellSplit, seed: int, epochs: int, every: int) -> dict[int, float]:
    """Run the fit once more, off the clock, and score the cells held out after every so many epochs.

    Returns:
        -ELBO per cell held out, by epochs done.
    """
    with pyro.validation_enabled(False):
        state = start(split, seed, {"epochs": epochs})
        held_out = RowLoader(source_of(split.held_out).rows, 512, 0, "cpu", covariates(split, split.held_out))
        curve = {}
        for epoch in range(epochs):
            for batch in state.loader.epoch(epoch):
                svi.step(state, batch)
            if (epoch + 1) % every == 0:
                curve[epoch + 1] = -bound_per_row(state.elbo, held_out)
    return curve


def fit_factors(cells: AnnData, rank: int, seed: int) -> tuple[Fitted, np.ndarray]:
    """The factor model of log-normalised counts, as the command line fits it; the fit and the cells' embedding."""
    logs, options = log_normalise(cells), OF_WHOLE_ROWS["coordinate-ascent"]
    model = LatentFactor(rank=rank, unstored="zero")
    fitted = coordinate_ascent.fit(model, RowBlockNormal(), logs, seed=seed, progress=False, **options)
    return fitted, embed(fitted, logs).obsm["X_platewise"]
