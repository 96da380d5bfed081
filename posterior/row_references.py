"""A fit of whole rows (a VAE) beside its own likelihood without latents: means by column, for the row's total."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from ..data.batches import RowBatch
from ..data.storage import read_h5ad
from ..inference.fitted import Fitted
from ..models.count_rows import NegativeBinomialRows
from ..models.likelihoods import BernoulliRows, GaussianRows
from ..models.multinomial_rows import MultinomialRows
from .covariates import Covariates
from .decoded import decoded
from .reference_models import CountMeans, NormalMeans
from .row_scores import score_rows
from .rows import rows_of

FIT = "fit"
MAX_ROWS = 1000  # rows that are scored: of more, some at random


def densities_of_rows(
    fitted: Fitted,
    test: ad.AnnData | Path | str,
    training: sp.csr_matrix,
    *,
    covariates: Covariates | None = None,
    draws: int = 200,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean log densities of rows: the fit's importance-weighted lower bound, and those of means by column.

    Args:
        fitted: A fit whose latents are all of rows.
        test: Rows, of which 1,000 at random are scored if there are more and no covariates are given.
        training: The training entries, on the fit's columns.
        covariates: Those of the fit, for the rows of `test`; those that it read off columns of obs need not be given.
        draws: Draws of each row's latents.
        seed: Seed of everything random.

    Returns:
        `predictor` ("fit", "column means"), `n` rows, and `log_predictive_density`, nats a row.
    """
    rows = some_rows(test if isinstance(test, ad.AnnData) else read_h5ad(test), covariates, MAX_ROWS, seed)
    own = score_rows(fitted, rows, draws=draws, covariates=covariates, seed=seed)["log_likelihood_iw"]
    simple = _Means(training)
    with rows_of(fitted, rows, covariates, seed) as loader:
        found = [simple.like(decoded(fitted.model, batch), batch).log_prob(batch.value) for batch in loader.in_order()]
    densities = {FIT: float(own.mean()), "column means": float(torch.cat(found).double().mean())}
    lines = [(name, rows.n_obs, density) for name, density in densities.items()]
    return pd.DataFrame(lines, columns=["predictor", "n", "log_predictive_density"])


def some_rows(rows: ad.AnnData, covariates: Covariates | None, most: int, seed: int) -> ad.AnnData:
    """At most so many of some rows, at random; all of them where covariates were given apart, which go by place."""
    if covariates is not None or rows.n_obs <= most:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(rows.n_obs, most, replace=False))].copy()


@dataclass(frozen=True, eq=False)
class _Means:
    """Likelihoods whose parameters are means by column of training rows."""

    training: sp.csr_matrix

    def like(self, likelihood: Distribution, batch: RowBatch) -> Distribution:
        """One of the same kind, of a batch's rows."""
        if isinstance(likelihood, GaussianRows):
            normal = NormalMeans.of_columns(self.training)
            return GaussianRows(batch, _rows(batch, normal.mean), _rows(batch, normal.sd)[0])
        if isinstance(likelihood, BernoulliRows):
            share = np.clip(NormalMeans.of_columns(self.training).mean, 1e-6, 1 - 1e-6)
            return BernoulliRows(batch, _rows(batch, np.log(share) - np.log1p(-share)))
        means = CountMeans.fit(self.training)
        log_share = _rows(batch, np.log(means.share))
        if isinstance(likelihood, MultinomialRows):
            return MultinomialRows(batch, log_share)
        log_theta = _rows(batch, np.log(means.theta))[0]
        return NegativeBinomialRows(batch, log_share + batch.log_totals()[:, None], log_theta)


def _rows(batch: RowBatch, x: Float[np.ndarray, " n_cols"]) -> Float[Tensor, "b n_cols"]:
    return torch.from_numpy(x).to(batch.value).expand(len(batch.rows), -1)
