"""Small files such as a person brings, for the commands and the Python of the documentation."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse
from platewise.models import VAE


def write_ratings(path: Path) -> pd.DataFrame:
    """1,200 ratings of 60 users, 10 and on, and 40 items, 1 and on."""
    rng = np.random.default_rng(0)
    cells = rng.choice(60 * 40, 1200, replace=False)
    table = pd.DataFrame({"user": 10 + cells // 40, "item": 1 + cells % 40, "rating": rng.integers(1, 6, 1200)})
    table.to_csv(path, index=False)
    return table


def write_10x(folder: Path, n_cells: int, n_genes: int, names: tuple[str, ...] = ()) -> None:
    """A 10x folder of Poisson counts; the first genes bear these names."""
    folder.mkdir()
    counts = np.random.default_rng(0).poisson(0.3, size=(n_genes, n_cells))
    with gzip.open(folder / "matrix.mtx.gz", "wb") as file:
        scipy.io.mmwrite(file, scipy.sparse.coo_matrix(counts))
    called = [*names, *(f"gene{j}" for j in range(len(names), n_genes))]
    genes = "".join(f"ENSG{j}\t{name}\tGene Expression\n" for j, name in enumerate(called))
    for name, text in (("features", genes), ("barcodes", "".join(f"cell{i}-1\n" for i in range(n_cells)))):
        with gzip.open(folder / f"{name}.tsv.gz", "wt") as file:
            file.write(text)


def few_epochs(monkeypatch) -> None:
    """Fits of a VAE by its recommended options end after two epochs."""
    monkeypatch.setattr(VAE, "recommended", {**VAE.recommended, "epochs": 2, "min_steps": None})
