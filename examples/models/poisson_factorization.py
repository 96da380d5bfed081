"""Poisson matrix factorisation: counts of who took what how often, in which a zero says something too.

Story, for users i, items j and *all* entries (i, j), as one that is not stored is an observed zero:

    size     ~ Gamma(1, 1)
    xi_i     ~ Gamma(3, 3 size)     theta_ik ~ Gamma(a, xi_i)      active users have a small xi_i
    eta_j    ~ Gamma(3, 3)          beta_jk  ~ Gamma(a, eta_j)     popular items have a small eta_j
    x_ij     ~ Poisson(theta_i . beta_j)

| symbol | site    | shape             | meaning                                          |
|--------|---------|-------------------|--------------------------------------------------|
| size   | `size`  | ()                | scale of all counts: the xi are about 1 / size   |
| xi     | `xi`    | (n_users,)        | rate of a user's tastes                          |
| theta  | `theta` | (n_users, rank)   | how much a user is drawn to each component       |
| eta    | `eta`   | (n_items,)        | rate of an item's attributes                     |
| beta   | `beta`  | (n_items, rank)   | how much an item has of each component           |
| x_i    | `count` | (n_users,)        | a user's counts, one event of all items          |

As sum_j theta_i . beta_j = theta_i . sum_j beta_j, a batch costs O(entries + rows + columns).

References:
    Cemgil (2009), Bayesian inference for nonnegative matrix factorisation models.
    Gopalan, Hofman and Blei (2015), Scalable recommendation with hierarchical Poisson factorization.
"""

import pyro
import pyro.distributions as dist
import torch
from platewise.data import RowBatch
from platewise.models import PoissonRows, RowLikelihood
from torch import Tensor, nn
from torch.distributions import constraints


class ProductRates(PoissonRows):
    """Rows of counts whose rates (..., b, n_cols) are theta (..., b, rank) times the transpose of beta."""

    arg_constraints = {name: constraints.independent(constraints.positive, 1) for name in ("theta", "beta")}  # noqa: RUF012

    def __init__(self, batch: RowBatch, theta: Tensor, beta: Tensor, validate_args: bool | None = None) -> None:
        self.batch, self.theta, self.beta, self._names = batch, theta, beta, ()
        super(RowLikelihood, self).__init__(theta.shape[:-1], beta.shape[-2:-1], validate_args=validate_args)

    @property
    def log_rate(self) -> Tensor:
        """Logarithms of all rates, for draws and predictions; a fit does without."""
        return (self.theta @ self.beta.mT).log()

    def log_prob(self, value: Tensor) -> Tensor:
        """Of the batch's stored values (e,), all others being zero; or of dense rows."""
        if value.shape != self.batch.value.shape:
            return super().log_prob(value)
        rate = (self.batch.at_rows(self.theta) * self.batch.at_cols(self.beta)).sum(-1)
        terms = value * rate.log() - torch.lgamma(value + 1)
        of_rows = terms.new_zeros(self.batch_shape).index_add(-1, self.batch.row, terms)
        return of_rows - (self.theta * self.beta.sum(-2, keepdim=True)).sum(-1)


class PoissonFactorization(nn.Module):
    """The model; `rank` components, whose weights have the shape parameter `shape` (a in the story)."""

    unstored = "zero"
    recommended = {"epochs": 150, "learning_rate": 0.2}  # noqa: RUF012

    def __init__(self, rank: int = 8, shape: float = 0.3) -> None:
        super().__init__()
        self.rank, self.shape = rank, shape

    def forward(self, batch: RowBatch) -> None:
        """Run the generative program on a batch."""
        one, shape = batch.value.new_ones(()), batch.value.new_full((self.rank,), self.shape)
        size = pyro.sample("size", dist.Gamma(one, one))
        with batch.col_plate("items"):
            eta = pyro.sample("eta", dist.Gamma(3 * one, 3 * one))
            beta = pyro.sample("beta", dist.Gamma(shape, eta[..., None]).to_event(1))
        with batch.row_plate("users"):
            xi = pyro.sample("xi", dist.Gamma(3 * one, 3 * size))
            theta = pyro.sample("theta", dist.Gamma(shape, xi[..., None]).to_event(1))
            pyro.sample("count", ProductRates(batch, theta, beta), obs=batch.value)
