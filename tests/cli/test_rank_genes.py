"""`platewise rank-genes` shows what `posterior.rank_genes` finds, and says in one line what it cannot take."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from platewise.cli import main
from platewise.data import mark, read_h5ad, write_h5ad
from platewise.inference import Fitted
from platewise.posterior import rank_genes


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Cells of two kinds, of which two genes tell, and a factor model's fit."""
    folder = tmp_path_factory.mktemp("cells")
    rng = np.random.default_rng(0)
    kind = np.arange(60) % 2 == 0
    rate = np.full((60, 12), 8.0)
    rate[:, :2] = np.where(kind, 20.0, 1.0)[:, None]
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.float32)))
    adata.obs_names, adata.var_names = [f"c{i}" for i in range(60)], [f"g{j}" for j in range(12)]
    adata.obs["label"] = np.where(kind, "B", "T")
    write_h5ad(mark(adata, unstored="zero"), folder / "cells.h5ad")
    with pytest.raises(SystemExit) as stopped:
        main(["fit", str(folder / "cells.h5ad"), "--rank", "2", "-o", str(folder / "run")])
    assert not stopped.value.code
    return folder


def test_the_best_genes_are_shown(files, platewise):
    result = platewise("rank-genes", files / "run", files / "cells.h5ad", "--cells", "label == 'B'", "--top", 2)
    assert result.code == 0, result.err
    assert "score: inner product of a gene's embedding with the cells' mean difference, in units of" in result.out
    shown = [line.split()[0] for line in result.out.splitlines()[1:] if line.strip().startswith("g")]
    assert shown[0] == "gene"
    assert set(shown[1:]) == {"g0", "g1"}


def test_json_and_csv_hold_what_python_finds(files, platewise):
    arguments = ("--cells", "label == 'B'", "--against", "index in ['c1', 'c3']", "--gene", "g0", "--gene", "g5")
    result = platewise("rank-genes", files / "run", files / "cells.h5ad", *arguments, "--json", "-o", "table.csv")
    given = {"against": ["c1", "c3"], "genes": ["g0", "g5"]}
    expected = rank_genes(Fitted.load(files / "run"), read_h5ad(files / "cells.h5ad"), "label == 'B'", **given)
    for table in (pd.DataFrame(json.loads(result.out)), pd.read_csv("table.csv")):
        pd.testing.assert_frame_equal(table.set_index("gene"), expected)


def test_a_table_that_is_there_is_not_replaced(files, platewise, tmp_path):
    (tmp_path / "table.csv").write_text("kept")
    result = platewise("rank-genes", files / "run", files / "cells.h5ad", "--cells", "label == 'B'", "-o", "table.csv")
    assert result.code == 2
    assert (tmp_path / "table.csv").read_text() == "kept"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("label == 'Z'", "got none by"),
        ("kind == 'B'", "There are: label"),
        ("label == @x", "no such syntax"),
        ("label != 'Z'", "got all 60"),
    ],
)
def test_queries_that_choose_nothing_useful(files, platewise, query, said):
    result = platewise("rank-genes", files / "run", files / "cells.h5ad", "--cells", query)
    assert result.code == 2
    assert said in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_ratings_have_no_genes(folder, platewise):
    result = platewise("rank-genes", folder / "run", folder / "train.h5ad", "--cells", "index == '1'")
    assert (result.code, "got one of ratings" in result.err) == (2, True)
