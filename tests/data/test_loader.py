import tracemalloc
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from platewise.data import PlatewiseError, RowLoader, make_ratings, mark, source_of, write_h5ad
from platewise.data.loader import MemoryRows

from ..sparse_strategies import matrices, some

MATRIX = sp.random(50, 7, density=0.4, format="csr", random_state=0, dtype=np.float32)


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    path = tmp_path / "ratings.h5ad"
    write_h5ad(make_ratings(MATRIX, np.arange(50), np.arange(7)), path)
    return path


def _rows(batches: Iterator) -> list[list[int]]:
    return [batch.rows.tolist() for batch in batches]


@some
@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 5), st.integers(0, 3))
def test_every_row_once_an_epoch_in_batches_of_like_size(n_rows, batch_rows, seed, epoch):
    loader = RowLoader(MemoryRows(sp.csr_matrix((n_rows, 3), dtype=np.float32)), batch_rows, seed)
    batches = _rows(loader.epoch(epoch))
    sizes = [len(rows) for rows in batches]
    assert sorted(chain(*batches)) == list(range(n_rows))
    assert len(batches) == len(loader)
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_rows
    assert all(rows == sorted(rows) for rows in batches)


@some
@given(matrices(), st.integers(1, 9))
def test_batches_hold_what_the_matrix_holds(matrix, batch_rows):
    loader = RowLoader(MemoryRows(matrix), batch_rows, dtype=torch.float64)
    for batch in loader.epoch(0):
        np.testing.assert_array_equal(batch.dense().numpy(), matrix.toarray()[batch.rows.numpy()])
        assert batch.crow[-1] == len(batch.col) == matrix[batch.rows.numpy()].nnz
        assert (batch.n_rows, batch.n_cols) == matrix.shape


def test_epochs_of_a_seed_are_the_same_whenever_asked_for():
    loader, again = (RowLoader(MemoryRows(MATRIX), 8, seed=1) for _ in range(2))
    first, second = _rows(loader.epoch(0)), _rows(loader.epoch(1))
    assert _rows(again.epoch(1)) == second != first
    assert _rows(RowLoader(MemoryRows(MATRIX), 8, seed=2).epoch(0)) != first
    assert _rows(loader.epoch(1, start=3)) == second[3:]


def test_rows_in_order_are_in_order():
    assert list(chain(*_rows(RowLoader(MemoryRows(MATRIX), 8).in_order()))) == list(range(50))


def test_covariates_follow_their_rows():
    covariates = {"x": np.arange(50) / 2, "vector": np.arange(100.0).reshape(50, 2), "code": np.arange(50)}
    for batch in RowLoader(MemoryRows(MATRIX), 8, covariates=covariates).epoch(0):
        assert torch.equal(batch.covariates["x"], batch.rows.float() / 2)
        assert torch.equal(batch.covariates["vector"][:, 0], 2 * batch.rows.float())
        assert torch.equal(batch.covariates["code"], batch.rows)
        assert batch.value.dtype == batch.covariates["x"].dtype == torch.float32


def test_whole_numbers_become_values_of_the_type_asked_for():
    batch = next(RowLoader(MemoryRows(MATRIX.astype(bool).astype(np.int32)), 50, dtype=torch.float64).epoch(0))
    assert batch.value.dtype == torch.float64


def test_a_look_is_some_random_rows():
    loader = RowLoader(MemoryRows(MATRIX), 8)
    assert len(loader.look(20).rows) == 20
    assert len(loader.look(1).rows) == 8
    assert len(loader.look(1000).rows) == 50


@pytest.mark.parametrize("pointers", [np.int32, np.int64])
def test_a_batch_takes_memory_of_its_own_size(pointers):
    """Ten rows of a matrix of 40,000 cost kilobytes, from memory as from disk, whatever the type of its pointers."""
    matrix = sp.random(40_000, 50, density=0.02, format="csr", random_state=0, dtype=np.float32)
    matrix.indptr = matrix.indptr.astype(pointers)
    loader = RowLoader(MemoryRows(matrix), 10)
    tracemalloc.start()
    loader.batch(np.arange(10))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


def test_a_source_knows_names_counts_and_meaning(on_disk):
    memory, disk = source_of(make_ratings(MATRIX, np.arange(50), np.arange(7))), source_of(on_disk)
    assert memory.fingerprint == disk.fingerprint
    for source in (memory, disk):
        assert source.obs["n_entries"].tolist() == np.diff(MATRIX.indptr).tolist()
        assert source.var["n_entries"].tolist() == np.bincount(MATRIX.indices, minlength=7).tolist()
        assert source.meaning["unstored"] == "missing"


def _dense(path: Path) -> None:
    mark(ad.AnnData(np.ones((2, 2), np.float32)), unstored="missing").write_h5ad(path)


def _no_matrix(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["Y"] = [1]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "Expected an .h5ad file, got no such file"),
        (lambda path: path.write_bytes(b"not hdf5"), "Expected an .h5ad file, got something else"),
        (_no_matrix, "Expected a whole .h5ad file with a matrix X"),
        (_dense, "Expected a CSR matrix in X of .* got array"),
    ],
)
def test_files_that_cannot_be_streamed_are_refused(tmp_path, write, message):
    write(tmp_path / "x.h5ad")
    with pytest.raises(PlatewiseError, match=message):
        source_of(tmp_path / "x.h5ad")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: mark(ad.AnnData(MATRIX.tocsc()), unstored="missing"), "Expected a CSR matrix in X, got csc"),
        (lambda: mark(ad.AnnData(MATRIX.toarray()), unstored="missing"), "Expected a CSR matrix in X, got ndarray"),
        (lambda: mark(ad.AnnData(sp.csr_matrix((3, 2))), unstored="missing"), "3 x 2 with 0 stored"),
        (lambda: ad.AnnData(MATRIX), "Expected a matrix that says what entries not stored mean"),
        (lambda: mark(ad.AnnData(MATRIX), unstored="zero"), "Expected ratings .* for LatentFactor, got counts"),
    ],
)
def test_matrices_that_cannot_be_fitted_are_refused(data, message):
    with pytest.raises(PlatewiseError, match=message):
        source_of(data(), unstored="missing", needed_by="LatentFactor")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_rows": 0}, "at least 1 row a batch, got 0"), ({"batch_rows": 5, "seed": -1}, "at least 0, got -1")],
)
def test_loaders_that_make_no_sense_are_refused(options, message):
    with pytest.raises(PlatewiseError, match=message):
        RowLoader(MemoryRows(MATRIX), **options)
