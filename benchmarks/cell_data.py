"""Cells for the benchmarks, in three parts: to fit, to be held out, and all of them for the embedding.

A published set says in `obs["split"]` which cells are for testing. Until the last step of a benchmark these are not
even handed out: a tenth of the training cells is held out instead.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from anndata import AnnData
from measure import data_folder
from platewise.data import mark, read_h5ad
from scipy.sparse import csr_matrix, vstack

SYNTHETIC = "synthetic"
SETS = {"pbmc3k": "pbmc3k_top2000.h5ad", "sc_mixology": "sc_mixology_top2000.h5ad", SYNTHETIC: ""}
WITH_BATCH = ("sc_mixology",)
VALIDATION = 0.1  # of the training cells
N_KINDS, N_CELLS, N_GENES = 8, 20_000, 2_000
MEAN_TOTAL = 350  # counts of a cell: stores 11 % of the entries of 2,000 genes
BLOCK = 1_000  # cells drawn at once


@dataclass(frozen=True)
class CellSplit:
    """Cells of a benchmark.

    Attributes:
        fit: Cells to train on.
        held_out: Cells to score.
        everything: Both together, for the embedding, with `obs["label"]`.
        batch: Name of the column of `obs` that holds batches, or None.
    """

    fit: AnnData
    held_out: AnnData
    everything: AnnData
    batch: str | None

    def codes(self, cells: AnnData) -> np.ndarray:
        """Number of each cell's batch (n_cells,), the same for every part."""
        return np.unique(self.everything.obs[self.batch].astype(str), return_inverse=True)[1][
            self.everything.obs_names.get_indexer(cells.obs_names)
        ]

    @property
    def n_batches(self) -> int:
        """How many batches there are."""
        return self.everything.obs[self.batch].nunique()


def require_sets(names: list[str]) -> None:
    """End with one clear line unless the files of these sets are there."""
    for path in (data_folder() / SETS[name] for name in names if SETS[name]):
        if not path.is_file():
            raise SystemExit(
                f"Expected cells in {path}, got no such file. Set PLATEWISE_TEST_DATA to the folder that holds it, or "
                f"take --data {SYNTHETIC}."
            )


def load_cells(name: str, folder: Path, *, final: bool) -> CellSplit:
    """Read a set of `SETS`; its test cells are the ones held out if `final`, else a tenth of the others."""
    cells = simulate_cells() if name == SYNTHETIC else read_h5ad(folder / SETS[name], unstored="zero")
    test = (cells.obs["split"] == "test").to_numpy()
    if not final:
        cells = cells[~test].copy()
        test = np.random.default_rng(0).permutation(cells.n_obs) < VALIDATION * cells.n_obs
    batch = "batch" if name in WITH_BATCH else None
    return CellSplit(cells[~test].copy(), cells[test].copy(), cells, batch)


def few_cells() -> CellSplit:
    """A made-up set that is fitted in a moment."""
    cells = simulate_cells(256, 50)
    return CellSplit(cells, cells, cells, None)


def simulate_cells(n_cells: int = N_CELLS, n_genes: int = N_GENES, seed: int = 0) -> AnnData:
    """Counts of a few kinds of cells, log-normal depths and profiles, gamma-Poisson (inverse dispersion 5)."""
    rng = np.random.default_rng(seed)
    profile = rng.lognormal(0, 1.5, n_genes) * rng.lognormal(0, 0.7, (N_KINDS, n_genes))
    profile *= MEAN_TOTAL * n_genes / N_GENES / profile.sum(1, keepdims=True)
    kind = rng.integers(N_KINDS, size=n_cells)
    blocks = [counts_of(rng, profile[kind[start : start + BLOCK]]) for start in range(0, n_cells, BLOCK)]
    cells = AnnData(vstack(blocks, format="csr"))
    cells.obs_names, cells.var_names = [f"cell{i}" for i in range(n_cells)], [f"gene{j}" for j in range(n_genes)]
    cells.obs["label"] = kind.astype(str)
    cells.obs["split"] = np.where(rng.permutation(n_cells) < 0.1 * n_cells, "test", "train")
    return mark(cells, unstored="zero")


def counts_of(rng: np.random.Generator, profile: np.ndarray) -> csr_matrix:
    """Draw cells with these mean counts (n_cells, n_genes), each at a depth of its own."""
    depth = rng.lognormal(-0.08, 0.4, (len(profile), 1))
    return csr_matrix(rng.poisson(profile * depth * rng.gamma(5, 0.2, profile.shape)).astype(np.float32))
