"""Entries of the training data, for the read-outs that look at some of them again."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Int

from ..inference.fitted import Fitted
from .blocks import Request
from .names import Aligned, align
from .training import trained_on

MAX_ENTRIES = 1 << 18  # of some rows


def some_trained_rows(fitted: Fitted, most: int, rng: np.random.Generator) -> Int[np.ndarray, " k"]:
    """Rows that the fit was made on, ascending; of more than `most`, so many of them at random, and one at least."""
    rows, most = np.sort(fitted.obs.index.get_indexer(trained_on(fitted))), max(most, 1)
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def some_training_rows(x: sp.csr_matrix, rows: int, every: bool, seed: int) -> Int[np.ndarray, " k"]:
    """Rows at random that have entries, as many as were asked for or as memory takes, at least one.

    Args:
        x: The training entries.
        rows: How many.
        every: Whether entries not stored are zeros, which count.
        seed: Seed of the draw.
    """
    size = np.diff(x.indptr)
    order = np.random.default_rng(seed).permutation(np.arange(x.shape[0]) if every else np.flatnonzero(size))[:rows]
    n_entries = np.cumsum(np.full(len(order), x.shape[1]) if every else size[order])
    return np.sort(order[: max(int((n_entries <= MAX_ENTRIES).sum()), 1)])


def training_request(fitted: Fitted, x: sp.csr_matrix, rows: Int[np.ndarray, " k"], every: bool) -> Request:
    """The entries of some rows of the training data; where `every`, all their cells, row by row."""
    names = align(fitted.obs.index[rows], fitted.obs.index)
    if every:
        return Request.of_cells(names, Aligned(np.arange(fitted.n_cols), fitted.n_cols, []), x[rows].toarray())
    entries = x[rows].tocoo()
    cols = Aligned(entries.col.astype(np.int64), fitted.n_cols, [])
    return Request(names.take(entries.row), cols, entries.data.astype(np.float64))
