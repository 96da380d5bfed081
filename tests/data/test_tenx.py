"""10x's folders and .h5 as Cell Ranger 2 and 3 write them, and what may be wrong with them."""

import gzip
import logging

import h5py
import numpy as np
import pytest
from platewise.data import PlatewiseError, read_cells
from platewise.data.cells import holds_counts

from .count_files import CELLS, GENES, IDS, counts, write, write_folder, write_h5


def same(adata, x):
    assert adata.obs_names.tolist() == CELLS
    assert adata.var_names.tolist() == GENES
    assert adata.var["gene_ids"].tolist() == IDS
    assert adata.uns["platewise"]["unstored"] == "zero"
    assert adata.X.format == "csr"
    assert adata.X.dtype == np.float32
    assert adata.X.has_canonical_format
    np.testing.assert_array_equal(adata.X.toarray(), x)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("prefix", ["", "GSM1_sample_"])
def test_folders(tmp_path, version, prefix):
    x = counts()
    folder = write_folder(tmp_path / "sample", x, version, prefix)
    same(read_cells(folder), x)
    same(read_cells(next(folder.glob("*matrix.mtx*"))), x)
    assert holds_counts(folder)


@pytest.mark.parametrize("version", [2, 3])
def test_h5(tmp_path, version):
    x = counts()
    path = write_h5(tmp_path / "counts.h5", x, version)
    same(read_cells(path), x)
    assert holds_counts(path)


def test_a_folder_of_one_folder(tmp_path):
    x = counts()
    write_folder(tmp_path / "filtered_gene_bc_matrices" / "hg19", x, 2)
    same(read_cells(tmp_path / "filtered_gene_bc_matrices"), x)


def test_unsorted_columns_and_stored_zeros(tmp_path):
    """What old versions and other programs write is the same matrix."""
    x = counts()
    path = write_h5(tmp_path / "counts.h5", x)
    with h5py.File(path, "a") as file:
        group = file["matrix"]
        start, end = group["indptr"][:2]
        for name in ("indices", "data"):
            group[name][start:end] = group[name][start:end][::-1]
        zeroed = int(group["indices"][end])
        group["data"][end] = 0
    x[1, zeroed] = 0
    adata = read_cells(path)
    same(adata, x)
    assert adata.X.nnz == np.count_nonzero(x)


def test_other_features_than_genes(tmp_path, caplog):
    x = counts()
    types = ["Gene Expression"] * 5 + ["Antibody Capture"] * 2
    folder = write_folder(tmp_path / "sample", x, types=types)
    with caplog.at_level(logging.INFO, "platewise"):
        adata = read_cells(folder)
    np.testing.assert_array_equal(adata.X.toarray(), x[:, :5][x[:, :5].any(1)])
    assert "2 features of other types" in caplog.text
    assert read_cells(folder, feature_type=None).n_vars == 7
    assert read_cells(folder, feature_type="Antibody Capture", empty_cells="keep").shape == (12, 2)
    with pytest.raises(PlatewiseError, match=r"got Antibody Capture, Gene Expression. Name one of these"):
        read_cells(folder, feature_type="Peaks")


def test_an_mtx_without_names(tmp_path):
    x = counts()
    path = next(write_folder(tmp_path, x, 2).glob("*.mtx")).rename(tmp_path / "alone.mtx")
    adata = read_cells(path)
    np.testing.assert_array_equal(adata.X.toarray(), x)
    assert adata.obs_names.tolist() == [str(k) for k in range(12)]
    assert adata.uns["platewise"]["row_ids"] == "int"
    assert read_cells(path, genes_in="columns").shape == x.T.shape


def refused(path, match, **options):
    with pytest.raises(PlatewiseError, match=match) as raised:
        read_cells(path, **options)
    assert "\n" not in str(raised.value)


def test_bad_folders(tmp_path):
    x = counts()
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "matrix.mtx.gz, got one without")
    for name in ("raw", "filtered"):
        write_folder(tmp_path / "outs" / name, x)
    refused(tmp_path / "outs", r"got filtered/matrix.mtx.gz, raw/matrix.mtx.gz")
    refused(write_folder(tmp_path / "short", x, cells=CELLS[:-1]), "names of 12 cells and 7 genes for .*, got 11 and 7")
    refused(write_folder(tmp_path / "turned", x), r'Say genes_in="rows" \(--genes-in rows\)', genes_in="columns")


@pytest.mark.parametrize("text", ["%%MatrixMarket matrix coordinate integer general\n7 12 3\n1 1 1\n", "1,2\n", "x"])
def test_bad_matrices(tmp_path, text):
    folder = write_folder(tmp_path / "sample", counts(), 2)
    (folder / "matrix.mtx").write_text(text)
    refused(folder, "Expected a whole Matrix Market file")


def test_bad_files_within_a_folder(tmp_path):
    folder = write_folder(tmp_path / "sample", counts())
    whole = (folder / "matrix.mtx.gz").read_bytes()
    (folder / "matrix.mtx.gz").write_bytes(whole[: len(whole) // 2])
    refused(folder, "Expected a whole Matrix Market file")
    (folder / "matrix.mtx.gz").write_bytes(b"")
    refused(folder, "got an empty file")
    (folder / "matrix.mtx.gz").write_bytes(whole)
    (folder / "barcodes.tsv.gz").write_bytes(gzip.compress(b""))
    refused(folder, "Expected a table of names")
    write(folder / "barcodes.tsv.gz", [f"{cell}\tmore" for cell in CELLS])
    assert read_cells(folder).obs_names.tolist() == CELLS


def test_bad_h5(tmp_path):
    path = write_h5(tmp_path / "two.h5", counts(), 2)
    write_h5(path, counts(), 2, genome="mm10")
    refused(path, "Expected one genome in .*, got GRCh38, mm10")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.ones(3)
    refused(tmp_path / "other.h5", "got another kind of HDF5")
    whole = write_h5(tmp_path / "whole.h5", counts()).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    refused(tmp_path / "cut.h5", "truncated or damaged")
    refused(tmp_path / "none.h5", "no such file")
    with h5py.File(tmp_path / "whole.h5", "a") as file:
        file["matrix/indices"][0] = 99
    refused(tmp_path / "whole.h5", "truncated or damaged")
