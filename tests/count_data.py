"""Small counts with structure: two kinds of cells, two batches."""

import anndata as ad
import numpy as np
import scipy.sparse as sp
from platewise.data import mark

N_CELLS, N_GENES = 60, 25


def small_counts(seed: int = 0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    kind, batch = rng.integers(2, size=N_CELLS), np.arange(N_CELLS) % 2
    share = rng.dirichlet(np.full(N_GENES, 0.5), size=2)[kind] * np.exp(0.3 * batch[:, None] * rng.normal(size=N_GENES))
    counts = rng.poisson(rng.integers(50, 200, N_CELLS)[:, None] * share)
    cells = ad.AnnData(sp.csr_matrix(counts.astype(np.float32)))
    cells.obs_names, cells.var_names = [f"cell{i}" for i in range(N_CELLS)], [f"gene{j}" for j in range(N_GENES)]
    cells.obs["kind"], cells.obs["batch"] = kind, batch
    return mark(cells, unstored="zero")
