"""Rows of an .h5ad on disk, read in shuffled windows of blocks, the next window while one is used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import scipy.sparse as sp

from .array_on_disk import ArrayOnDisk, Buffer
from .errors import PlatewiseError
from .storage import require_h5ad

BLOCK_ROWS = 1024  # rows read at once: single rows are 40 to 100 times slower
WINDOW_BLOCKS = 16  # blocks shuffled together, at most
WINDOW_BYTES = 1 << 28  # what they may take, about: blocks of long rows are shuffled by fewer

_Buffers = tuple[Buffer, Buffer]  # for values and columns


class DiskRows:
    """Rows of the CSR matrix `X` of an .h5ad, read in blocks of consecutive rows.

    Batches hold two windows in memory at most, the one in use and the one being read: `2 * WINDOW_BLOCKS` blocks of
    `BLOCK_ROWS` rows (half a gigabyte, if they are long), and the row pointers (8 bytes a row).

    Args:
        path: The file.

    Raises:
        PlatewiseError: If it is no .h5ad, is damaged, or has no CSR matrix.
    """

    def __init__(self, path: Path | str) -> None:
        group = _open(path)
        if group.attrs.get("encoding-type") != "csr_matrix":
            raise PlatewiseError(
                f"Expected a CSR matrix in X of {path}, got {group.attrs.get('encoding-type')}. "
                "Write it again with scipy.sparse.csr_matrix(X)."
            )
        self.path = path
        self.arrays = SimpleNamespace(**{name: group[name] for name in ("indptr", "indices", "data")})
        self._data, self._indices = ArrayOnDisk(self.arrays.data), ArrayOnDisk(self.arrays.indices)
        self._indptr = self.arrays.indptr[:].astype(np.int64)  # entries are counted past 2^31
        self.shape = (int(group.attrs["shape"][0]), int(group.attrs["shape"][1]))
        self.nnz = int(self._indptr[-1])
        self._spare: list[_Buffers] = []  # of windows that nobody uses now

    def take(self, rows: np.ndarray) -> sp.csr_matrix:
        """The given rows, in the given order; holds the rows and one block."""
        blocks = rows // BLOCK_ROWS
        places = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
        return _joined([self.read(blocks[at[:1]]).take(rows[at]) for at in places], places)

    def windows(self, rng: np.random.Generator | None = None) -> list[np.ndarray]:
        """All rows by window: blocks in random order, and rows shuffled within a window; or first to last."""
        n_blocks = math.ceil(self.shape[0] / BLOCK_ROWS)
        blocks = np.arange(n_blocks) if rng is None else rng.permutation(n_blocks)
        windows = np.array_split(blocks, math.ceil(n_blocks / self._window_blocks))
        rows = [np.concatenate([self._rows_of(b) for b in window.tolist()]) for window in windows]
        return rows if rng is None else [rng.permutation(window) for window in rows]

    @contextmanager
    def reading(self, windows: list[np.ndarray]) -> Iterator[Callable[[np.ndarray], sp.csr_matrix]]:
        """Yield `take` for rows asked for in the windows' order; the thread that reads ahead ends with the block."""
        buffers = [self._spare.pop() if self._spare else (Buffer(), Buffer()) for _ in range(2)]
        ahead = _ReadAhead(self, [np.unique(rows // BLOCK_ROWS) for rows in windows], buffers)
        try:
            yield ahead.take
        finally:
            ahead.close()
            self._spare = buffers

    def read(self, blocks: np.ndarray, buffers: _Buffers | None = None) -> _Window:
        """Whole blocks, ascending, in memory of their own or in these buffers.

        Raises:
            PlatewiseError: If the file cannot be read any more.
        """
        starts = blocks * BLOCK_ROWS
        stops = np.minimum(starts + BLOCK_ROWS, self.shape[0])
        spans = list(zip(self._indptr[starts].tolist(), self._indptr[stops].tolist(), strict=True))
        per_row = [self._indptr[a + 1 : b + 1] - self._indptr[a:b] for a, b in zip(starts, stops, strict=True)]
        indptr = np.concatenate([[0], np.cumsum(np.concatenate(per_row))])
        data, indices = buffers or (None, None)
        entries = (self._entries(self._data, spans, data), self._entries(self._indices, spans, indices))
        return _Window(blocks, sp.csr_matrix((*entries, indptr), shape=(len(indptr) - 1, self.shape[1])))

    def _entries(self, array: ArrayOnDisk, spans: list[tuple[int, int]], buffer: Buffer | None) -> np.ndarray:
        try:
            return array.stretches(spans, buffer)
        except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            raise PlatewiseError(
                f"Expected to read rows of {self.path}, got a file that was closed, changed or damaged since it was "
                "opened. Make it again if it is damaged, and start over."
            ) from error

    @property
    def _window_blocks(self) -> int:
        a_row = self.nnz / self.shape[0] * (self._data.dtype.itemsize + self._indices.dtype.itemsize)
        return max(1, min(WINDOW_BLOCKS, int(WINDOW_BYTES / max(a_row * BLOCK_ROWS, 1.0))))

    def _rows_of(self, block: int) -> np.ndarray:
        return np.arange(block * BLOCK_ROWS, min((block + 1) * BLOCK_ROWS, self.shape[0]))


class _Window:
    """Blocks in memory, in ascending order: only the last one may be short."""

    def __init__(self, blocks: np.ndarray, matrix: sp.csr_matrix) -> None:
        self.matrix = matrix
        self._shift = np.zeros(int(blocks[-1]) + 1, np.int64)  # from a row's number to its place here, by block
        self._shift[blocks] = (np.arange(len(blocks)) - blocks) * BLOCK_ROWS

    def take(self, rows: np.ndarray) -> sp.csr_matrix:
        """Rows of the whole matrix that are in these blocks, in the given order."""
        return self.matrix[rows + self._shift[rows // BLOCK_ROWS]]


class _ReadAhead:
    """The window in use, and a thread that reads the one after it."""

    def __init__(self, disk: DiskRows, windows: list[np.ndarray], buffers: list[_Buffers]) -> None:
        self._disk, self._windows, self._buffers = disk, windows, buffers
        self._window_of = np.zeros(math.ceil(disk.shape[0] / BLOCK_ROWS), np.int64)
        for k, blocks in enumerate(windows):
            self._window_of[blocks] = k
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="platewise-rows")
        self._used: tuple[int, _Window | None] = (-1, None)
        self._coming: dict[int, Future[_Window]] = {}

    def take(self, rows: np.ndarray) -> sp.csr_matrix:
        """Rows in the given order; those of one window, or of several where a batch lies across."""
        of = self._window_of[rows // BLOCK_ROWS]
        first, last = int(of.min()), int(of.max())
        if first == last:
            return self._window(first).take(rows)
        places = [at for k in range(first, last + 1) if len(at := np.flatnonzero(of == k))]
        return _joined([self._window(int(of[at[0]])).take(rows[at]) for at in places], places)

    def _window(self, k: int) -> _Window:
        if self._used[0] != k:
            self._used = (-1, None)  # its buffers are for the window after this one
            coming = self._coming.pop(k, None) or self._read(k)
            self._used, self._coming = (k, coming.result()), {}
            if k + 1 < len(self._windows):
                self._coming[k + 1] = self._read(k + 1)
        return self._used[1]  # type: ignore[return-value]  # there is one

    def _read(self, k: int) -> Future[_Window]:
        return self._thread.submit(self._disk.read, self._windows[k], self._buffers[k % 2])

    def close(self) -> None:
        """End the thread, after the read in hand, and let go of the windows."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._used, self._coming = (-1, None), {}


def _joined(parts: list[sp.csr_matrix], places: list[np.ndarray]) -> sp.csr_matrix:
    """Parts of a set of rows as one, each part's rows at its places."""
    return parts[0] if len(parts) == 1 else sp.vstack(parts, format="csr")[np.argsort(np.concatenate(places))]


def _open(path: Path | str) -> Any:
    """The matrix of an .h5ad on disk."""
    require_h5ad(path)
    try:
        return h5py.File(path, "r")["X"]
    except (OSError, KeyError) as error:
        raise PlatewiseError(
            f"Expected a whole .h5ad file with a matrix X, got another or a damaged one: {path}. Make it again."
        ) from error
