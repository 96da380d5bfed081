"""Scores of predictive distributions on what was observed, and how good predictions are by them."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from .predictive import Entries, Predictive

LEVELS = (0.5, 0.8, 0.9, 0.95)
DECILE_LEVEL = 0.9  # of coverage by decile, and of the interval's width
NAMES = ("error", "log density", "crps", "width")


@dataclass(frozen=True)
class Evaluation:
    """How good predictions of held-out entries are.

    Where entries not stored are missing, entries are those stored; where they are observed zeros, all cells of the
    held-out rows.

    Attributes:
        n: Number of entries.
        rmse: Root mean squared error of the predictive mean.
        mae: Mean absolute error of the predictive mean.
        coverage: Share of entries inside their central interval, by level: "0.5", "0.8", "0.9", "0.95".
        coverage_by_row_decile: The same at "0.9" for entries sorted by their row's number of training entries, in ten
            equal parts, fewest first; NaN where a part is empty. Of whole rows, parts are of rows, by stored entries.
        coverage_by_col_decile: The same by their column's.
        log_predictive_density: Mean log density of the entries, in nats.
        crps: Mean continuous ranked probability score, in the units of the entries; smaller is better.
        interval_width: Mean width of the 90 % interval.
        n_unknown_rows: Rows with entries here that the fit never saw; their entries get the prior predictive.
        n_unknown_cols: The same of columns.
        n_unknown_entries: Entries whose row or column the fit never saw.
        predictive: What was scored: "moment-matched normal", "moment-matched normals mixed over the noise" or
            "sampled", and whether its noise was recalibrated.
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


def scores_of(predictive: Predictive, y: Entries) -> dict[str, Float[np.ndarray, " e"] | np.ndarray]:
    """Of each entry: error, log density, CRPS, the interval's width, and by level whether it is inside ("0.9", ...)."""
    scores = {
        "error": y - predictive.mean,
        "log density": predictive.log_density(y),
        "crps": predictive.crps(y),
    }
    for level in LEVELS:
        lower, upper = predictive.interval(level)
        scores[str(level)] = (lower <= y) & (y <= upper)
        if level == DECILE_LEVEL:
            scores["width"] = upper - lower
    return scores


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
