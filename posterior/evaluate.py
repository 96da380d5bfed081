"""Scoring predictions on held-out entries: error never without coverage."""

from __future__ import annotations

import math
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from ..data.source import COUNT
from ..data.storage import read_h5ad
from ..inference.fitted import Fitted
from .blocks import Request
from .columns import on_columns_of
from .covariates import Covariates
from .deciles import by_training_entries, tenths
from .every_cell import evaluate_every_cell
from .held_out import held_out
from .names import Aligned
from .noise import predictive_in_words
from .predictive import Method, Settings, predictives
from .reader import Reader, reading
from .scores import DECILE_LEVEL, LEVELS, NAMES, Evaluation, scores_of


def evaluate(
    fitted: Fitted,
    test: ad.AnnData | Path | str,
    *,
    method: Method | str = "auto",
    n_samples: int = 500,
    covariates: Covariates | None = None,
    data: ad.AnnData | Path | str | None = None,
    seed: int = 0,
) -> Evaluation:
    """Score the predictive distribution of held-out entries.

    Rows and columns are aligned by name, in whatever order `test` has them. Ids that the fit never saw get the prior
    predictive, and are counted. Memory: some blocks of entries, and 100 bytes an entry.

    Where entries not stored are observed zeros, all cells of the rows are scored, in blocks of rows. Counts are
    normalised as the fit's were.

    Args:
        fitted: The fit.
        test: Held-out entries, or the path of their .h5ad.
        method: "closed-form" (a normal matched in its first two moments, or such normals mixed over an uncertain
            noise), "sampled", or "auto": closed where there is one.
        n_samples: Draws where the predictive is sampled.
        covariates: Covariates of the rows, if the model takes any: those of the fit, or pandas objects by id.
        data: The training data, for a guide that reads a row's entries.
        seed: Seed of the draws.

    Raises:
        PlatewiseError: If `test` has no entries, has some that are not finite, is not sparse, or does not mean by
            entries not stored what the model does.
    """
    settings = Settings(method, "rating", n_samples)
    if fitted.meaning["unstored"] == "zero":
        rows = on_columns_of(fitted, test if isinstance(test, ad.AnnData) else read_h5ad(test))
        with reading(fitted, seed, covariates, data) as reader:
            return evaluate_every_cell(reader, rows, settings)
    request = held_out(fitted, test)
    with reading(fitted, seed, covariates, data) as reader:
        closed = settings.is_closed(reader)
        scores = _scores(reader, request, settings)
    inside, rows, cols = scores[str(DECILE_LEVEL)], request.rows, request.cols
    return Evaluation(
        n=len(request),
        rmse=math.sqrt(np.mean(scores["error"] ** 2)),
        mae=float(np.mean(np.abs(scores["error"]))),
        coverage={str(level): float(scores[str(level)].mean()) for level in LEVELS},
        coverage_by_row_decile=_by_decile(inside, rows, cols, fitted.obs[COUNT]),
        coverage_by_col_decile=_by_decile(inside, cols, rows, fitted.var[COUNT]),
        log_predictive_density=float(scores["log density"].mean()),
        crps=float(scores["crps"].mean()),
        interval_width=float(scores["width"].mean()),
        n_unknown_rows=len(rows.new),
        n_unknown_cols=len(cols.new),
        n_unknown_entries=int((~(rows.known & cols.known)).sum()),
        predictive=predictive_in_words(fitted, closed),
    )


def _scores(reader: Reader, request: Request, settings: Settings) -> dict[str, np.ndarray]:
    """The scores of each entry."""
    scores = {name: np.empty(len(request)) for name in NAMES}
    scores |= {str(level): np.empty(len(request), dtype=bool) for level in LEVELS}
    for block, predictive in predictives(reader, request, settings):
        for name, x in scores_of(predictive, request.value[block.at]).items():
            scores[name][block.at] = x
    return scores


def _by_decile(inside: np.ndarray, by: Aligned, then: Aligned, counts: pd.Series) -> dict[str, list[float]]:
    """Coverage by tenth of the entries, sorted by training entries."""
    parts = tenths(inside, by_training_entries(by, then, counts))
    return {str(DECILE_LEVEL): [float(part.mean()) if len(part) else math.nan for part in parts]}
