"""Batches streamed from a file: the rows of memory, in bounded memory, with errors that say what happened."""

import gc
import threading
import tracemalloc
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from platewise.data import PlatewiseError, RowLoader, make_ratings, mark, write_h5ad
from platewise.data import disk as disk_module
from platewise.data.loader import DiskRows, MemoryRows
from platewise.data.row_subset import RowSubset

from ..sparse_strategies import matrices, some

MATRIX = sp.random(50, 7, density=0.4, format="csr", random_state=0, dtype=np.float32)


@pytest.fixture
def small_blocks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk_module, "BLOCK_ROWS", 4)
        patch.setattr(disk_module, "WINDOW_BLOCKS", 2)
        yield


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    path = tmp_path / "ratings.h5ad"
    write_h5ad(make_ratings(MATRIX, np.arange(50), np.arange(7)), path)
    return path


def _rows(batches: Iterator) -> list[list[int]]:
    return [batch.rows.tolist() for batch in batches]


@pytest.mark.usefixtures("small_blocks")
def test_disk_has_the_rows_of_memory(on_disk):
    disk, memory = (RowLoader(rows, 9, dtype=torch.float64) for rows in (DiskRows(on_disk), MemoryRows(MATRIX)))
    for epoch in range(3):
        batches = list(disk.epoch(epoch))
        assert sorted(chain(*(b.rows.tolist() for b in batches))) == list(range(50))
        for batch in batches:
            expected = memory.batch(batch.rows.numpy())
            for name in ("crow", "col", "value"):
                assert torch.equal(getattr(batch, name), getattr(expected, name))


@pytest.mark.usefixtures("small_blocks")
def test_disk_answers_in_the_order_asked_for(on_disk):
    rows = np.random.default_rng(0).permutation(50)
    np.testing.assert_array_equal(DiskRows(on_disk).take(rows).toarray(), MATRIX[rows].toarray())


@pytest.mark.usefixtures("small_blocks")
def test_disk_shuffles_within_windows(on_disk):
    windows = DiskRows(on_disk).windows(np.random.default_rng(0))
    order = np.concatenate(windows)
    assert sorted(order) == list(range(50))
    assert all(len(set(rows // 4)) <= 2 for rows in windows)
    assert (np.diff(order) != 1).mean() > 0.5


@pytest.mark.usefixtures("small_blocks")
def test_disk_reads_every_window_once_an_epoch(on_disk, monkeypatch):
    seen: list[int] = []
    read = DiskRows.read
    monkeypatch.setattr(
        DiskRows, "read", lambda self, blocks, *a: seen.extend(blocks.tolist()) or read(self, blocks, *a)
    )
    loader = RowLoader(DiskRows(on_disk), 5)
    list(loader.epoch(0))
    assert sorted(seen) == list(range(13))
    seen.clear()
    list(loader.in_order())
    assert seen == list(range(13))


@some
@given(matrices(max_rows=40), st.integers(1, 45), st.integers(1, 5), st.integers(1, 3), st.integers(0, 4))
def test_disk_streams_any_matrix_from_any_batch_on(tmp_path_factory, matrix, batch_rows, block, window, start):
    """Empty rows, batches larger than windows, windows that end inside a batch."""
    path = tmp_path_factory.mktemp("stream") / "x.h5ad"
    write_h5ad(mark(ad.AnnData(matrix), unstored="zero"), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk_module, "BLOCK_ROWS", block)
        patch.setattr(disk_module, "WINDOW_BLOCKS", window)
        loader = RowLoader(DiskRows(path), batch_rows, dtype=torch.float64)
        whole = list(loader.epoch(1))
        assert _rows(loader.epoch(1, start)) == [batch.rows.tolist() for batch in whole[start:]]
    assert sorted(chain(*(batch.rows.tolist() for batch in whole))) == list(range(matrix.shape[0]))
    for batch in whole:
        np.testing.assert_array_equal(batch.dense().numpy(), matrix.toarray()[batch.rows.numpy()])


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}])
@pytest.mark.usefixtures("small_blocks")
def test_a_compressed_file_holds_the_same(tmp_path, options):
    path = tmp_path / "x.h5ad"
    mark(ad.AnnData(MATRIX), unstored="zero").write_h5ad(path, **options)
    rows = DiskRows(path)
    assert rows._data.direct == (not options)
    for batch in RowLoader(rows, 7, dtype=torch.float64).epoch(0):
        np.testing.assert_array_equal(batch.dense().numpy(), MATRIX[batch.rows.numpy()].toarray())


def test_an_epoch_from_disk_holds_two_windows_in_memory(tmp_path, monkeypatch):
    """Windows of 4 blocks of 512 rows of 50 entries, 8 bytes each, of a file sixteen times as large."""
    monkeypatch.setattr(disk_module, "BLOCK_ROWS", 512)
    monkeypatch.setattr(disk_module, "WINDOW_BLOCKS", 4)
    n_rows, stored, window = 32_768, 50, 4 * 512 * 50 * 8
    indptr, indices = np.arange(n_rows + 1) * stored, np.tile(np.arange(stored), n_rows)
    matrix = sp.csr_matrix((np.ones(n_rows * stored, np.float32), indices, indptr), shape=(n_rows, stored))
    mark(ad.AnnData(matrix), unstored="zero").write_h5ad(tmp_path / "x.h5ad")
    rows = DiskRows(tmp_path / "x.h5ad")
    loader = RowLoader(rows, 128)
    next(loader.epoch(1))  # what is made once in a process is not counted
    gc.collect()
    tracemalloc.start()
    for _ in loader.epoch(0):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.5 * window + 3 * 8 * n_rows  # orders of the rows, and half a window for all else


def test_blocks_of_long_rows_make_smaller_windows(on_disk, monkeypatch):
    monkeypatch.setattr(disk_module, "BLOCK_ROWS", 4)
    monkeypatch.setattr(disk_module, "WINDOW_BYTES", 100)
    assert len(DiskRows(on_disk).windows()) == 13


def _readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("platewise-rows")]


@pytest.mark.usefixtures("small_blocks")
def test_no_thread_is_left_when_an_epoch_is_dropped(on_disk):
    batches = RowLoader(DiskRows(on_disk), 5).epoch(0)
    next(batches)
    assert _readers()
    del batches
    assert not _readers()


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}])
@pytest.mark.usefixtures("small_blocks")
def test_a_file_that_shrinks_while_it_is_read_is_said(tmp_path, options):
    path = tmp_path / "x.h5ad"
    mark(ad.AnnData(MATRIX), unstored="zero").write_h5ad(path, **options)
    rows = DiskRows(path)
    path.write_bytes(b"")
    with pytest.raises(PlatewiseError, match=r"Expected to read rows of .*x\.h5ad, got a file that was") as error:
        list(RowLoader(rows, 5).epoch(0))
    assert "\n" not in str(error.value)
    assert not _readers()


def test_a_closed_file_is_said(tmp_path):
    path = tmp_path / "x.h5ad"
    mark(ad.AnnData(MATRIX), unstored="zero").write_h5ad(path, compression="gzip")
    rows = DiskRows(path)
    rows.arrays.data.file.close()
    with pytest.raises(PlatewiseError, match="got a file that was closed"):
        rows.take(np.arange(3))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("source", ["memory", "disk"])
def test_some_rows_are_a_source_of_their_own(on_disk, source):
    kept = np.flatnonzero(np.arange(50) % 3)
    whole = MemoryRows(MATRIX) if source == "memory" else DiskRows(on_disk)
    rows = RowSubset(whole, kept, MATRIX[kept].nnz)
    loader = RowLoader(rows, 6, dtype=torch.float64)
    assert rows.shape == (len(kept), 7)
    assert list(chain(*_rows(loader.in_order()))) == list(range(len(kept)))
    assert sorted(chain(*_rows(loader.epoch(0)))) == list(range(len(kept)))
    for batch in (*loader.epoch(2), loader.look(9)):
        assert batch.n_rows == len(kept)
        np.testing.assert_array_equal(batch.dense().numpy(), MATRIX[kept[batch.rows.numpy()]].toarray())
