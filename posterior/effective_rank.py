"""How many of a model's factors the data support, as relevance determination found it.

A factor's strength is kappa_A^2 kappa_B^2, the variance that it gives to an entry under the learned priors. What data
can show of it depends on the noise and on how many entries they are: in a matrix of n x m with e entries, a factor is
seen if

    kappa_A^2 kappa_B^2  >  sigma^2 sqrt(n m) / e

which is where its singular value begins to stand out from those of noise alone. Scales of a factor that is pruned run
towards zero, a little with each sweep. Fits of data drawn from the model (ranks 2 to 8, 2,000 to 200,000 entries) and
of MovieLens (100K, 1M; from 32 to 64 factors), by coordinate ascent to a tolerance of 1e-5 with either guide, left kept
factors at no less than 0.35 of that limit and pruned ones at no more than 0.035. `LEAST` is between the two.

Where the noise is that of rows or columns, sigma^2 stands for the noise at the mean precision of the entries, which is
what their weights add up to in the updates; the mean of their variances, which a few noisy rows make large, would hide
factors that the others show. Of a row's and a column's precision the product of means is taken, as if independent.

References:
    Nakajima, Tomioka, Sugiyama and Babacan (2012), Perfect dimensionality recovery by variational Bayesian PCA.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import torch

from ..data.errors import PlatewiseError
from ..data.source import COUNT
from ..inference.factor_modules import precision_sites
from ..inference.fitted import Fitted
from ..inference.protocols import Bilinear, HoldsBlocks

LEAST = 0.1  # strength of a factor that counts, as a part of what the data can show


def effective_rank(fitted: Fitted) -> int:
    """Number of factors that the data support.

    It is read from the learned scales, one per factor, so factors must be in a frame where they are separate: as
    coordinate ascent and natural gradients leave them. Pruning takes sweeps: fit to a tolerance of 1e-5 or less.

    Args:
        fitted: A fit of a bilinear Gaussian model with learned scales.

    Returns:
        From 0 to the model's rank.

    Raises:
        PlatewiseError: If the model is another, or its scales are given; or if rows or columns have precisions that the
            guide does not tell.
    """
    model: Any = fitted.model
    if not isinstance(model, Bilinear) or not {"user", "item"} <= model.learned:
        raise PlatewiseError(
            f"Expected a model with learned scales per factor, such as LatentFactor(rank), got "
            f"{type(model).__name__} without. Leave user_scale and item_scale out."
        )
    scales = {name: x.double().cpu() for name, x in model.scales().items()}
    strength = (scales["user"][:-1] * scales["item"][:-1]).square()
    return int((strength >= LEAST * _visible(fitted, _noise_variance(fitted, float(scales["noise"])))).sum())


def supported_factors(fitted: Fitted) -> int | None:
    """The effective rank, where relevance determination has found one; None of other models and of svi.

    By svi factors are not separate in the model's own frame, and their scales say nothing.
    """
    is_pruned = fitted.algorithm != "svi" and {"user", "item"} <= getattr(fitted.model, "learned", set())
    return effective_rank(fitted) if is_pruned else None


def _noise_variance(fitted: Fitted, sigma: float) -> float:
    """Variance of an entry's noise: sigma^2, at the mean precision of the entries where it differs between them."""
    variance = sigma**2
    for site, table in zip(precision_sites(fitted.model), (fitted.obs, fitted.var), strict=True):
        variance /= 1.0 if site is None else _mean_precision(fitted.guide, site, table)
    return variance


def _mean_precision(guide: Any, site: str, table: pd.DataFrame) -> float:
    """E[exp(g)] of the rows, or columns, on average over their entries."""
    if not isinstance(guide, HoldsBlocks):
        raise PlatewiseError(
            f"Expected a guide with normal blocks for {site}, got {type(guide).__name__}. Fit by coordinate_ascent."
        )
    mean, variance = (x.double().cpu().reshape(len(table)) for x in guide.blocks(site))
    count = torch.from_numpy(table[COUNT].to_numpy(dtype=float))
    return float((count * (mean + 0.5 * variance).exp()).sum() / count.sum())


def _visible(fitted: Fitted, variance: float) -> float:
    """The least strength that shows over noise of such a variance."""
    n_cells = fitted.n_rows * fitted.n_cols
    n_entries = n_cells if fitted.meaning["unstored"] == "zero" else int(fitted.obs[COUNT].sum())
    return variance * math.sqrt(n_cells) / n_entries
