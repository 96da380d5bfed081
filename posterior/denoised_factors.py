"""Denoised expression of factor models: the linear predictor's posterior in closed form; and, of counts, its rows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anndata as ad
import numpy as np
from jaxtyping import Int

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.preparation import is_expression
from ..inference.fitted import Fitted
from .blocks import Request
from .columns import on_columns_of
from .moments import knows_moments
from .names import Aligned, align
from .predict import intervals
from .predictive import Settings, row_blocks
from .reader import Reader, reading

LAYERS = ("mean", "lower", "upper")


def of_factors(fitted: Fitted, data: ad.AnnData, cols: Int[np.ndarray, " k"], prob: float) -> dict[str, np.ndarray]:
    """Mean and interval of mu + a_i + b_j + A_i . B_j, as normals with its first two posterior moments.

    Args:
        fitted: A fit of log-normalised expression.
        data: Cells of the fit, by name: their posterior is that given the entries of the fit.
        cols: Genes, by their positions in the fit.
        prob: Probability of the interval.

    Returns:
        Of each layer, (n_cells, k) float32.

    Raises:
        PlatewiseError: If the fit is of something else, has no closed form, or does not know a cell.
    """
    rows, asked = _rows(fitted, data), Aligned(cols, fitted.n_cols, [])
    layers = {name: np.empty((data.n_obs, len(cols)), dtype=np.float32) for name in LAYERS}
    with reading(fitted, 0) as reader:
        _require_closed_form(reader)
        for at in row_blocks(data.n_obs, len(cols)):
            request = Request.of_cells(rows.take(at), asked, np.zeros((len(at), len(cols))))
            found = intervals(reader, request, Settings(of="mean"), prob)
            for name, x in layers.items():
                x[at] = found[name].reshape(len(at), len(cols))
    return layers


@contextmanager
def known_rows(
    fitted: Fitted, data: ad.AnnData, most: int, seed: int
) -> Iterator[Iterator[tuple[np.ndarray, RowBatch]]]:
    """Batches of cells of a fit that has a table of its cells, with their entries in `data`, whose totals count.

    Args:
        fitted: The fit.
        data: Cells of the fit, by name.
        most: Cells in a batch.
        seed: Seed of the draws made on the way.

    Yields:
        Positions in `data`, and batches, for model and guide in evaluation mode.
    """
    rows, placed = _rows(fitted, data), on_columns_of(fitted, data)
    order = np.argsort(rows.code)
    with reading(fitted, seed) as reader:
        parts = np.array_split(order, math.ceil(len(order) / most))
        yield ((at, _assembled(reader, placed, rows, at)) for at in parts)


def _assembled(reader: Reader, placed: ad.AnnData, rows: Aligned, at: np.ndarray) -> RowBatch:
    x: Any = placed.X
    x, names = x[at], placed.obs_names.to_numpy()[at]
    size = reader.fitted.n_rows, reader.fitted.n_cols
    return reader.assemble(rows.code[at], names, x.indptr, x.indices, x.data, *size)


def _rows(fitted: Fitted, data: ad.AnnData) -> Aligned:
    if not data.n_obs:
        raise PlatewiseError("Expected at least one cell, got none. Check how the cells were chosen.")
    of, rows = fitted.meaning["row_name"], align(data.obs_names, fitted.obs.index)
    if not is_expression(fitted.meaning):
        raise PlatewiseError("Expected a fit of gene expression, got one of ratings. Use predict.")
    if rows.new:
        raise PlatewiseError(
            f"Expected {of}s of the fit, because a factor model has a posterior of those alone, got {rows.new[0]!r}. "
            "Fold new ones in first, and take the fit that it gives."
        )
    return rows


def _require_closed_form(reader: Reader) -> None:
    if not knows_moments(reader):
        model, guide = (type(part).__name__ for part in (reader.fitted.model, reader.fitted.guide))
        raise PlatewiseError(
            f"Expected a factor model with predictive moments in closed form, got {model} under {guide}. Use predict."
        )
