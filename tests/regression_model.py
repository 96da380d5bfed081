"""A model that is not ours in spirit: regression with an intercept per row, and a guide for it written by hand.

slope ~ Normal(0, 2^2)      group_scale ~ HalfNormal(1)
intercept_i ~ Normal(0, group_scale^2)
y_ij ~ Normal(intercept_i + slope x_i, noise^2)
"""

import anndata as ad
import numpy as np
import pyro
import pyro.distributions as dist
import scipy.sparse as sp
import torch
from platewise.data import RowBatch, make_ratings
from pyro.nn import PyroModule, PyroParam
from torch.distributions import constraints

SLOPE_SCALE = 2.0


class Regression(PyroModule):
    """The model; `noise` and `group_scale` are fixed where they are given."""

    def __init__(self, noise: float | None = None, group_scale: float | None = None) -> None:
        super().__init__()
        start = torch.tensor(1.0 if noise is None else noise)
        self.noise = PyroParam(start, constraints.positive) if noise is None else start
        self.group_scale = group_scale

    def forward(self, batch: RowBatch) -> None:
        zero = batch.value.new_zeros(())
        slope = pyro.sample("slope", dist.Normal(zero, SLOPE_SCALE))
        scale = self.group_scale or pyro.sample("group_scale", dist.HalfNormal(zero + 1))
        with batch.row_plate("groups"):
            intercept = pyro.sample("intercept", dist.Normal(zero, scale))
        mean = batch.at_rows(intercept + slope * batch.covariates["x"], event_dim=0)
        with batch.entries("responses"):
            pyro.sample("y", dist.Normal(mean, self.noise), obs=batch.value)


class RegressionGuide(PyroModule):
    """Normal slope, log-normal group scale, and normal intercepts whose parameters Pyro itself subsamples."""

    def __init__(self, n_rows: int) -> None:
        super().__init__()
        self.slope_loc = PyroParam(torch.tensor(0.1))
        self.slope_scale = PyroParam(torch.tensor(0.3), constraints.positive)
        self.log_group_loc = PyroParam(torch.tensor(-0.5))
        self.log_group_scale = PyroParam(torch.tensor(0.3), constraints.positive)
        self.intercept_loc = PyroParam(torch.linspace(-0.5, 0.5, n_rows), event_dim=0)
        self.intercept_scale = PyroParam(torch.full((n_rows,), 0.3), constraints.positive, event_dim=0)

    def forward(self, batch: RowBatch) -> None:
        pyro.sample("slope", dist.Normal(self.slope_loc, self.slope_scale))
        pyro.sample("group_scale", dist.LogNormal(self.log_group_loc, self.log_group_scale))
        with batch.row_plate("groups"):
            pyro.sample("intercept", dist.Normal(self.intercept_loc, self.intercept_scale))


def regression_data(
    n_rows: int = 60, n_cols: int = 8, slope: float = 0.7, group_scale: float = 0.6, noise: float = 0.5, seed: int = 0
) -> tuple[ad.AnnData, dict[str, np.ndarray]]:
    """Half of the cells, drawn from the model, and the covariate."""
    rng = np.random.default_rng(seed)
    x, intercept = rng.normal(size=n_rows), group_scale * rng.normal(size=n_rows)
    cells = np.sort(rng.permutation(n_rows * n_cols)[: n_rows * n_cols // 2])
    row, col = np.divmod(cells, n_cols)
    value = intercept[row] + slope * x[row] + noise * rng.normal(size=len(row))
    matrix = sp.csr_matrix((value.astype(np.float32), (row, col)), shape=(n_rows, n_cols))
    return make_ratings(matrix, np.arange(n_rows), np.arange(n_cols)), {"x": x}
