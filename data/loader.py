"""Mini-batches of rows: from memory, or from an .h5ad on disk in shuffled windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from .batches import RowBatch
from .disk import DiskRows
from .errors import PlatewiseError
from .matrix import require_csr
from .seeds import require_seed

__all__ = ["DiskRows", "MemoryRows", "RowLoader", "Rows", "Take"]

Take = Callable[[np.ndarray], sp.csr_matrix]


@runtime_checkable
class Rows(Protocol):
    """Where rows come from."""

    shape: tuple[int, int]
    nnz: int

    def take(self, rows: np.ndarray) -> sp.csr_matrix:
        """The given rows, in the given order."""

    def windows(self, rng: np.random.Generator | None = None) -> list[np.ndarray]:
        """All rows, in parts that this source reads at once: in random order, or first to last."""

    def reading(self, windows: list[np.ndarray]) -> AbstractContextManager[Take]:
        """A block in which rows are taken in the windows' order."""


class MemoryRows:
    """Rows of a CSR matrix in memory.

    Raises:
        PlatewiseError: If `matrix` is not sparse by rows.
    """

    def __init__(self, matrix: Any) -> None:
        require_csr(matrix)
        # index arrays of two types, as files often have them, would be copied whole for each batch
        parts = (matrix.data, matrix.indices, matrix.indptr)
        self._matrix = sp.csr_matrix(parts, matrix.shape, copy=False)
        self.shape, self.nnz = matrix.shape, matrix.nnz

    def take(self, rows: np.ndarray) -> sp.csr_matrix:
        """The given rows, in the given order."""
        return self._matrix[rows]

    def windows(self, rng: np.random.Generator | None = None) -> list[np.ndarray]:
        """All rows as one window: in uniformly random order, or first to last."""
        return [np.arange(self.shape[0]) if rng is None else rng.permutation(self.shape[0])]

    def reading(self, windows: list[np.ndarray]) -> AbstractContextManager[Take]:
        """`take`, whatever the windows."""
        return nullcontext(self.take)


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
        return self._batches(self.source.windows(np.random.default_rng([self.seed, k])), start)

    def in_order(self) -> Iterator[RowBatch]:
        """All rows once, first to last."""
        return self._batches(self.source.windows(), 0)

    def _batches(self, windows: list[np.ndarray], start: int) -> Iterator[RowBatch]:
        batches = np.array_split(np.concatenate(windows), len(self))[start:]
        with self.source.reading(windows) as take:
            for rows in map(np.sort, batches):
                yield self._batch(rows, take(rows))

    def look(self, n_rows: int) -> RowBatch:
        """Some random rows, at least a batch's worth, to choose starting values by."""
        order = np.concatenate(self.source.windows(np.random.default_rng([self.seed, 0])))
        return self.batch(np.sort(order[: max(n_rows, math.ceil(len(order) / len(self)))]))

    def batch(self, rows: np.ndarray) -> RowBatch:
        """The batch of these rows."""
        return self._batch(rows, self.source.take(rows))

    def _batch(self, rows: np.ndarray, part: sp.csr_matrix) -> RowBatch:
        covariates = {name: _tensor(x[rows], self.dtype) for name, x in self.covariates.items()}
        crow, col = (torch.from_numpy(a.astype(np.int64)) for a in (part.indptr, part.indices))
        value = torch.from_numpy(part.data).to(self.dtype)
        n_rows, n_cols = self.source.shape
        batch = RowBatch(torch.from_numpy(rows.astype(np.int64)), crow, col, value, n_rows, n_cols, covariates)
        return batch.to(self.device)


def _tensor(x: np.ndarray, dtype: torch.dtype) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(x))
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
