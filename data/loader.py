"""Mini-batches of rows: from memory, or from an .h5ad on disk in shuffled blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, runtime_checkable

import h5py
import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from .batches import RowBatch
from .errors import PlatewiseError
from .matrix import require_csr
from .seeds import require_seed
from .storage import require_h5ad

BLOCK_ROWS = 1024  # rows read at once: single rows are 40 to 100 times slower
WINDOW_BLOCKS = 16  # blocks shuffled together, and at most twice as many held in memory


@runtime_checkable
class Rows(Protocol):
    """Where rows come from."""

    shape: tuple[int, int]
    nnz: int

    def take(self, rows: np.ndarray) -> sp.csr_matrix:
        """The given rows, in the given order."""

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """A random order of all rows that this source reads well."""


class MemoryRows:
    """Rows of a CSR matrix in memory.

    Raises:
        PlatewiseError: If `matrix` is not sparse by rows.
    """

    def __init__(self, matrix: Any) -> None:
        require_csr(matrix)
        self._matrix, self.shape, self.nnz = matrix, matrix.shape, matrix.nnz

    def take(self, rows: np.ndarray) -> sp.csr_matrix:
        """The given rows, in the given order."""
        return self._matrix[rows]

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """A uniformly random order of all rows."""
        return rng.permutation(self.shape[0])


class DiskRows:
    """Rows of the CSR matrix `X` of an .h5ad, read in blocks of consecutive rows.

    Holds `2 * WINDOW_BLOCKS` blocks at most and the row pointers (8 bytes a row).
    """

    def __init__(self, path: Path | str) -> None:
        group = _open(path)
        if group.attrs.get("encoding-type") != "csr_matrix":
            raise PlatewiseError(
                f"Expected a CSR matrix in X of {path}, got {group.attrs.get('encoding-type')}. "
                "Write it again with scipy.sparse.csr_matrix(X)."
            )
        self.arrays = SimpleNamespace(**{name: group[name] for name in ("indptr", "indices", "data")})
        self._indptr = self.arrays.indptr[:].astype(np.int64)
        self.shape = (int(group.attrs["shape"][0]), int(group.attrs["shape"][1]))
        self.nnz = int(self._indptr[-1])
        self._blocks: dict[int, sp.csr_matrix] = {}

    def _block(self, block: int) -> sp.csr_matrix:
        if block not in self._blocks:
            if len(self._blocks) >= 2 * WINDOW_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            self._blocks[block] = self._read(block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, self.shape[0]))
        return self._blocks[block]

    def _read(self, start: int, stop: int) -> sp.csr_matrix:
        first, last = self._indptr[start], self._indptr[stop]
        entries = (self.arrays.data[first:last], self.arrays.indices[first:last])
        return sp.csr_matrix((*entries, self._indptr[start : stop + 1] - first), shape=(stop - start, self.shape[1]))

    def take(self, rows: np.ndarray) -> sp.csr_matrix:
        """The given rows, in the given order."""
        blocks = rows // BLOCK_ROWS
        parts, places = [], []
        for block in np.unique(blocks):
            place = np.flatnonzero(blocks == block)
            parts.append(self._block(int(block))[rows[place] - block * BLOCK_ROWS])
            places.append(place)
        return sp.vstack(parts, format="csr")[np.argsort(np.concatenate(places))]

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """Blocks in random order, rows shuffled within windows of `WINDOW_BLOCKS` blocks."""
        blocks = rng.permutation(math.ceil(self.shape[0] / BLOCK_ROWS))
        windows = np.array_split(blocks, math.ceil(len(blocks) / WINDOW_BLOCKS))
        rows = [np.concatenate([self._rows_of(b) for b in window.tolist()]) for window in windows]
        return np.concatenate([rng.permutation(window) for window in rows])

    def _rows_of(self, block: int) -> np.ndarray:
        return np.arange(block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, self.shape[0]))


@dataclass
class RowLoader:
    """Disjoint random mini-batches of rows; every row once an epoch.

    Batches differ by at most one row, so there is no last batch of one row. Epoch `k` of a seed is the same whenever
    it is asked for: a fit that was interrupted goes on in the middle of it.

    Attributes:
        source: Rows in memory or on disk.
        batch_rows: Rows per batch, at most.
        seed: Seed of the order of rows.
        device: Where batches go.
        covariates: Arrays whose first axis is the rows of `source`.
        dtype: Type of values.
    """

    source: Rows
    batch_rows: int
    seed: int = 0
    device: torch.device | str = "cpu"
    covariates: Mapping[str, np.ndarray] = field(default_factory=dict)
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        require_seed(self.seed)
        if self.batch_rows < 1:
            raise PlatewiseError(f"Expected at least 1 row a batch, got {self.batch_rows}. Choose, say, 1024.")

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(self.source.shape[0] / self.batch_rows)

    def epoch(self, k: int, start: int = 0) -> Iterator[RowBatch]:
        """The batches of epoch `k`, in random order, from batch `start` on; the rows of each in ascending order.

        Order within a batch matters to Pyro: it takes the parameters of a plate seen whole to be in order already.
        """
        order = self.source.order(np.random.default_rng([self.seed, k]))
        for rows in np.array_split(order, len(self))[start:]:
            yield self.batch(np.sort(rows))

    def in_order(self) -> Iterator[RowBatch]:
        """All rows once, first to last."""
        for rows in np.array_split(np.arange(self.source.shape[0]), len(self)):
            yield self.batch(rows)

    def look(self, n_rows: int) -> RowBatch:
        """Some random rows, at least a batch's worth, to choose starting values by."""
        order = self.source.order(np.random.default_rng([self.seed, 0]))
        return self.batch(np.sort(order[: max(n_rows, math.ceil(len(order) / len(self)))]))

    def batch(self, rows: np.ndarray) -> RowBatch:
        """The batch of these rows."""
        part = self.source.take(rows)
        covariates = {name: _tensor(x[rows], self.dtype) for name, x in self.covariates.items()}
        crow, col = (torch.from_numpy(a.astype(np.int64)) for a in (part.indptr, part.indices))
        value = torch.from_numpy(part.data).to(self.dtype)
        n_rows, n_cols = self.source.shape
        batch = RowBatch(torch.from_numpy(rows.astype(np.int64)), crow, col, value, n_rows, n_cols, covariates)
        return batch.to(self.device)


def _open(path: Path | str) -> Any:
    """The matrix of an .h5ad on disk."""
    require_h5ad(path)
    try:
        return h5py.File(path, "r")["X"]
    except (OSError, KeyError) as error:
        raise PlatewiseError(
            f"Expected a whole .h5ad file with a matrix X, got another or a damaged one: {path}. Make it again."
        ) from error


def _tensor(x: np.ndarray, dtype: torch.dtype) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(x))
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
