"""`platewise ingest` of counts: how it knows them from ratings, and what it says of them."""

import json
import re
import shlex
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from platewise.data import mark, read_h5ad

from ..data.count_files import CELLS, GENES, annotated, counts, write_folder, write_h5

README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def here(tmp_path):
    """Counts in every form, in the folder one stands in."""
    x = counts()
    annotated(x).write_h5ad("plain.h5ad")
    mark(annotated(x), unstored="zero").write_h5ad("marked.h5ad")
    pd.DataFrame(x.astype(int), index=CELLS, columns=GENES).to_csv("table.csv")
    write_folder(tmp_path / "a", x)
    write_folder(tmp_path / "b", counts(1), 2)
    write_h5(tmp_path / "ten.h5", x)
    sp.save_npz("matrix.npz", sp.csr_matrix(x))
    Path("ratings.csv").write_text("user,item,rating\n1,1,5\n2,2,3\n")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "plain.h5ad --cells",
        "marked.h5ad",
        "marked.h5ad --cells",
        "table.csv --cells",
        "a",
        "a/matrix.mtx.gz",
        "ten.h5",
        "matrix.npz",
    ],
)
def test_counts_of_every_kind(here, platewise, command):
    result = platewise("ingest", *command.split(), "-o", "cells.h5ad")
    assert result.code == 0, result
    assert f"cells.h5ad: 12 cells x 7 genes, {np.count_nonzero(counts())} counts above 0" in result.out
    adata = read_h5ad("cells.h5ad")
    assert adata.uns["platewise"]["unstored"] == "zero"
    np.testing.assert_array_equal(adata.X.toarray(), counts())


def test_json(here, platewise):
    result = platewise("ingest", "ten.h5", "-o", "cells.h5ad", "--json")
    assert json.loads(result.out) == {
        "data": "cells.h5ad", "cells": 12, "genes": 7, "entries": np.count_nonzero(counts()), "unstored": "zero",
        "counts_from": "X", "empty_cells_dropped": 0, "empty_genes_dropped": 0, "duplicate_genes": 0,
        "duplicate_cells": 0,
    }  # fmt: skip


def test_what_was_dropped_and_taken_is_said(here, platewise):
    x = counts()
    x[3], x[:, 2] = 0, 0
    adata = annotated(x + 0.5)
    adata.layers["counts"] = sp.csr_matrix(x)
    adata.var_names = [*GENES[:-1], GENES[0]]
    adata.write_h5ad("messy.h5ad")
    out = platewise("ingest", "messy.h5ad", "--cells", "--empty-genes", "drop", "-o", "cells.h5ad").out
    assert "11 cells x 6 genes" in out
    for part in ("counts from layers['counts']", "1 empty cell dropped", "1 empty gene dropped", "1 gene under a name"):
        assert part in out
    out = platewise(*shlex.split("ingest messy.h5ad --cells --duplicate-genes sum --empty-cells keep -o sum.h5ad")).out
    assert "12 cells x 6 genes" in out


def test_several_sources(here, platewise):
    result = platewise("ingest", "a", "b", "-o", "cells.h5ad", "--variable-genes", 3)
    assert "24 cells x 3 genes (log-variance)" in result.out
    assert "a: 12 cells, b: 12 cells" in result.out
    assert read_h5ad("cells.h5ad").obs["batch"].tolist() == ["a"] * 12 + ["b"] * 12
    command = "ingest ten.h5 plain.h5ad --cells --batch-key sample --join outer --json -o more.h5ad"
    said = json.loads(platewise(*command.split()).out)
    assert said["batches"] == {"ten": 12, "plain": 12}
    assert said["genes_left_out"] == 0


def test_batches_of_one_source(here, platewise):
    adata = annotated(counts())
    adata.obs["donor"] = ["x", "y"] * 6
    adata.write_h5ad("donors.h5ad")
    command = "ingest donors.h5ad --cells --variable-genes 2 --batch-key donor -o cells.h5ad"
    assert "12 cells x 2 genes" in platewise(*command.split()).out
    assert read_h5ad("cells.h5ad").obs["donor"].tolist() == ["x", "y"] * 6


BAD = [
    ("plain.h5ad", "--cells if counts of cells"),
    ("ratings.csv table.csv", "Expected one source of ratings, got 2. Say --cells"),
    ("table.csv table.csv --cells", "every source once"),
    ("ratings.csv --variable-genes 5", "Expected no --variable-genes for anything but counts"),
    ("plain.h5ad --unstored zero --cells", "Expected no --cells for --unstored"),
    ("a b --unstored zero", "one source for --unstored, got 2"),
    ("a --user 3", "Expected no --user for counts"),
    ("a --duplicates mean", "Expected no --duplicates for counts"),
    ("a --batch-key donor", "Expected --variable-genes with --batch-key of one source"),
    ("a --flavor log-variance", "Expected --variable-genes with --flavor"),
    ("a --join outer", "Expected several sources with --join"),
    ("a --variable-genes 2 --batch-key donor", "Expected a column 'donor'"),
    ("a --variable-genes 0", "1 variable gene or more"),
    ("a --variable-genes 99", "1 to 7 variable genes"),
    ("a --variable-genes 2 --flavor luck", "got 'luck'"),
    ("a --empty-cells luck", "got 'luck'"),
    ("a --genes-in columns", "--genes-in rows"),
    ("a --feature-type Peaks", "got Gene Expression"),
    ("log.h5ad --cells", "log-normalised values"),
    ("marked_ratings.h5ad --cells", "got ratings"),
    ("none --cells", "no such file"),
]


@pytest.mark.parametrize(("command", "part"), BAD)
def test_one_clear_line_and_nothing_written(here, platewise, command, part):
    x = counts()
    annotated(np.log1p(1e4 * x / x.sum(1, keepdims=True)).astype(np.float32)).write_h5ad("log.h5ad")
    mark(annotated(x), unstored="missing").write_h5ad("marked_ratings.h5ad")
    result = platewise("ingest", *command.split(), "-o", "o.h5ad")
    assert result.code == 2, result
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert part in result.err
    assert not Path("o.h5ad").exists()


def test_expression_that_is_no_counts_still_goes_by_unstored(here, platewise):
    ad.AnnData(sp.csr_matrix(counts() / 3)).write_h5ad("expression.h5ad")
    assert "12 cells x 7 genes" in platewise("ingest", "expression.h5ad", "--unstored", "zero", "-o", "o.h5ad").out


def test_the_command_of_the_readme(tmp_path, platewise):
    """It asks for more genes than the few of a test."""
    (command,) = re.findall(
        r"^platewise (ingest filtered_feature_bc_matrix.*)$", README.read_text("utf-8"), re.MULTILINE
    )
    write_folder(tmp_path / "filtered_feature_bc_matrix", counts())
    arguments = ["5" if word == "2000" else word for word in shlex.split(command)]
    assert "12 cells x 5 genes" in platewise(*arguments).out
