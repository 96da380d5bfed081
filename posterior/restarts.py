"""The same fit from other starts: whether it ends at the same bound, and says the same of the data.

Factors of two fits cannot be laid side by side: they are known up to a rotation. What is compared are expectations of
entries, which no relabelling changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.sites import observed_sites
from ..inference.fitted import Fitted
from .covariates import Covariates
from .guide_draws import guide_draws
from .reader import Reader, reading
from .refit import made_anew, refit
from .training import given_or_remembered, training_data
from .training_entries import some_trained_rows

COLUMNS = [
    "seed",
    "elbo",
    "elbo_difference",
    "prediction_difference",
    "posterior_difference",
    "correlation",
    "converged",
]
MAX_ROWS, MAX_CELLS = 200, 1 << 16  # whose entries are compared: 400 draws of each are held


def compare_restarts(
    fitted: Fitted,
    data: ad.AnnData | Path | str | None,
    *,
    restarts: int = 3,
    seed: int = 1,
    draws: int = 400,
    covariates: Covariates | None = None,
) -> pd.DataFrame:
    """Fit again from other seeds, and compare bounds and predictions with the fit's own.

    Model and guide are made anew with their settings, and fitted by the fit's algorithm with its options. The entries
    compared are the training entries of up to 200 rows; of a model that observes whole rows, all of their cells.

    Args:
        fitted: The fit; left as it is.
        data: The training data, or the path of their .h5ad; those of the fit if None.
        restarts: Further fits.
        seed: Seed of the first; the others take those after it, and all leave out the fit's own.
        draws: Draws of the latents that expectations are means over.
        covariates: Covariates of the rows, if the model takes any.

    Returns:
        One line per fit, the given one first:

        - `seed`, `elbo` (nats; the last of its history), and `elbo_difference` from the given fit's;
        - `prediction_difference`: mean absolute difference of the entries' expectations from the given fit's, in
          predictive standard deviations of that fit, noise included;
        - `posterior_difference`: the same in standard deviations of the expectation. Noise of the draws alone makes
          it about 1.1 / sqrt(draws), 0.06 by default;
        - `correlation` of the expectations; NaN where they do not vary;
        - `converged`: whether the fit is known to have converged, None where nothing was tested.

    Raises:
        PlatewiseError: On fewer than 1 restart or 2 draws, settings of model or guide that are not known, or data that
            are not the fit's.
    """
    if restarts < 1 or draws < 2:
        raise PlatewiseError(
            f"Expected at least 1 restart and 2 draws, got {restarts} and {draws}. Take, say, 3 and 400."
        )
    adata = training_data(fitted, given_or_remembered(fitted, data, "the training data, to fit them again"))
    first = _expectations(fitted, adata, draws, covariates)
    lines = [_line(fitted, fitted, first, first)]
    for other in _seeds(fitted.seed, seed, restarts):
        model, guide = made_anew(fitted.model, "model"), made_anew(fitted.guide, "guide")
        again = refit(fitted, model, guide, adata, other, covariates=covariates)
        lines.append(_line(fitted, again, first, _expectations(again, adata, draws, covariates)))
    return pd.DataFrame(lines, columns=COLUMNS)


@dataclass(frozen=True)
class _Expectations:
    """Of the same entries: mean and standard deviation of the expectation, and of the entry itself."""

    mean: Float[np.ndarray, " e"]
    sd: Float[np.ndarray, " e"]
    predictive_sd: Float[np.ndarray, " e"]


def _seeds(own: int, first: int, n: int) -> list[int]:
    return [seed for seed in range(first, first + n + 1) if seed != own][:n]


def _line(fitted: Fitted, other: Fitted, first: _Expectations, second: _Expectations) -> list[Any]:
    apart = np.abs(second.mean - first.mean)
    varies = min(np.ptp(first.mean), np.ptp(second.mean)) > 0
    correlation = float(np.corrcoef(first.mean, second.mean)[0, 1]) if varies else math.nan
    differences = [float((apart / sd).mean()) for sd in (first.predictive_sd, first.sd)]
    return [other.seed, other.elbo, other.elbo - fitted.elbo, *differences, correlation, other.converged]


def _expectations(fitted: Fitted, data: ad.AnnData, draws: int, covariates: Covariates | None) -> _Expectations:
    """Expectations of the entries of some rows, the same whatever the fit."""
    with reading(fitted, 0, covariates, data) as reader:
        most = min(MAX_ROWS, MAX_CELLS // fitted.n_cols)
        batch = reader.batch(some_trained_rows(fitted, most, np.random.default_rng(0)))
        means, noise = zip(*_moments(reader, batch, draws), strict=True)
    drawn, spread = np.stack(means), np.stack(means).var(0, ddof=1)
    return _Expectations(drawn.mean(0), np.sqrt(spread), np.sqrt(spread + np.mean(noise, axis=0)))


def _moments(reader: Reader, batch: RowBatch, draws: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """By draw, mean and variance of what is observed given the latents.

    Raises:
        PlatewiseError: If the likelihood does not know them.
    """
    for q in guide_draws(reader.fitted.guide, batch, draws):
        p = poutine.trace(poutine.replay(reader.fitted.model, q)).get_trace(batch)
        sites = list(observed_sites(p).values())
        try:
            means, variances = ([getattr(s["fn"], of).reshape(-1) for s in sites] for of in ("mean", "variance"))
        except NotImplementedError as error:
            raise PlatewiseError(
                f"Expected a likelihood that knows its mean and variance, got one of "
                f"{', '.join(type(s['fn']).__name__ for s in sites)}. Compare such fits by evaluate."
            ) from error
        yield _numpy(torch.cat(means)), _numpy(torch.cat(variances))


def _numpy(x: Tensor) -> np.ndarray:
    return x.double().cpu().numpy()
