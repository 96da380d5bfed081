"""`platewise denoise` and `platewise generate` write what the library finds, and say what is wrong in one line."""

import json

import anndata as ad
import numpy as np
import pytest
import torch
from platewise.data import read_h5ad, write_h5ad
from platewise.guides import AmortizedNormal
from platewise.inference import svi
from platewise.models import VAE
from platewise.posterior import denoise

from ..count_data import small_counts


@pytest.fixture(scope="module")
def cells_and_run(tmp_path_factory):
    """Cells of two sites, and a run of a small VAE that was fitted on them."""
    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    cells = small_counts()
    cells.obs["site"] = np.where(cells.obs["batch"] == 0, "north", "south")
    write_h5ad(cells, folder / "cells.h5ad")
    model = VAE(2, hidden=8, categories={"batch": 2})
    covariates = {"batch": "site"}
    fitted = svi.fit(model, AmortizedNormal(hidden=8), cells, covariates=covariates, epochs=3, progress=False)
    fitted.save(folder / "run", data=folder / "cells.h5ad")
    return folder / "cells.h5ad", folder / "run", fitted


def test_genes_are_named_and_in_a_file(cells_and_run, platewise, tmp_path):
    cells, run, fitted = cells_and_run
    (tmp_path / "genes.txt").write_text("gene7\n\ngene1\n")
    result = platewise("denoise", run, cells, "--genes", "gene3, gene1", "--genes-file", "genes.txt", "--draws", 19,
                       "--library-size", "1e4", "--batch", "south", "-o", "out.h5ad")  # fmt: skip
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("out.h5ad: 60 cells by 3 genes, expected counts per 10,000 with its 90% interval")
    found, names = ad.read_h5ad("out.h5ad"), ["gene3", "gene1", "gene7"]
    assert list(found.var_names) == names
    expected = denoise(fitted, read_h5ad(cells), genes=names, library_size=1e4, batch="south", draws=19)
    np.testing.assert_allclose(found.layers["upper"], expected.layers["upper"], rtol=1e-5)


def test_generate_remembers_the_data(cells_and_run, platewise):
    cells, run, _ = cells_and_run
    result = platewise("generate", run, "-n", 40, "-o", "new.h5ad", "--json")
    assert json.loads(result.out)["rows"] == 40
    new = read_h5ad("new.h5ad")
    assert set(new.obs["site"]) == {"north", "south"}
    named = platewise("generate", run, "-n", 40, "--data", cells, "-o", "same.h5ad")
    assert "same.h5ad: 40 cells by 25 genes" in named.out
    assert (read_h5ad("same.h5ad").X != new.X).nnz == 0


def test_generated_cells_are_read_out_again(cells_and_run, platewise):
    _, run, _ = cells_and_run
    platewise("generate", run, "-n", 10, "--like", "posterior", "-o", "new.h5ad")
    result = platewise("denoise", run, "new.h5ad", "--draws", 2, "-o", "out.h5ad", "--json")
    assert (json.loads(result.out)["rows"], json.loads(result.out)["cols"]) == (10, 25)


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("denoise RUN CELLS --genes gen3 -o o.h5ad", "got 'gen3'. Did you mean gene3"),
        ("denoise RUN CELLS --genes , -o o.h5ad", "a gene at least"),
        ("denoise RUN CELLS --genes-file none.txt -o o.h5ad", "no such file: none.txt"),
        ("denoise RUN CELLS --library-size big -o o.h5ad", "got 'big'"),
        ("denoise RUN CELLS --batch west -o o.h5ad", "among north, south, got 'west'"),
        ("generate RUN --like data -o o.h5ad", "like 'prior' or 'posterior'"),
        ("generate RUN --batch west -o o.h5ad", "among north, south"),
    ],
)
def test_what_is_refused_in_one_line(cells_and_run, platewise, tmp_path, command, part):
    cells, run, _ = cells_and_run
    result = platewise(*command.replace("RUN", str(run)).replace("CELLS", str(cells)).split())
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert part in result.err
    assert not (tmp_path / "o.h5ad").exists()
