"""A model whose posterior and evidence are known exactly: a line per row over the columns' positions.

theta_i ~ Normal_2(0, diag(1.5^2, 0.8^2))      y_ij ~ Normal(theta_i1 + theta_i2 c_j, 0.4^2)
"""

from collections.abc import Mapping

import numpy as np
import pyro
import pyro.distributions as dist
import scipy.sparse as sp
import torch
from platewise.data import RowBatch
from torch import Tensor, nn
from torch.distributions import Distribution

PRIOR = torch.tensor([1.5, 0.8], dtype=torch.float64)
NOISE = 0.4


class Lines(nn.Module):
    """The model, with its expected log-likelihood in closed form."""

    def __init__(self, n_cols: int) -> None:
        super().__init__()
        features = torch.stack([torch.ones(n_cols), torch.linspace(-1, 1, n_cols)], 1).double()
        self.features = nn.Buffer(features)

    def forward(self, batch: RowBatch) -> None:
        mean = (batch.at_rows(self.prior(batch)) * self.features[batch.col]).sum(-1)
        with batch.entries("points"):
            pyro.sample("y", dist.Normal(mean, NOISE), obs=batch.value)

    def prior(self, batch: RowBatch) -> Tensor:
        with batch.row_plate("lines"):
            return pyro.sample("theta", dist.Normal(torch.zeros(2), PRIOR).to_event(1))

    def expected_log_likelihood(self, batch: RowBatch, q: Mapping[str, Distribution]) -> Tensor:
        mean, variance, _ = self.predictive_moments(batch, q)
        return dist.Normal(mean, NOISE).log_prob(batch.value).sum() - 0.5 * (variance / NOISE**2).sum()

    def predictive_moments(self, batch: RowBatch, q: Mapping[str, Distribution]) -> tuple[Tensor, Tensor, Tensor]:
        f, block = self.features[batch.col], q["theta"]
        full = hasattr(block, "covariance_matrix")
        cov = block.covariance_matrix if full else torch.diag_embed(block.variance)
        mean = (block.mean[batch.row] * f).sum(-1)
        variance = torch.einsum("ek,ekl,el->e", f, cov[batch.row], f)
        return mean, variance, torch.full_like(mean, NOISE**2)


def lines_data(n_rows: int = 12, n_cols: int = 5, seed: int = 0) -> sp.csr_matrix:
    """Two thirds of the cells, drawn from the model; some rows may be empty."""
    rng = np.random.default_rng(seed)
    features = Lines(n_cols).features.numpy()
    theta = rng.normal(size=(n_rows, 2)) * PRIOR.numpy()
    row, col = np.nonzero(rng.random((n_rows, n_cols)) < 0.66)
    y = (theta[row] * features[col]).sum(1) + NOISE * rng.normal(size=len(row))
    return sp.csr_matrix((y, (row, col)), shape=(n_rows, n_cols))


def exact_posterior(model: Lines, batch: RowBatch) -> tuple[Tensor, Tensor]:
    """Mean (b, 2) and Cholesky factor (b, 2, 2) of each row's posterior."""
    precision = [torch.diag(PRIOR**-2) for _ in batch.rows]
    linear = [torch.zeros(2) for _ in batch.rows]
    for i, j, y in zip(batch.row.tolist(), batch.col.tolist(), batch.value, strict=True):
        f = model.features[j]
        precision[i] = precision[i] + torch.outer(f, f) / NOISE**2
        linear[i] = linear[i] + f * y / NOISE**2
    cov = torch.linalg.inv(torch.stack(precision))
    return torch.einsum("nkl,nl->nk", cov, torch.stack(linear)), torch.linalg.cholesky(cov)


def log_evidence(model: Lines, batch: RowBatch) -> Tensor:
    """log p(y), from the multivariate normal of each row's entries."""
    total = torch.zeros(())
    for i in range(len(batch.rows)):
        f, y = model.features[batch.col[batch.row == i]], batch.value[batch.row == i]
        cov = f @ torch.diag(PRIOR**2) @ f.mT + NOISE**2 * torch.eye(len(y))
        if len(y):
            total = total + dist.MultivariateNormal(torch.zeros(len(y)), cov).log_prob(y)
    return total
