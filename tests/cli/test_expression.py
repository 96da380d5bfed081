"""Cells by genes, from the command line: fitted, read, and what is said of zeros and of counts."""

import json
import shutil

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from platewise.cli import main
from platewise.data import log_normalise, mark, write_h5ad
from platewise.inference.run_directory import load, read_config


def cells_of(n_cells, seed, prefix):
    rng = np.random.default_rng(seed)
    rate = np.exp(rng.normal(size=(n_cells, 2)) @ np.random.default_rng(9).normal(size=(2, 12)))
    counts = rng.poisson(rate).astype(np.float32)
    counts[:, 0] += 1
    adata = ad.AnnData(sp.csr_matrix(counts))
    adata.obs_names = [f"{prefix}{i}" for i in range(n_cells)]
    adata.var_names = [f"g{j}" for j in range(12)]
    return mark(adata, unstored="zero")


@pytest.fixture
def cells(tmp_path):
    """Counts to fit, the same normalised, counts of new cells, and one cell without counts."""
    adata = cells_of(60, 0, "c")
    write_h5ad(adata, tmp_path / "cells.h5ad")
    logs = log_normalise(adata)
    write_h5ad(logs, tmp_path / "logs.h5ad")
    elsewhere = logs.copy()
    mark(elsewhere, unstored="zero")
    write_h5ad(elsewhere, tmp_path / "elsewhere.h5ad")
    write_h5ad(cells_of(10, 1, "new"), tmp_path / "new.h5ad")
    adata.X = sp.csr_matrix(adata.X.multiply(np.arange(60)[:, None] > 0))
    write_h5ad(adata, tmp_path / "empty.h5ad")
    return adata


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A run of the counts to fit."""
    folder = tmp_path_factory.mktemp("expression")
    write_h5ad(cells_of(60, 0, "c"), folder / "cells.h5ad")
    with pytest.raises(SystemExit) as stopped:
        main(["fit", str(folder / "cells.h5ad"), "--rank", "2", "-o", str(folder / "run")])
    assert not stopped.value.code
    return folder / "run"


@pytest.fixture
def run(cells, fitted, tmp_path):
    """The same run, beside the files."""
    return shutil.copytree(fitted, tmp_path / "run")


def test_fit_says_what_it_took_and_remembers(cells, platewise):
    run = platewise("fit", "cells.h5ad", "--rank", 2, "-o", "run")
    assert "taken: counts log-normalised to 10,000 a row; entries not stored taken as observed zeros" in run.out
    config = read_config("run")
    assert config["meaning"]["normalised"] == 10_000
    assert config["model"]["config"]["unstored"] == "zero"
    elbo = load("run").history["elbo"].iloc[-1]
    assert f"({elbo / 720:.4f} per entry)" in run.out
    printed = json.loads(platewise("fit", "logs.h5ad", "--rank", 2, "-o", "logs", "--json").out)
    assert (printed["unstored"], printed["normalised"]) == ("zero", 10_000)
    assert printed["elbo"] == pytest.approx(elbo)


def test_entries_normalised_elsewhere_are_taken_as_they_are(run, platewise):
    result = platewise("fit", "elsewhere.h5ad", "--rank", 2, "-o", "elsewhere")
    assert "taken: entries normalised elsewhere" in result.out
    assert load("elsewhere").elbo == pytest.approx(load("run").elbo)
    assert "got counts" in platewise("evaluate", "elsewhere", "cells.h5ad").err


@pytest.mark.parametrize("guide", ["row-block", "mean-field"])
def test_evaluate_scores_every_cell(cells, platewise, guide):
    platewise("fit", "cells.h5ad", "--rank", 2, "--guide", guide, "-o", "run")
    scores = json.loads(platewise("evaluate", "run", "cells.h5ad", "--json").out)
    assert scores["n"] == 720
    assert 0.8 < scores["coverage"]["0.9"] < 1
    table = platewise("evaluate", "run", "new.h5ad").out
    assert "120 held-out entries" in table
    assert "120 entries have ids that the fit never saw (10 cells, 0 genes)" in table
    assert "fold-in run new.h5ad -o" in table


def test_new_cells_are_folded_in_and_read(run, platewise):
    result = platewise("fold-in", "run", "new.h5ad", "-o", "folded")
    assert result.code == 0, result.err
    assert "10 cells with" in result.out
    assert "predict folded --user CELL --item GENE" in result.out
    assert json.loads(platewise("evaluate", "folded", "new.h5ad", "--json").out)["n_unknown_rows"] == 0
    line = json.loads(platewise("predict", "folded", "--user", "new3", "--item", "g1", "--json").out)[0]
    assert (line["known_cell"], line["known_gene"]) == (True, True)
    assert platewise("posterior", "folded", "-o", "p.nc", "--row", "new3", "--draws", 5).err == ""


def test_zeros_taken_as_missing_are_said_so(cells, platewise):
    result = platewise("fit", "cells.h5ad", "--rank", 2, "--unstored", "missing", "-o", "run")
    assert "entries not stored taken as missing" in result.out
    n_stored = ad.read_h5ad("cells.h5ad").X.nnz
    assert json.loads(platewise("evaluate", "run", "cells.h5ad", "--json").out)["n"] == n_stored
    assert platewise("posterior", "run", "-o", "p.nc", "--test", "cells.h5ad", "--draws", 5).code == 0
    assert platewise("fit", "cells.h5ad", "--rank", 2, "--unstored", "missing", "--algorithm", "natural-gradient",
                     "--passes", 2, "--drop-users", "-o", "dropped").code == 0  # fmt: skip
    assert platewise("predict", "dropped", "--user", "c1", "--item", "g1").code == 0


def test_svi_from_memory_and_from_disk(cells, platewise):
    options = ("--rank", 2, "--algorithm", "svi", "--epochs", 2)
    assert platewise("fit", "cells.h5ad", *options, "-o", "a").code == 0
    assert platewise("fit", "logs.h5ad", *options, "--from-disk", "-o", "b").code == 0
    assert platewise("fit", "elsewhere.h5ad", *options, "--from-disk", "-o", "c").code == 0
    assert read_config("c")["meaning"]["normalised"] == "elsewhere"
    assert load("a").elbo == pytest.approx(load("b").elbo, rel=0.05)


def test_rank_auto(cells, platewise):
    printed = json.loads(platewise("fit", "cells.h5ad", "--rank", "auto", "-o", "run", "--json").out)
    assert printed["rank"] == 4
    assert 1 <= printed["effective_rank"] <= 4
    assert read_config("run")["options"]["tolerance"] == 1e-5


def test_an_interrupted_fit_goes_on_with_the_same_values(run, platewise):
    platewise("fit", "cells.h5ad", "--rank", 2, "--sweeps", 3, "-o", "short")
    short = load("short")
    short.converged, short.stopped = False, "interrupted after sweep 3 of at most 6; resume to go on"
    short.options["sweeps"] = 6
    short.save("short", force=True, data=read_config("short")["data"]["file"])
    result = platewise("fit", "--resume", "short")
    assert result.code == 0, result.err
    assert len(load("short").history) == 6
    assert load("short").meaning == load("run").meaning


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (
            "fit cells.h5ad --algorithm natural-gradient --rank 2 -o o",
            "missing for natural-gradient, got observed zeros",
        ),
        ("fit cells.h5ad --algorithm svi --from-disk --rank 2 -o o", "Expected log-normalised entries to stream"),
        ("fit logs.h5ad --algorithm svi --from-disk --unstored missing --rank 2 -o o", "Expected --unstored zero, as"),
        ("fit empty.h5ad --rank 2 -o o", "Expected cells with counts, got 1 of 60 without any, the first 'c0'"),
        ("fit cells.h5ad --unstored none --rank 2 -o o", "got 'none'"),
        ("fit cells.h5ad --rank 13 -o o", "Expected a rank of at most 12"),
        ("recommend run --user c1", "Expected a fit of ratings to recommend from, got one of gene expression"),
        (
            "posterior run -o p.nc --test cells.h5ad",
            "Expected no --test for a fit that takes entries not stored as zeros",
        ),
        ("evaluate run empty.h5ad", "without any, the first 'c0'"),
    ],
)
def test_what_is_refused_in_one_line(run, platewise, command, part):
    result = platewise(*command.split())
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert part in result.err


def test_ratings_stay_ratings(folder, run, platewise):
    train = folder / "train.h5ad"
    result = platewise("fit", train, "--unstored", "zero", "--rank", 2, "-o", "o")
    assert "for --unstored zero, got ratings" in result.err
    for command in (("evaluate", "run", train), ("fold-in", "run", train, "-o", "o")):
        assert "as in the fit, got ratings" in platewise(*command).err
    assert "got counts" in platewise("evaluate", folder / "run", "cells.h5ad").err
    assert "taken:" not in platewise("fit", train, "--rank", 2, "-o", "o").out
