"""A person's own model: counts of visits with more zeros than a Poisson has, and one covariate of the users.

w ~ Normal(0, 1)          pi ~ Uniform(0, 1)
a_i ~ Normal(w x_i, 0.5)  A_i ~ Normal(0, 0.5)       users; x_i the covariate, standardised
b_j ~ Normal(0, 0.5)      B_j ~ Normal(0, 0.5)       items
y_ij = 0 with probability pi, else Poisson(exp(mu + a_i + b_j + A_i . B_j))
"""

import pyro
import pyro.distributions as dist
from torch import nn


class Visits(nn.Module):
    """The model; without `inflated`, pi is 0."""

    unstored = "missing"
    covariates = {"categories": {}, "continuous": {"log_income": 1}}  # noqa: RUF012

    def __init__(self, rank=1, inflated=True):
        super().__init__()
        self.rank, self.inflated = rank, inflated

    def forward(self, batch):
        """The program."""
        zero, zeros = batch.value.new_zeros(()), batch.value.new_zeros(self.rank)
        mu = pyro.sample("mu", dist.Normal(zero, 2.0))
        w = pyro.sample("w", dist.Normal(zero, 1.0))
        with batch.row_plate("users"):
            a = pyro.sample("a", dist.Normal(w * batch.covariates["log_income"], 0.5))
            user = pyro.sample("A", dist.Normal(zeros, 0.5).to_event(1))
        with batch.col_plate("items"):
            b = pyro.sample("b", dist.Normal(zero, 0.5))
            item = pyro.sample("B", dist.Normal(zeros, 0.5).to_event(1))
        interaction = (batch.at_rows(user) * batch.at_cols(item)).sum(-1)
        rate = (mu + batch.at_rows(a, event_dim=0) + batch.at_cols(b, event_dim=0) + interaction).exp()
        visits = dist.Poisson(rate)
        if self.inflated:
            visits = dist.ZeroInflatedPoisson(rate, gate=pyro.sample("pi", dist.Uniform(zero, 1.0)))
        with batch.entries("visits"):
            pyro.sample("visit", visits, obs=batch.value)
