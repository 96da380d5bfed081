"""What `read_cells` makes of sources: tables, several at once, names that repeat, empty cells and genes."""

import bz2
import gzip

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from platewise.data import PlatewiseError, read_cells, read_h5ad, write_h5ad
from platewise.data.cells import holds_counts
from platewise.data.gene_names import unique_names
from platewise.data.joined import labels_of

from ..sparse_strategies import some
from .count_files import CELLS, GENES, annotated, counts, write_folder, write_h5


def frame(x):
    return pd.DataFrame(x.astype(int), index=CELLS, columns=GENES)


def test_what_comes_out_can_be_written(tmp_path):
    adata = read_cells(annotated(counts()))
    write_h5ad(adata, tmp_path / "cells.h5ad")
    again = read_h5ad(tmp_path / "cells.h5ad")
    assert again.uns["platewise"] == adata.uns["platewise"]
    assert holds_counts(tmp_path / "cells.h5ad")
    assert adata.uns["platewise"] == {
        "unstored": "zero", "row_ids": "str", "col_ids": "str", "row_name": "cell", "col_name": "gene",
        "counts_from": "X", "duplicate_genes": 0, "duplicate_cells": 0, "empty_cells_dropped": 0,
        "empty_genes_dropped": 0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["c.csv", "c.tsv", "c.csv.gz", "c.txt", "c.tsv.bz2"])
def test_tables_of_text(tmp_path, name, monkeypatch):
    monkeypatch.setattr("platewise.data.count_table._VALUES", 20)  # blocks of two rows
    x = counts()
    text = frame(x).to_csv(sep="," if ".csv" in name else "\t").encode()
    packed = gzip.compress(text) if name.endswith("gz") else bz2.compress(text) if name.endswith("bz2") else text
    (tmp_path / name).write_bytes(packed)
    adata = read_cells(tmp_path / name)
    np.testing.assert_array_equal(adata.X.toarray(), x)
    assert adata.obs_names.tolist() == CELLS
    assert adata.var_names.tolist() == GENES
    assert not holds_counts(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "cells", "genes"),
    [
        ("a,b\nc1,1,0\nc2,0,2\n", ["c1", "c2"], ["a", "b"]),  # as R writes it
        ("a,b\n1,0\n0,2\n", ["0", "1"], ["a", "b"]),
        ("cell,a,b\n7,1,0\n9,0,2\n", ["7", "9"], ["a", "b"]),
        ('"barcode","a","a"\n"NA",1,0\n"x",0,2\n', ["NA", "x"], ["a", "a-1"]),
        ("gene;a;b\r\nc1;1;0\r\nc2;0;2\r\n", ["c1", "c2"], ["a", "b"]),
    ],
)
def test_headers_of_every_kind(tmp_path, text, cells, genes):
    (tmp_path / "c.csv").write_text(text)
    adata = read_cells(tmp_path / "c.csv")
    assert (adata.obs_names.tolist(), adata.var_names.tolist()) == (cells, genes)
    np.testing.assert_array_equal(adata.X.toarray(), [[1, 0], [0, 2]])


def test_genes_in_rows(tmp_path):
    x = counts()
    frame(x).T.to_csv(tmp_path / "c.csv")
    adata = read_cells(tmp_path / "c.csv", genes_in="rows")
    np.testing.assert_array_equal(adata.X.toarray(), x)
    assert adata.var_names.tolist() == GENES
    sp.save_npz(tmp_path / "c.npz", sp.csc_matrix(x.T))
    np.testing.assert_array_equal(read_cells(tmp_path / "c.npz", genes_in="rows").X.toarray(), x)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "empty file"),
        ("cell,a,b\n", "header and rows"),
        ("cell,a,b\nc,1\n", "row of 3 fields under the header .*, got 2"),
        ("cell,a,b\nc,1,2\nd,3\n", "NaN or infinite .first: cell 'd', gene 'b'"),
        ("cell,a,b\nc,1,2\nd,3,4,5\n", "Expected a whole table"),
        ("cell,a,b\nc,1,2\nd,3,many\n", "Expected a number for 'b' in row 'd' of .*, got 'many'"),
        ("cell,a,b\nc,1,2\nd,,4\n", "cell 'd', gene 'a': nan"),
        ("cell,a,b\nc,1,2\nd,1.5,4\n", "cell 'd', gene 'a': 1.5"),
        ("cell,a,b\nc,1,2\n", "two rows and two columns at least"),
    ],
)
def test_bad_tables(tmp_path, text, match):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(PlatewiseError, match=match) as raised:
        read_cells(tmp_path / "c.csv")
    assert "\n" not in str(raised.value)


def test_bad_sources(tmp_path):
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04 cut")
    (tmp_path / "c.doc").write_text("counts")
    (tmp_path / "c.h5ad").write_text("counts")
    for source, match in (
        ("c.npz", "save_npz"),
        ("c.doc", "Give it the suffix"),
        ("c.h5ad", "something else"),
        ("none.csv", "no such file"),
        ("none.zzz", "no such file"),
        (7, "got int"),
        ([], "got none"),
    ):
        with pytest.raises(PlatewiseError, match=match):
            read_cells(tmp_path / source if isinstance(source, str) else source)


def repeated():
    adata = annotated(counts())
    adata.var_names = ["A", "B", "A", "A-1", "A", "C", "B"]
    return adata


def test_genes_that_share_a_name():
    x = counts()
    unique = read_cells(repeated())
    assert unique.var_names.tolist() == ["A", "B", "A-2", "A-1", "A-3", "C", "B-1"]
    assert unique.var["gene_ids"].tolist() == repeated().var["gene_ids"].tolist()
    assert unique.uns["platewise"]["duplicate_genes"] == 3
    summed = read_cells(repeated(), duplicates="sum")
    assert summed.var_names.tolist() == ["A", "B", "A-1", "C"]
    expected = np.stack([x[:, [0, 2, 4]].sum(1), x[:, [1, 6]].sum(1), x[:, 3], x[:, 5]], axis=1)
    np.testing.assert_array_equal(summed.X.toarray(), expected)
    with pytest.raises(PlatewiseError, match="3 that repeat another, the first 'A'"):
        read_cells(repeated(), duplicates="error")


@some
@given(st.lists(st.sampled_from(["a", "a-1", "a-2", "a-1-1", "b"]), max_size=9))
def test_unique_names_are_unique_and_first_ones_stay(names):
    result = unique_names(names)
    assert result.is_unique
    assert all(result[names.index(name)] == name for name in set(names))


def test_cells_that_share_a_name():
    adata = annotated(counts())
    adata.obs_names = ["x"] * 2 + CELLS[2:]
    read = read_cells(adata)
    assert read.obs_names[:2].tolist() == ["x", "x-1"]
    assert read.uns["platewise"]["duplicate_cells"] == 1


def test_empty_cells_and_genes():
    x = counts()
    x[4], x[:, 1] = 0, 0
    x[7] = 0
    adata = annotated(x)
    adata.obsm["where"] = np.arange(12)[:, None]
    read = read_cells(adata)
    assert read.shape == (10, 7)
    assert read.obsm["where"].ravel().tolist() == [k for k in range(12) if k not in (4, 7)]
    np.testing.assert_array_equal(read.X.toarray(), np.delete(x, [4, 7], axis=0))
    both = read_cells(adata, empty_genes="drop")
    np.testing.assert_array_equal(both.X.toarray(), np.delete(np.delete(x, [4, 7], axis=0), 1, axis=1))
    assert both.uns["platewise"]["empty_genes_dropped"] == 1
    assert both.uns["platewise"]["empty_cells_dropped"] == 2
    assert "TP53" not in both.var_names
    assert read_cells(adata, empty_cells="keep").n_obs == 12
    with pytest.raises(PlatewiseError, match="got 2 cells without any, the first 'CELL4-1'"):
        read_cells(adata, empty_cells="error")
    with pytest.raises(PlatewiseError, match="got 1 gene without any, the first 'TP53'"):
        read_cells(adata, empty_genes="error")


@pytest.mark.parametrize("name", ["duplicates", "empty_cells", "empty_genes", "join", "genes_in"])
def test_choices_that_there_are_not(name):
    with pytest.raises(PlatewiseError, match=f"{name} to be one of .*, got 'luck'"):
        read_cells(annotated(counts()), **{name: "luck"})


def test_genes_in_is_for_matrices_only(tmp_path):
    for source in (write_h5(tmp_path / "c.h5", counts()), annotated(counts())):
        with pytest.raises(PlatewiseError, match="Expected no genes_in"):
            read_cells(source, genes_in="rows")


def two(tmp_path):
    """Two samples with the same barcodes; the second has other genes too, in another order."""
    first, second = annotated(counts(1)), annotated(counts(2))[:, ::-1].copy()
    second.var_names = ["NEW", *second.var_names[1:]]
    first.obs["donor"], second.obs["age"] = "x", 3
    first.var["length"] = 7
    for name, adata in (("ctrl", first), ("stim", second)):
        adata.write_h5ad(tmp_path / f"{name}.h5ad")
    return [tmp_path / "ctrl.h5ad", tmp_path / "stim.h5ad"]


def test_several_sources_with_the_genes_of_all(tmp_path):
    adata = read_cells(two(tmp_path))
    assert adata.shape == (24, 6)
    assert adata.var_names.tolist() == GENES[:-1]
    assert adata.var.columns.tolist() == ["gene_ids"]
    np.testing.assert_array_equal(adata.X.toarray(), np.vstack([counts(1)[:, :-1], counts(2)[:, :-1]]))
    assert adata.obs["batch"].tolist() == ["ctrl"] * 12 + ["stim"] * 12
    assert adata.obs_names[[0, 12]].tolist() == ["CELL0-1-ctrl", "CELL0-1-stim"]
    assert adata.uns["platewise"]["unstored"] == "zero"
    assert adata.uns["platewise"]["genes_left_out"] == 2
    assert adata.X.has_canonical_format
    write_h5ad(adata, tmp_path / "both.h5ad")
    assert read_h5ad(tmp_path / "both.h5ad").obs["donor"].isna().sum() == 12


def test_several_sources_with_the_genes_of_any(tmp_path):
    adata = read_cells(two(tmp_path), join="outer", batch_key="sample")
    assert adata.var_names.tolist() == [*GENES, "NEW"]
    assert adata.uns["platewise"]["genes_left_out"] == 0
    assert adata.uns["platewise"]["batch_key"] == "sample"
    assert adata[adata.obs["sample"] == "ctrl", "NEW"].X.nnz == 0
    np.testing.assert_array_equal(adata[12:, "NEW"].X.toarray()[:, 0], counts(2)[:, -1])
    write_h5ad(adata, tmp_path / "both.h5ad")


def test_sources_by_name_and_of_different_kinds(tmp_path):
    sources = {"ten": write_folder(tmp_path / "a", counts(1)), "memory": annotated(counts(2))}
    adata = read_cells(sources)
    assert adata.obs["batch"].value_counts().to_dict() == {"ten": 12, "memory": 12}
    np.testing.assert_array_equal(adata.X.toarray(), np.vstack([counts(1), counts(2)]))


def test_barcodes_stay_where_they_are_unique():
    first, second = annotated(counts(1)), annotated(counts(2))
    second.obs_names = [f"other{k}" for k in range(12)]
    assert read_cells([first, second]).obs_names.tolist() == [*CELLS, *second.obs_names]


def test_sources_that_do_not_go_together(tmp_path):
    paths = two(tmp_path)
    with pytest.raises(PlatewiseError, match="without a column 'donor'"):
        read_cells(paths, batch_key="donor")
    with pytest.raises(PlatewiseError, match="every source once"):
        read_cells([paths[0], paths[0]])
    other = annotated(counts())
    other.var_names = other.var["gene_ids"].to_numpy()
    with pytest.raises(PlatewiseError, match="share genes, got 'NA' in one and 'ENSG000' in another"):
        read_cells([paths[0], other])


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["x/ctrl.h5", "x/stim.h5"], ["ctrl", "stim"]),
        (["a/outs/filtered", "b/outs/filtered"], ["a", "b"]),
        (["s.1/m.mtx.gz", "s.2/m.mtx.gz"], ["s.1", "s.2"]),
        (["a.csv.gz", "b.tsv"], ["a", "b"]),
        (["x/a.csv", "y/a.h5"], ["x/a.csv", "y/a.h5"]),
    ],
)
def test_short_names_of_paths(paths, labels):
    assert labels_of(paths) == labels


@pytest.mark.real_data
def test_pbmc3k_in_every_form(real_data, tmp_path):
    path = real_data / "pbmc3k.h5ad"
    if not path.is_file():
        pytest.skip("pbmc3k.h5ad is not in the test data folder")
    adata = read_cells(path)
    assert adata.shape == (2638, 13714)
    np.testing.assert_array_equal(np.asarray(adata.X.sum(1)).ravel(), adata.obs["nCount_RNA"])
    assert (ad.read_h5ad(path).X != adata.X).nnz == 0
