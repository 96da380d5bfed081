"""A normal mean: the smallest model whose posterior is known, for any number of entries.

m ~ Normal(4, 0.5^2)      y_e ~ Normal(m, 2^2) for every entry e, wherever in the matrix it is
"""

from collections.abc import Mapping

import anndata as ad
import numpy as np
import pyro
import pyro.distributions as dist
import scipy.sparse as sp
from platewise.data import RowBatch, mark
from torch import Tensor, nn
from torch.distributions import Distribution

PRIOR_MEAN, PRIOR_SD, NOISE = 4.0, 0.5, 2.0


class NormalMean(nn.Module):
    """The model, with its expected log-likelihood in closed form."""

    def forward(self, batch: RowBatch) -> None:
        m = self.prior(batch)
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(m, NOISE), obs=batch.value)

    def prior(self, batch: RowBatch) -> Tensor:
        return pyro.sample("m", dist.Normal(batch.value.new_tensor(PRIOR_MEAN), PRIOR_SD))

    def expected_log_likelihood(self, batch: RowBatch, q: Mapping[str, Distribution]) -> Tensor:
        mean, variance, _ = self.predictive_moments(batch, q)
        return dist.Normal(mean, NOISE).log_prob(batch.value).sum() - 0.5 * (variance / NOISE**2).sum()

    def predictive_moments(self, batch: RowBatch, q: Mapping[str, Distribution]) -> tuple[Tensor, Tensor, Tensor]:
        mean, variance = (x.expand(batch.value.shape) for x in (q["m"].mean, q["m"].variance))
        return mean, variance, mean.new_full(mean.shape, NOISE**2)


def entries_around(mean: float, n: int, seed: int = 0) -> ad.AnnData:
    """A matrix of two columns with `n` entries, drawn with the model's noise around a mean."""
    values = (mean + NOISE * np.random.default_rng(seed).normal(size=n)).astype(np.float32)
    row, col = np.divmod(np.arange(n), 2)
    matrix = sp.csr_matrix((values, (row, col)), (max(-(-n // 2), 2), 2))
    return mark(ad.AnnData(matrix), unstored="missing")


def exact(y: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the posterior of `m`."""
    precision = PRIOR_SD**-2 + len(y) * NOISE**-2
    return float((PRIOR_MEAN * PRIOR_SD**-2 + y.sum() * NOISE**-2) / precision), float(precision**-0.5)
