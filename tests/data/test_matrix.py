"""Matrices that nothing can be learnt from, or that are not stored by rows, in memory and on disk."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from platewise.data import matrix as matrix_module
from platewise.data.container import make_ratings
from platewise.data.errors import PlatewiseError
from platewise.data.matrix import by_rows
from platewise.data.meaning import mark
from platewise.data.ratings import read_ratings
from platewise.data.source import source_of
from platewise.data.split import split_entries


def ratings(x, **layers):
    return mark(ad.AnnData(x, layers=layers), unstored="missing")


def with_values(*values):
    return sp.csr_matrix((np.array(values, np.float32), ([0, 0, 1, 2], [0, 1, 1, 0])), shape=(3, 2))


UNSOUND = [
    (with_values(1, np.nan, 3, 4), "got 1 of 4 that are NaN or infinite"),
    (with_values(np.inf, 2, -np.inf, np.nan), "got 3 of 4 that are NaN or infinite"),
    (sp.csr_matrix(np.ones((1, 3), np.float32)), "two rows and two columns at least, .* got 1 x 3 with 3"),
    (sp.csr_matrix(np.ones((3, 1), np.float32)), "two rows and two columns at least, .* got 3 x 1 with 3"),
    (sp.csr_matrix((3, 2), dtype=np.float32), "got 3 x 2 with 0 stored"),
]


@pytest.mark.parametrize(("x", "message"), UNSOUND)
@pytest.mark.parametrize("read", [source_of, read_ratings])
@pytest.mark.parametrize("on_disk", [False, True])
def test_unsound_matrices_are_refused(tmp_path, monkeypatch, x, message, read, on_disk):
    monkeypatch.setattr(matrix_module, "_CHUNK", 2)
    adata = ratings(x)
    adata.write_h5ad(tmp_path / "r.h5ad")
    with pytest.raises(PlatewiseError, match=message) as caught:
        read(tmp_path / "r.h5ad" if on_disk else adata)
    assert "\n" not in str(caught.value)


def test_counts_by_column_do_not_depend_on_the_pieces(monkeypatch):
    x = sp.random(20, 7, 0.5, format="csr", random_state=0, dtype=np.float32)
    monkeypatch.setattr(matrix_module, "_CHUNK", 3)
    counts = source_of(ratings(x)).var["n_entries"]
    assert counts.tolist() == np.bincount(x.indices, minlength=7).tolist()


@pytest.mark.parametrize("on_disk", [False, True])
def test_columns_first_is_read_as_rows_first(tmp_path, on_disk):
    """A square matrix by columns, taken for one by rows, would be its transpose."""
    x = sp.random(9, 9, 0.4, format="csr", random_state=0, dtype=np.float32)
    x.data[0] = 0  # a rating of 0
    times = sp.csr_matrix((np.arange(x.nnz), x.indices, x.indptr), shape=x.shape)  # the first is 0 too
    adata = ratings(x.tocsc(), timestamp=times.tocsc())
    adata.obs["age"] = range(9)
    adata.write_h5ad(tmp_path / "r.h5ad")
    read = read_ratings(tmp_path / "r.h5ad" if on_disk else adata)
    stamps = read.layers["timestamp"]
    assert read.X.format == stamps.format == "csr"
    np.testing.assert_array_equal(read.X.toarray(), x.toarray())
    np.testing.assert_array_equal(stamps.data, times.data)
    assert read.X.nnz == x.nnz
    assert np.shares_memory(read.X.indices, stamps.indices)
    assert read.uns["platewise"]["unstored"] == "missing"
    assert read.obs["age"].tolist() == list(range(9))
    assert adata.X.format == "csc"  # the caller's is as it was


def test_columns_out_of_order_are_put_in_order():
    x = sp.csr_matrix((np.array([1, 2, 3], np.float32), np.array([1, 0, 1]), [0, 2, 3]), shape=(2, 2))
    ordered = by_rows(ratings(x))
    assert ordered.X.has_canonical_format
    assert ordered.X.data.tolist() == [2, 1, 3]
    assert by_rows(ordered) is ordered


def test_entries_twice_and_dense_matrices_are_refused():
    twice = sp.csr_matrix((np.ones(3, np.float32), np.array([0, 0, 1]), [0, 2, 3]), shape=(2, 2))
    with pytest.raises(PlatewiseError, match=r"each entry once, got duplicate entries. Merge"):
        read_ratings(ratings(twice))
    with pytest.raises(PlatewiseError, match="sparse matrix in X, got ndarray"):
        read_ratings(ratings(np.ones((2, 2), np.float32)))


def test_only_rows_first_is_split():
    x = sp.csr_matrix(np.ones((4, 4), np.float32))
    with pytest.raises(PlatewiseError, match=r"Expected a CSR matrix in X, got csc. Convert"):
        split_entries(ratings(x.tocsc()))
    with pytest.raises(PlatewiseError, match="Expected a CSR matrix in the timestamps, got csc"):
        split_entries(ratings(x, timestamp=x.tocsc()), by="last")
    with pytest.raises(PlatewiseError, match="Expected a timestamp for each entry of X, got others"):
        split_entries(ratings(x, timestamp=sp.eye(4, format="csr")), by="last")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"user": "u"}, "Expected no user for an .h5ad or AnnData"),
        ({"item": 1, "rating": 2}, "Expected no item or rating"),
        ({"timestamp": False}, "Expected no timestamp"),
        ({"duplicates": "mean"}, "Expected no duplicates"),
        ({"row_ids": [1, 2, 3]}, "Expected no row_ids for anything but a scipy matrix"),
    ],
)
def test_options_that_cannot_apply_are_refused(tmp_path, options, message):
    adata = make_ratings(with_values(1, 2, 3, 4), [1, 2, 3], [1, 2])
    adata.write_h5ad(tmp_path / "r.h5ad")
    for source in (adata, tmp_path / "r.h5ad"):
        with pytest.raises(PlatewiseError, match=message):
            read_ratings(source, **options)


def test_a_scipy_matrix_has_no_named_columns():
    with pytest.raises(PlatewiseError, match="Expected no user for a scipy matrix"):
        read_ratings(with_values(1, 2, 3, 4), user="u")


def test_a_view_stays_a_view():
    x = sp.csr_matrix(np.ones((4, 4), np.float32))
    view = make_ratings(x, range(4), range(4), timestamp=np.arange(16))[:3]
    assert read_ratings(view) is view
    assert view.is_view
