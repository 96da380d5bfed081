"""Genes that vary most: the variance of log-normalised counts, whatever the order, the batches or the blocks."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from platewise.data import PlatewiseError, mark, read_cells, variable_genes
from platewise.data.variable_genes import _pooled_variance

from .count_files import CELLS, GENES, annotated, counts


@pytest.fixture
def cells():
    adata = read_cells(annotated(counts()))
    adata.obs["donor"] = pd.Categorical(["a", "b", "b"] * 4)
    return adata


def dense_variance(x):
    return np.log1p(1e4 * x / x.sum(1, keepdims=True)).var(0, ddof=1)


def test_variance_counts_zeros(cells, monkeypatch):
    x = cells.X.toarray().astype(np.float64)
    whole = _pooled_variance(cells.X, np.zeros(12, int))
    np.testing.assert_allclose(whole, dense_variance(x), rtol=1e-5)
    monkeypatch.setattr(sys.modules[_pooled_variance.__module__], "_CHUNK", 3)
    np.testing.assert_allclose(_pooled_variance(cells.X, np.zeros(12, int)), whole, rtol=1e-12)


def test_the_most_variable_in_their_order(cells):
    expected = np.sort(np.argsort(-dense_variance(cells.X.toarray().astype(np.float64)))[:3])
    restricted = variable_genes(cells, 3)
    assert restricted.var_names.tolist() == [GENES[k] for k in expected]
    assert restricted.obs_names.tolist() == CELLS
    assert restricted.X.format == "csr"
    assert cells.var["variable"].to_numpy().nonzero()[0].tolist() == expected.tolist()
    assert restricted.var["variable"].all()
    assert restricted.uns["platewise"]["variable_genes"] == "log-variance"
    assert "variable_genes" not in cells.uns["platewise"]
    assert variable_genes(cells, 7).shape == cells.shape


def test_batches_are_pooled(cells):
    x, batch = cells.X.toarray().astype(np.float64), np.array([0, 1, 1] * 4)
    y = np.log1p(1e4 * x / x.sum(1, keepdims=True))
    expected = sum(((y[batch == b] - y[batch == b].mean(0)) ** 2).sum(0) for b in (0, 1)) / 10
    np.testing.assert_allclose(_pooled_variance(cells.X, batch), expected, rtol=1e-5)


def test_a_gene_that_only_tells_batches_apart_is_not_variable():
    """Within a batch it is constant; over all cells it varies most."""
    x = np.full((40, 6), 50.0)
    x[:20, 0] = 500
    x[:, 1:] += np.random.default_rng(0).poisson(5, (40, 5))
    x[:20, 5] -= x[:20, 1:].sum(1) - x[:20, 1:].sum(1).min()
    adata = mark(read_cells(_frame(x)), unstored="zero")
    adata.obs["batch"] = np.repeat(["a", "b"], 20)
    assert "0" in variable_genes(adata, 1).var_names
    assert "0" not in variable_genes(adata, 1, batch_key="batch").var_names


def _frame(x):
    import anndata as ad

    return ad.AnnData(sp.csr_matrix(x))


def test_empty_cells_are_no_trouble(caplog):
    x = counts()
    x[2] = 0
    adata = read_cells(annotated(x), empty_cells="keep")
    with caplog.at_level("INFO", "platewise"):
        variable_genes(adata, 7)
    assert "1 cells have no count" in caplog.text
    assert np.isfinite(_pooled_variance(adata.X, np.zeros(12, int))).all()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n": 0}, "1 variable gene or more, got 0"),
        ({"n": 8}, "1 to 7 variable genes, as there are genes, got 8"),
        ({"n": 2, "flavor": "best"}, "out of log-variance, seurat_v3, .* got 'best'"),
        ({"n": 2, "batch_key": "batch"}, "column 'batch' of cells, got donor"),
        ({"n": 2, "batch_key": "holes"}, "got 1 cells without"),
    ],
)
def test_bad_options(cells, options, match):
    if options.get("batch_key") == "holes":
        cells.obs["holes"] = ["a"] * 11 + [None]
    with pytest.raises(PlatewiseError, match=match):
        variable_genes(cells, **options)


def test_ratings_have_no_variable_genes(cells):
    with pytest.raises(PlatewiseError, match=r"Expected counts .* for variable genes, got ratings"):
        variable_genes(mark(cells, unstored="missing"), 2)


def test_scanpy_is_asked_for_and_not_there(cells, monkeypatch):
    monkeypatch.setitem(sys.modules, "scanpy", None)
    with pytest.raises(PlatewiseError, match='Expected scanpy for flavor "seurat_v3", got none installed') as raised:
        variable_genes(cells, 2, "seurat_v3")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat"])
def test_scanpy_gets_what_it_wants(cells, monkeypatch, flavor):
    """Raw counts for seurat_v3, log-normalised ones for seurat; the caller's stay raw."""
    called = []

    def choose(adata, **options):
        called.append(options)
        adata.var["highly_variable"] = np.arange(adata.n_vars) < options["n_top_genes"]

    preprocess = SimpleNamespace(
        normalize_total=lambda adata, target_sum: called.append(target_sum),
        log1p=lambda adata: called.append("log1p"),
        highly_variable_genes=choose,
    )
    monkeypatch.setitem(sys.modules, "scanpy", SimpleNamespace(pp=preprocess))
    restricted = variable_genes(cells, 2, flavor, batch_key="donor")
    assert restricted.var_names.tolist() == GENES[:2]
    assert called[:-1] == ([] if flavor == "seurat_v3" else [1e4, "log1p"])
    assert called[-1] == {"n_top_genes": 2, "flavor": flavor, "batch_key": "donor"}
    np.testing.assert_array_equal(cells.X.toarray(), counts())
