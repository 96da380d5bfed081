"""Some rows of a source as a source of their own: the rows of a fit, without those held out of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import scipy.sparse as sp

from .loader import Rows, Take


class RowSubset:
    """Rows of another source, numbered from 0 in ascending order.

    Args:
        source: The other source.
        rows: Which of its rows, ascending.
        nnz: Entries that they store.
    """

    def __init__(self, source: Rows, rows: np.ndarray, nnz: int) -> None:
        self.source, self.rows, self.nnz = source, rows, nnz
        self.shape = (len(rows), source.shape[1])

    def take(self, rows: np.ndarray) -> sp.csr_matrix:
        """The given rows, in the given order."""
        return self.source.take(self.rows[rows])

    def windows(self, rng: np.random.Generator | None = None) -> list[np.ndarray]:
        """The other source's windows, of these rows alone."""
        number = np.full(self.source.shape[0], -1)
        number[self.rows] = np.arange(len(self.rows))
        windows = (number[rows] for rows in self.source.windows(rng))
        return [window[window >= 0] for window in windows if (window >= 0).any()]

    @contextmanager
    def reading(self, windows: list[np.ndarray]) -> Iterator[Take]:
        """Yield `take` for rows asked for in the windows' order."""
        with self.source.reading([self.rows[rows] for rows in windows]) as take:
            yield lambda rows: take(self.rows[rows])
