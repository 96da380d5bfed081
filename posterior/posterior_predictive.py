"""Posterior predictive checks: do data drawn anew from the fit look like the data?

Latents are drawn from the posterior of the rows as they are, and their entries anew from the likelihood, at the places
where entries were. What is compared are statistics that a likelihood does not fit as such: extremes, zeros, how rows
and columns differ. The data were used twice, to fit and to check: p-values are closer to 1/2 than uniform ones, so that
one near 0 or 1 is a misfit, and one near 1/2 is no proof of a fit.

References:
    Gelman, Meng and Stern (1996), Posterior predictive assessment of model fitness via realized discrepancies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ..data.errors import PlatewiseError
from ..data.storage import read_h5ad
from ..inference.fitted import Fitted
from .blocks import Request
from .column_checks import ColumnChecks
from .covariates import Covariates
from .decoded import decoded
from .draws import draws as model_draws
from .draws import entry_site
from .guide_draws import guide_draws
from .noise import recalibrated
from .reader import Reader, reading
from .row_references import some_rows
from .rows import are_latents_of_rows, rows_of
from .training import given_or_remembered, training_matrix
from .training_entries import MAX_ENTRIES, some_training_rows, training_request

Entries = Float[np.ndarray, " e"]
Places = tuple[Int[np.ndarray, " e"], Int[np.ndarray, " e"]]


@dataclass(frozen=True, eq=False)
class PredictiveChecks:
    """What the data are beside data drawn anew from the fit.

    Attributes:
        statistics: Of all entries that were replicated; as `posterior_predictive_checks` returns it.
        columns: Of each column by itself, where entries not stored are zeros; None elsewhere.
    """

    statistics: pd.DataFrame
    columns: ColumnChecks | None


def posterior_predictive_checks(
    fitted: Fitted,
    data: ad.AnnData | Path | str | None = None,
    *,
    rows: int = 500,
    draws: int = 200,
    covariates: Covariates | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare statistics of the data with those of replicated data.

    Args:
        fitted: The fit.
        data: The training data; what the fit remembers if None. Of a VAE, any rows.
        rows: Rows to replicate, at random; fewer where their entries would be more than 262,144.
        draws: Replications.
        covariates: Covariates of the rows of the fit; of a VAE, of the rows of `data`.
        seed: Seed of everything random.

    Returns:
        One line per statistic: `statistic`, `observed`, `mean` and `sd` over replications, and `p`, the share of
        replications in which it is larger than in the data, ties counting half. Its `attrs` say "rows", "entries" and
        "draws".

    Raises:
        PlatewiseError: If there are no data at hand, or not those of the fit, or a number is below 1.
    """
    return predictive_checks(fitted, data, rows=rows, draws=draws, covariates=covariates, seed=seed).statistics


def predictive_checks(
    fitted: Fitted,
    data: ad.AnnData | Path | str | None = None,
    *,
    rows: int = 500,
    draws: int = 200,
    covariates: Covariates | None = None,
    seed: int = 0,
) -> PredictiveChecks:
    """Compare the data with replications of them, as a whole and column by column; see `posterior_predictive_checks`.

    Raises:
        PlatewiseError: If there are no data at hand, or not those of the fit, or a number is below 1.
    """
    if rows < 1 or draws < 2:
        raise PlatewiseError(f"Expected rows of at least 1 and draws of at least 2, got {rows} and {draws}. Ask more.")
    because = "data= to compare replications with, because the fit remembers none"
    given = given_or_remembered(fitted, data, because)
    given = given if isinstance(given, ad.AnnData) else read_h5ad(given)
    every = fitted.meaning["unstored"] == "zero"
    if every and are_latents_of_rows(fitted):
        replications = _of_rows(fitted, given, rows, draws, covariates, seed)
    else:
        replications = _of_entries(fitted, given, rows, draws, covariates, seed, every)
    return _compared(replications, every, fitted.var.index.to_numpy())


def _compared(replications: Iterator[_Sample], every: bool, names: np.ndarray) -> PredictiveChecks:
    """The first sample is the data, the others are replications."""
    data = next(replications)
    smallest = 0.0 if every else float(data.value.min())
    observed, drawn, columns = pd.Series(data.statistics(smallest, every)), [], []
    for sample in replications:
        drawn.append(sample.statistics(smallest, every))
        columns += [sample.by_column] if every else []
    checks = ColumnChecks.of(names, data.by_column, columns, data.n_rows) if every else None
    return PredictiveChecks(_table(observed, pd.DataFrame(drawn), data), checks)


def _table(observed: pd.Series, drawn: pd.DataFrame, data: _Sample) -> pd.DataFrame:
    above = (drawn > observed).mean() + 0.5 * (drawn == observed).mean()
    table = pd.DataFrame({"observed": observed, "mean": drawn.mean(), "sd": drawn.std(ddof=1), "p": above})
    table = table.rename_axis("statistic").reset_index()
    table.attrs = {"rows": data.n_rows, "entries": len(data.value), "draws": len(drawn)}
    return table


@dataclass(frozen=True)
class _Sample:
    """Entries of the chosen rows, observed or replicated."""

    value: Entries
    row: Int[np.ndarray, " e"]
    col: Int[np.ndarray, " e"]
    n_rows: int
    n_cols: int

    def statistics(self, smallest: float, every: bool) -> dict[str, float]:
        """What is compared: of all cells zeros, of entries the share as low as the lowest observed."""
        y = self.value
        low = "share of zeros" if every else f"share at or below {smallest:g}"
        found = {
            "mean": y.mean(),
            "sd": y.std(),
            low: (y <= smallest).mean(),
            "largest value": y.max(),
            "sd of row means": _means(y, self.row, self.n_rows).std(),
            "sd of column means": _means(y, self.col, self.n_cols).std(),
        }
        if every:
            zeros, _, variance = self.by_column
            found |= {
                "variance of a column, mean": variance.mean(),
                "variance of a column, log of the median": np.log(np.median(variance) + 1e-12),
                "share of zeros of a column, sd": zeros.std(),
            }
        return {name: float(x) for name, x in found.items()}

    @cached_property
    def by_column(self) -> Float[np.ndarray, "3 n_cols"]:
        """Share of zeros, mean and variance of each column, of whole rows."""
        y, mean = self.value, _means(self.value, self.col, self.n_cols)
        zeros = _means((y <= 0).astype(np.float64), self.col, self.n_cols)
        return np.stack([zeros, mean, _means(y**2, self.col, self.n_cols) - mean**2])


def _means(y: Entries, of: Int[np.ndarray, " e"], n: int) -> Float[np.ndarray, " k"]:
    """Means by row, or by column, of those that have entries."""
    size = np.bincount(of, minlength=n)
    return np.bincount(of, y, n)[size > 0] / size[size > 0]


def _of_entries(
    fitted: Fitted, data: ad.AnnData, rows: int, draws: int, covariates: Covariates | None, seed: int, every: bool
) -> Iterator[_Sample]:
    """The entries of some rows of the training data, and then replications of them."""
    x = training_matrix(fitted, data)
    request = training_request(fitted, x, some_training_rows(x, rows, every, seed), every)
    code, col = request.rows.code, request.cols.code
    where = np.unique(code, return_inverse=True)[1], col
    yield _sample(request.value, where, fitted.n_cols)
    with reading(fitted, seed, covariates, data) as reader:
        for value in _replicated(reader, request, draws):
            yield _sample(value, where, fitted.n_cols)


def _replicated(reader: Reader, request: Request, draws: int) -> Iterator[Entries]:
    """Replications of all entries, in one block: of a draw, all entries have the same globals and columns."""
    (block,) = request.blocks(reader, max(len(request), 1))
    for trace in model_draws(reader, block, draws):
        site = recalibrated(entry_site(trace, block), reader.fitted, block)
        value = np.empty(len(request))
        value[block.at] = site["fn"].sample().double().cpu().numpy()
        yield value


def _of_rows(
    fitted: Fitted, data: ad.AnnData, rows: int, draws: int, covariates: Covariates | None, seed: int
) -> Iterator[_Sample]:
    """Some whole rows, and then replications from their own latents' posteriors, totals and covariates."""
    adata = some_rows(data, covariates, min(rows, max(MAX_ENTRIES // fitted.n_cols, 1)), seed)
    with rows_of(fitted, adata, covariates, seed) as loader:
        batch = loader.batch(np.arange(adata.n_obs))
        where = tuple(x.ravel() for x in np.indices((adata.n_obs, fitted.n_cols)))
        yield _sample(batch.dense().double().cpu().numpy().ravel(), where, fitted.n_cols)
        for latents in guide_draws(fitted.guide, batch, draws):
            drawn = decoded(fitted.model, batch, latents).sample()
            yield _sample(drawn.double().cpu().numpy().ravel(), where, fitted.n_cols)


def _sample(value: Entries, where: Places, n_cols: int) -> _Sample:
    return _Sample(value, *where, int(where[0].max()) + 1, n_cols)
