"""scanpy's neighbours and UMAP run on our embeddings unchanged."""

import os
import subprocess
import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from platewise.data import mark, write_h5ad

SCRIPT = Path(__file__).parents[2] / "examples" / "plot_umap.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}  # to compile UMAP takes longer than to lay out 30 cells as is
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)


def embedded(path: Path) -> Path:
    rng = np.random.default_rng(0)
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(1.0, (30, 20)).astype(np.float32)))
    adata.obsm["X_platewise"] = rng.normal(size=(30, 5)).astype(np.float32)
    adata.obs["label"] = np.where(np.arange(30) < 15, "a", "b")
    write_h5ad(mark(adata, unstored="zero"), path)
    return path


@pytest.mark.slow
def test_picture(tmp_path):
    cells = embedded(tmp_path / "embedded.h5ad")
    done = run(cells, "-o", tmp_path / "umap.png", "--color", "label")
    assert done.returncode == 0, done.stderr
    assert "30 cells" in done.stdout
    assert (tmp_path / "umap.png").read_bytes().startswith(b"\x89PNG")


def test_no_embedding_is_said(tmp_path):
    done = run(embedded(tmp_path / "embedded.h5ad"), "--key", "X_other")
    assert done.returncode != 0
    assert "Run `platewise embed` first" in " ".join(done.stderr.replace("│", " ").split())
