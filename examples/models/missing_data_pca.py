"""Probabilistic principal component analysis of a matrix with missing entries, which learns how many components.

Story, for rows i, columns j and the entries (i, j) that are stored:

    mu      ~ Normal(0, 5^2)
    sigma   ~ HalfNormal(1)         v_k ~ HalfNormal(1)
    z_i     ~ Normal_r(0, I)
    W_j     ~ Normal_r(0, diag v^2)                     v_k near zero takes component k away
    m_j     ~ Normal(mu, 1)
    Y_ij    ~ Normal(m_j + W_j . z_i, sigma^2)

| symbol | site    | shape        | meaning                                               |
|--------|---------|--------------|-------------------------------------------------------|
| mu     | `mu`    | ()           | mean of the columns' means                            |
| sigma  | `sigma` | ()           | noise of an entry                                     |
| v      | `v`     | (r,)         | strength of each component (relevance determination)  |
| z      | `z`     | (n_rows, r)  | scores of a row                                       |
| W      | `W`     | (n_cols, r)  | loadings of a column                                  |
| m      | `m`     | (n_cols,)    | mean of a column                                      |
| Y      | `value` | (n_entries,) | entries, in units of which one is a large effect      |

An entry that is not stored is missing at random and has no term at all: nothing is imputed. Columns in units of their
own are divided by their standard deviations first.

References:
    Bishop (1999), Variational principal components.
    Tipping and Bishop (1999), Probabilistic principal component analysis.
    Ilin and Raiko (2010), Practical approaches to principal component analysis in the presence of missing values.
"""

import pyro
import pyro.distributions as dist
from platewise.data import RowBatch
from torch import nn


class MissingDataPCA(nn.Module):
    """The model, of at most `rank` components."""

    def __init__(self, rank: int = 6) -> None:
        super().__init__()
        self.rank = rank

    def forward(self, batch: RowBatch) -> None:
        """Run the generative program on a batch."""
        zero, zeros = batch.value.new_zeros(()), batch.value.new_zeros(self.rank)
        mu = pyro.sample("mu", dist.Normal(zero, 5.0))
        sigma = pyro.sample("sigma", dist.HalfNormal(zero + 1))
        v = pyro.sample("v", dist.HalfNormal(zeros + 1).to_event(1))
        with batch.row_plate("rows"):
            z = pyro.sample("z", dist.Normal(zeros, 1.0).to_event(1))
        with batch.col_plate("columns"):
            loadings = pyro.sample("W", dist.Normal(zeros, v).to_event(1))
            m = pyro.sample("m", dist.Normal(mu, 1.0))
        mean = batch.at_cols(m, event_dim=0) + (batch.at_rows(z) * batch.at_cols(loadings)).sum(-1)
        with batch.entries("entries"):
            pyro.sample("value", dist.Normal(mean, sigma), obs=batch.value)
