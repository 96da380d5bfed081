"""Scoring predictions on held-out entries: error never without coverage."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from ..data.source import COUNT
from ..inference.fitted import Fitted
from .blocks import Request
from .covariates import Covariates
from .held_out import held_out
from .names import Aligned
from .predictive import Entries, Method, Predictive, Settings, predictives
from .reader import Reader, reading

LEVELS = (0.5, 0.8, 0.9, 0.95)
DECILE_LEVEL = 0.9  # of coverage by decile, and of the interval's width


@dataclass(frozen=True)
class Evaluation:
    """How good predictions of held-out entries are.

    Attributes:
        n: Number of entries.
        rmse: Root mean squared error of the predictive mean.
        mae: Mean absolute error of the predictive mean.
        coverage: Share of entries inside their central interval, by level: "0.5", "0.8", "0.9", "0.95".
        coverage_by_row_decile: The same at "0.9" for entries sorted by their row's number of training entries, in ten
            equal parts, fewest first; NaN where a part is empty.
        coverage_by_col_decile: The same by their column's.
        log_predictive_density: Mean log density of the entries, in nats.
        crps: Mean continuous ranked probability score, in the units of the entries; smaller is better.
        interval_width: Mean width of the 90 % interval.
        n_unknown_rows: Rows with entries here that the fit never saw; their entries get the prior predictive.
        n_unknown_cols: The same of columns.
        n_unknown_entries: Entries whose row or column the fit never saw.
        predictive: What was scored: "moment-matched normal" or "sampled".
    """

    n: int
    rmse: float
    mae: float
    coverage: dict[str, float]
    coverage_by_row_decile: dict[str, list[float]]
    coverage_by_col_decile: dict[str, list[float]]
    log_predictive_density: float
    crps: float
    interval_width: float
    n_unknown_rows: int
    n_unknown_cols: int
    n_unknown_entries: int
    predictive: str

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON: None where a number is not finite."""
        return {name: _finite(value) for name, value in asdict(self).items()}


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

    Args:
        fitted: The fit.
        test: Held-out entries, or the path of their .h5ad.
        method: "closed-form" (a normal matched in its first two moments), "sampled", or "auto": closed where there is
            one.
        n_samples: Draws where the predictive is sampled.
        covariates: Covariates of the rows, if the model takes any: those of the fit, or pandas objects by id.
        data: The training data, for a guide that reads a row's entries.
        seed: Seed of the draws.

    Raises:
        PlatewiseError: If `test` has no entries, has some that are not finite, is not sparse, or does not mean by
            entries not stored what the model does.
    """
    settings = Settings(method, "rating", n_samples)
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
        predictive="moment-matched normal" if closed else "sampled",
    )


def _scores(reader: Reader, request: Request, settings: Settings) -> dict[str, np.ndarray]:
    """Of each entry: error, log density, CRPS, and whether it is inside the interval of each level."""
    scores = {name: np.empty(len(request)) for name in ("error", "log density", "crps", "width")}
    inside = {level: np.empty(len(request), dtype=bool) for level in LEVELS}
    for block, predictive in predictives(reader, request, settings):
        y = request.value[block.at]
        scores["error"][block.at] = y - predictive.mean
        scores["log density"][block.at] = predictive.log_density(y)
        scores["crps"][block.at] = predictive.crps(y)
        for level in LEVELS:
            lower, upper = _interval(predictive, level)
            inside[level][block.at] = (lower <= y) & (y <= upper)
            if level == DECILE_LEVEL:
                scores["width"][block.at] = upper - lower
    return scores | {str(level): held for level, held in inside.items()}


def _interval(predictive: Predictive, level: float) -> tuple[Entries, Entries]:
    return predictive.quantile((1 - level) / 2), predictive.quantile((1 + level) / 2)


def _by_decile(inside: np.ndarray, by: Aligned, then: Aligned, counts: pd.Series) -> dict[str, list[float]]:
    """Coverage by tenth of the entries, sorted by training entries; ties by name, so that their order is the fit's."""
    n_training = np.concatenate([counts.to_numpy(), np.zeros(len(by.new))])[by.code]
    order = np.lexsort((then.code, by.code, n_training))
    parts = np.array_split(inside[order], 10)
    return {str(DECILE_LEVEL): [float(part.mean()) if len(part) else math.nan for part in parts]}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
