"""A hierarchical model with globals of every kind: real, positive, on the simplex, a matrix, in a plate of groups.

level ~ Normal(0, 2^2)      spread ~ HalfNormal(1)      share ~ Dirichlet(2, 2, 2)
slope_g ~ Normal(0, 1) for each of 3 groups             loading ~ Normal(0, 1), of 2 x 2
x_i ~ Normal(level, spread^2) for each row      y_ij ~ Normal(x_i + sum slope + share_1 + sum loading, noise^2)
"""

import anndata as ad
import numpy as np
import pyro
import pyro.distributions as dist
import scipy.sparse as sp
from platewise.data import RowBatch, make_ratings
from torch import nn

GLOBALS = ("level", "spread", "share", "slope", "loading")
N_GROUPS = 3


class Hierarchy(nn.Module):
    """The model."""

    def forward(self, batch: RowBatch) -> None:
        zero = batch.value.new_zeros(())
        level = pyro.sample("level", dist.Normal(zero, 2.0))
        spread = pyro.sample("spread", dist.HalfNormal(zero + 1))
        share = pyro.sample("share", dist.Dirichlet(batch.value.new_full((N_GROUPS,), 2.0)))
        with pyro.plate("groups", N_GROUPS):
            slope = pyro.sample("slope", dist.Normal(zero, 1.0))
        loading = pyro.sample("loading", dist.Normal(batch.value.new_zeros(2, 2), 1.0).to_event(2))
        with batch.row_plate("rows"):
            x = pyro.sample("x", dist.Normal(level, spread))
        fixed = slope.sum(-1, keepdim=True) + share[..., 0] + loading.sum((-1, -2))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(batch.at_rows(x, event_dim=0) + fixed, 0.5), obs=batch.value)


def hierarchy_data(n_rows: int = 1000, n_cols: int = 4) -> ad.AnnData:
    """About half of the entries, drawn from the model."""
    rng = np.random.default_rng(0)
    x = 1.5 + 0.7 * rng.normal(size=n_rows)
    row, col = np.nonzero(rng.random((n_rows, n_cols)) < 0.5)
    y = x[row] + 0.5 * rng.normal(size=len(row))
    matrix = sp.csr_matrix((y.astype(np.float32), (row, col)), shape=(n_rows, n_cols))
    return make_ratings(matrix, np.arange(n_rows), np.arange(n_cols))
