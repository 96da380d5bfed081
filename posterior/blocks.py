"""The entries that a read-out asks about, in blocks of bounded size that model and guide can be run on.

A block's rows are all known to the fit or all new, and so are its columns. New ones are numbered beyond the fit's own,
so that their plates grow by as many elements, whose latents are drawn from the prior.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ..data.batches import RowBatch
from ..data.sites import Plate
from .names import Aligned
from .reader import Reader

MAX_ROWS = 16_384  # rows in a block: each has a covariance matrix


@dataclass(frozen=True, eq=False)
class Request:
    """Entries asked about, row by column.

    Attributes:
        rows: Row of each entry.
        cols: Column of each entry.
        value: What was observed there; zeros if nothing was.
        together: So many entries, one after the other, are a row and stay in one block.
    """

    rows: Aligned
    cols: Aligned
    value: Float[np.ndarray, " e"]
    together: int = 1

    def __len__(self) -> int:
        return len(self.value)

    @classmethod
    def of_cells(cls, rows: Aligned, cols: Aligned, value: Float[np.ndarray, "n k"]) -> Request:
        """All cells of n rows and k columns, row by row."""
        n, k = value.shape
        row, col = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
        return cls(rows.take(row), cols.take(col), value.ravel().astype(np.float64), k)

    def blocks(self, reader: Reader, max_entries: int) -> Iterator[Block]:
        """All entries once, each block with known or new rows and columns, sorted by row."""
        new_row, new_col = ~self.rows.known, ~self.cols.known
        order = np.lexsort((self.cols.code, self.rows.code, new_col, new_row))
        rank = np.cumsum(np.diff(self.rows.code[order], prepend=-1) != 0)  # of each entry's row
        group = (2 * new_row + new_col)[order]
        max_entries = max(max_entries // self.together, 1) * self.together
        start = 0
        while start < len(order):
            same_group = np.searchsorted(group, group[start], side="right")
            few_rows = np.searchsorted(rank, rank[start] + MAX_ROWS)
            stop = int(min(start + max_entries, same_group, few_rows))
            yield self._block(reader, order[start:stop])
            start = stop

    def _block(self, reader: Reader, at: np.ndarray) -> Block:
        row, col = self.rows.code[at], self.cols.code[at]
        rows, first = np.unique(row, return_index=True)
        fitted = reader.fitted
        new_rows, new_cols = bool(rows[0] >= fitted.n_rows), bool(col[0] >= fitted.n_cols)
        names = np.array(self.rows.new, dtype=object) if new_rows else fitted.obs.index.to_numpy()
        batch = reader.assemble(
            rows,
            names[rows - fitted.n_rows * new_rows],
            np.append(first, len(at)),
            col,
            self.value[at],
            fitted.n_rows + len(self.rows.new) * new_rows,
            fitted.n_cols + len(self.cols.new) * new_cols,
        )
        new: set[Plate] = {plate for plate, is_new in (("rows", new_rows), ("cols", new_cols)) if is_new}  # type: ignore[misc]
        return Block(at, batch, reader.any_row() if new_rows else reader.batch(rows), frozenset(new))


@dataclass(frozen=True, eq=False)
class Block:
    """Entries that model and guide are run on at once.

    Attributes:
        at: Position of each of the batch's entries in the request.
        batch: The entries, for the model.
        known: The same rows, for the guide; any row where the block's are new.
        new: The plates whose elements here are new to the fit.
    """

    at: Int[np.ndarray, " e"]
    batch: RowBatch
    known: RowBatch
    new: frozenset[Plate]

    @property
    def has_whole_rows(self) -> bool:
        """Whether all entries of its rows are in it."""
        return len(self.batch.col) == len(self.batch.rows) * self.batch.n_cols
