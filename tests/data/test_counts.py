"""Raw counts are found where they are, and nothing else passes for them."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from platewise.data import PlatewiseError, mark, read_cells, write_h5ad
from platewise.data.counts import settled

from ..sparse_strategies import matrices, some
from .count_files import CELLS, GENES, annotated, counts


def log_normalised(x):
    return np.log1p(1e4 * x / x.sum(1, keepdims=True)).astype(np.float32)


def both(adata, tmp_path, **options):
    """Read from memory and from disk: the same."""
    adata.write_h5ad(tmp_path / "cells.h5ad")
    first, second = read_cells(adata, **options), read_cells(tmp_path / "cells.h5ad", **options)
    assert (first.X != second.X).nnz == 0
    assert first.uns["platewise"] == second.uns["platewise"]
    return second


@pytest.mark.parametrize("form", [sp.csr_matrix, sp.csc_matrix, np.asarray, sp.csr_array])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_counts_in_any_form(tmp_path, form, dtype):
    x = counts()
    adata = annotated(x)
    adata.X = form(x.astype(dtype))
    read = both(adata, tmp_path)
    assert read.X.dtype == np.float32
    np.testing.assert_array_equal(read.X.toarray(), x)
    assert read.uns["platewise"]["counts_from"] == "X"


def test_counts_in_a_layer_or_in_raw(tmp_path):
    x = counts()
    adata = annotated(log_normalised(x))
    adata.obs["kind"] = "a"
    adata.obsm["umap"] = x[:, :2].copy()
    adata.raw = annotated(np.hstack([x]))
    smaller = adata[:, :3].copy()
    read = both(smaller, tmp_path)
    assert read.uns["platewise"]["counts_from"] == "raw"
    assert read.var_names.tolist() == GENES
    np.testing.assert_array_equal(read.X.toarray(), x)
    adata.layers["counts"] = sp.csr_matrix(x)
    read = both(adata, tmp_path)
    assert read.uns["platewise"]["counts_from"] == "layers['counts']"
    assert read.obs["kind"].tolist() == ["a"] * 12
    np.testing.assert_array_equal(read.obsm["umap"], x[:, :2])


def test_a_file_without_x(tmp_path):
    x = counts()
    adata = ad.AnnData(None, obs=pd.DataFrame(index=CELLS), var=pd.DataFrame(index=GENES))
    adata.layers["counts"] = sp.csr_matrix(x)
    np.testing.assert_array_equal(both(adata, tmp_path).X.toarray(), x)
    del adata.layers["counts"]
    with pytest.raises(PlatewiseError, match="got no matrix"):
        read_cells(adata)


def test_the_caller_keeps_what_was_given():
    x = sp.csr_matrix(np.array([[0, 1, 2], [3, 0, 4]], np.float32))
    x.data[0] = 0
    adata = ad.AnnData(x.copy())
    read = read_cells(adata)
    assert read.X.nnz == 3
    assert adata.X.nnz == 4
    assert "platewise" not in adata.uns
    read.X.data[:] = 7
    np.testing.assert_array_equal(adata.X.toarray(), x.toarray())


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "NaN or infinite"), (np.inf, "NaN or infinite"), (-1.0, "negative"), (1.5, "not whole numbers"),
    ],
)  # fmt: skip
def test_the_first_bad_entry_is_named(value, words):
    x = counts()
    x[3, 1] = x[5, 2] = value
    with pytest.raises(PlatewiseError) as raised:
        read_cells(annotated(x))
    message = str(raised.value)
    assert f"2 of {np.count_nonzero(x):,} entries that are {words} (first: cell 'CELL3-1', gene 'TP53': {value:g})" in (
        message
    )
    assert message.count("\n") == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (log_normalised, "log-normalised values (the largest is"),
        (lambda x: (1e4 * x / x.sum(1, keepdims=True)).astype(np.float32), "each cell sums to 1e+04"),
        (lambda x: x * np.linspace(0.3, 0.7, len(x), dtype=np.float32)[:, None], "entries that are not whole numbers"),
        (lambda x: x - x.mean(0), "negative"),
    ],
)
def test_normalised_values_are_told_as_such(change, words):
    with pytest.raises(PlatewiseError) as raised:
        read_cells(annotated(change(counts())))
    assert words in str(raised.value)
    assert "before normalisation" in str(raised.value)


def test_every_place_is_named_that_was_looked_at():
    x = counts()
    adata = annotated(x + 0.5)
    adata.layers["counts"] = sp.csr_matrix(-x)
    with pytest.raises(PlatewiseError, match=r"got X with 84 of 84 entries .*; layers\['counts'\] with .* negative"):
        read_cells(adata)


def test_ratings_are_no_counts(tmp_path):
    ratings = mark(annotated(counts()), unstored="missing")
    write_h5ad(ratings, tmp_path / "ratings.h5ad")
    for source in (ratings, tmp_path / "ratings.h5ad"):
        with pytest.raises(PlatewiseError, match="got ratings"):
            read_cells(source)


def test_what_a_file_says_of_ids_stays(tmp_path):
    adata = ad.AnnData(sp.csr_matrix(counts()))
    write_h5ad(mark(adata, unstored="zero", row_ids="int"), tmp_path / "cells.h5ad")
    assert read_cells(tmp_path / "cells.h5ad").uns["platewise"]["row_ids"] == "int"


def test_text_is_no_matrix():
    adata = annotated(counts())
    adata.X = sp.csr_matrix(counts().astype(bool))
    assert read_cells(adata).X.max() == 1
    adata.X = counts().astype(np.complex64)
    with pytest.raises(PlatewiseError, match="matrix of numbers, got type complex64"):
        read_cells(adata)


@some
@given(matrices())
def test_settled_is_the_same_matrix_without_zeros(matrix):
    dense = matrix.toarray()
    result = settled(matrix)
    np.testing.assert_allclose(result.toarray(), dense.astype(np.float32))
    assert result.nnz == np.count_nonzero(dense)
    assert result.has_canonical_format
