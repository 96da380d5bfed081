"""Scores of all cells of held-out rows, zeros that are not stored included: some rows at a time, sums kept.

Memory is that of a block of cells, whatever the number of rows.
"""

from __future__ import annotations

import math
from typing import Any

import anndata as ad
import numpy as np

from ..data.source import COUNT
from .blocks import Request
from .names import Aligned, align_seen
from .predictive import Settings, predictives, row_blocks
from .reader import Reader
from .scores import DECILE_LEVEL, LEVELS, Evaluation, scores_of


def evaluate_every_cell(reader: Reader, test: ad.AnnData, settings: Settings) -> Evaluation:
    """Score the predictive distribution of every cell of some rows.

    Args:
        reader: The fit, of a model that takes entries not stored as zeros.
        test: The rows, on the fit's columns, in the fit's order.
        settings: How predictives are made.
    """
    rows, cols = align_seen(test.obs_names, reader.fitted, "obs"), Aligned(np.arange(test.n_vars), test.n_vars, [])
    sums = _Sums(*test.shape)
    for at in row_blocks(*test.shape):
        sums.add(reader, Request.of_cells(rows.take(at), cols, test.X[at].toarray()), settings, at)
    fitted, n = reader.fitted, test.n_obs * test.n_vars
    n_training = np.concatenate([fitted.obs[COUNT].to_numpy(), np.zeros(len(rows.new))])[rows.code]
    mean = {name: total / n for name, total in sums.totals.items()}
    level = str(DECILE_LEVEL)
    return Evaluation(
        n=n,
        rmse=math.sqrt(mean["squared error"]),
        mae=mean["absolute error"],
        coverage={str(level): mean[str(level)] for level in LEVELS},
        coverage_by_row_decile={level: _by_tenth(sums.of_row / test.n_vars, n_training)},
        coverage_by_col_decile={level: _by_tenth(sums.of_col / test.n_obs, fitted.var[COUNT].to_numpy())},
        log_predictive_density=mean["log density"],
        crps=mean["crps"],
        interval_width=mean["width"],
        n_unknown_rows=len(rows.new),
        n_unknown_cols=0,
        n_unknown_entries=len(rows.new) * test.n_vars,
        predictive="moment-matched normal" if settings.is_closed(reader) else "sampled",
    )


class _Sums:
    """Sums over cells: of each score, and of those inside the 90 % interval by row and by column."""

    def __init__(self, n_rows: int, n_cols: int) -> None:
        self.totals: dict[str, float] = {}
        self.of_row, self.of_col = np.zeros(n_rows), np.zeros(n_cols)

    def add(self, reader: Reader, request: Request, settings: Settings, rows: np.ndarray) -> None:
        inside = np.empty(len(request))
        for block, predictive in predictives(reader, request, settings):
            scores: dict[str, Any] = scores_of(predictive, request.value[block.at])
            error = scores.pop("error")
            for name, x in (scores | {"squared error": error**2, "absolute error": np.abs(error)}).items():
                self.totals[name] = self.totals.get(name, 0.0) + float(x.sum(dtype=np.float64))
            inside[block.at] = scores[str(DECILE_LEVEL)]
        cells = inside.reshape(len(rows), -1)
        self.of_row[rows] = cells.sum(1)
        self.of_col += cells.sum(0)


def _by_tenth(share: np.ndarray, n_training: np.ndarray) -> list[float]:
    """Mean share of tenths of rows or columns, sorted by training entries, fewest first."""
    parts = np.array_split(share[np.argsort(n_training, kind="stable")], 10)
    return [float(part.mean()) if len(part) else math.nan for part in parts]
