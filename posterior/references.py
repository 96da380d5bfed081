"""A fit beside simple references, on the same held-out entries: is it worth its trouble?

| predictor    | of what                             | its predictive                          |
|--------------|-------------------------------------|-----------------------------------------|
| fit          | any                                 | the fit's own                           |
| global mean  | ratings; log-normalised expression  | one normal: training mean and sd        |
| biases only  | ratings                             | Normal(mu + a_i + b_j), empirical Bayes |
| column means | log-normalised expression           | a normal per column                     |
| column means | counts, with the row's total given  | a negative binomial per column          |
| column means | whole rows (a VAE)                  | the likelihood of the fit, without a z  |
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..inference.fitted import Fitted
from .blocks import Request
from .covariates import Covariates
from .judged_entries import judged_entries
from .predictive import Method, Settings, predictives
from .reader import reading
from .reference_models import Biases, CountMeans, NormalMeans, Scored
from .row_references import FIT, densities_of_rows
from .rows import are_latents_of_rows
from .scores import DECILE_LEVEL, scores_of
from .training import given_or_remembered, training_matrix

COLUMNS = ["predictor", "n", "rmse", "log_predictive_density", "crps", "coverage"]


def references(
    fitted: Fitted,
    test: ad.AnnData | Path | str,
    *,
    data: ad.AnnData | Path | str | None = None,
    method: Method | str = "auto",
    n_samples: int = 500,
    draws: int = 200,
    covariates: Covariates | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Score a fit and simple references on the same held-out entries.

    Args:
        fitted: The fit.
        test: Held-out entries, or rows (`judged_entries`); of a VAE, rows, of some at random if they are over 1,000.
        data: The training data; what the fit remembers if None.
        method: How the fit's predictive is made, as in `evaluate`.
        n_samples: Draws where it is sampled.
        draws: Draws of each row's latents for a VAE's importance-weighted bound.
        covariates: Covariates of the rows of the fit; of a VAE, of the rows of `test`.
        seed: Seed of everything random.

    Returns:
        One line per predictor, the fit first: `predictor`, `n` (entries; rows of a VAE), `rmse`,
        `log_predictive_density` (mean, nats), `crps`, and `coverage` of the 90 % interval. Of a VAE, densities are of
        rows, the fit's being a lower bound, and the others are NaN.

    Raises:
        PlatewiseError: If there are no training data at hand, or `test` does not fit the fit.
    """
    because = "data=, the training data that simple references are made from, because the fit remembers none"
    given = given_or_remembered(fitted, data, because)
    training = training_matrix(fitted, given)
    if fitted.meaning["unstored"] == "zero" and are_latents_of_rows(fitted):
        of_rows = densities_of_rows(fitted, test, training, covariates=covariates, draws=draws, seed=seed)
        return of_rows.reindex(columns=COLUMNS)
    request, settings = judged_entries(fitted, test, seed), Settings(method, "rating", n_samples)
    with reading(fitted, seed, covariates, given) as reader:
        own = ((block.at, predictive) for block, predictive in predictives(reader, request, settings))
        lines = [(FIT, *_scores(own, request))]
    simple = _simple(training, request, fitted.meaning["unstored"] == "zero", np.random.default_rng(seed))
    lines += [(name, *_scores(scored, request)) for name, scored in simple]
    return pd.DataFrame(lines, columns=COLUMNS)


def _simple(
    training: sp.csr_matrix, request: Request, every_cell: bool, rng: np.random.Generator
) -> Iterator[tuple[str, Scored]]:
    """The references for entries of this kind."""
    if every_cell and _are_counts(training.data):
        yield "column means", CountMeans.fit(training).predictives(request, rng)
        return
    yield "global mean", NormalMeans.of_all(training, every_cell=every_cell).predictives(request)
    if every_cell:
        yield "column means", NormalMeans.of_columns(training).predictives(request)
    else:
        yield "biases only", Biases.fit(training).predictives(request)


def _are_counts(values: np.ndarray) -> bool:
    return bool((values >= 0).all() and (values == np.round(values)).all())


def _scores(scored: Scored, request: Request) -> tuple[int, float, float, float, float]:
    """Means over all entries, in the order of the columns."""
    sums = np.zeros(4)
    for at, predictive in scored:
        found = scores_of(predictive, request.value[at])
        parts = found["error"] ** 2, found["log density"], found["crps"], found[str(DECILE_LEVEL)]
        sums += [float(x.sum(dtype=np.float64)) for x in parts]
    squared, density, crps, inside = (sums / len(request)).tolist()
    return len(request), math.sqrt(squared), density, crps, inside
