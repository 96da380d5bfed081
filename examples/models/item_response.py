"""Item response theory: abilities of persons and properties of questions, from answers that are right or wrong.

Story, for persons i, questions j and the answers (i, j) that were given (two parameters, probit):

    mu       ~ Normal(0, 1)         tau ~ HalfNormal(1)
    theta_i  ~ Normal(0, 1)
    b_j      ~ Normal(mu, tau^2)
    a_j      ~ LogNormal(0, 0.5^2)
    y_ij     ~ Bernoulli(Phi(a_j (theta_i - b_j)))

| symbol | site             | shape          | meaning                                                 |
|--------|------------------|----------------|---------------------------------------------------------|
| mu     | `mu`             | ()             | mean difficulty                                         |
| tau    | `tau`            | ()             | spread of difficulties                                  |
| theta  | `ability`        | (n_persons,)   | ability of a person; the unit of the scale              |
| b      | `difficulty`     | (n_questions,) | ability at which half of the answers are right          |
| a      | `discrimination` | (n_questions,) | how steeply right answers become more with ability      |
| y      | `answer`         | (n_entries,)   | 1 for right, a stored 0 for wrong; not stored: not asked |

Discriminations are positive, which says what is up, and abilities have mean 0 and variance 1 a priori, which says
where zero is and how long a unit.

References:
    Bock and Aitkin (1981), Marginal maximum likelihood estimation of item parameters.
    Albert (1992), Bayesian estimation of normal ogive item response curves using Gibbs sampling.
"""

import pyro
import pyro.distributions as dist
import torch
from platewise.data import RowBatch
from torch import nn


class ItemResponse(nn.Module):
    """The model; a row is a person, a column a question."""

    def forward(self, batch: RowBatch) -> None:
        """Run the generative program on a batch."""
        zero = batch.value.new_zeros(())
        mu = pyro.sample("mu", dist.Normal(zero, 1.0))
        tau = pyro.sample("tau", dist.HalfNormal(zero + 1))
        with batch.row_plate("persons"):
            ability = pyro.sample("ability", dist.Normal(zero, 1.0))
        with batch.col_plate("questions"):
            difficulty = pyro.sample("difficulty", dist.Normal(mu, tau))
            discrimination = pyro.sample("discrimination", dist.LogNormal(zero, 0.5))
        above = batch.at_rows(ability, event_dim=0) - batch.at_cols(difficulty, event_dim=0)
        x = batch.at_cols(discrimination, event_dim=0) * above
        logits = torch.special.log_ndtr(x) - torch.special.log_ndtr(-x)  # of Phi(x), which itself rounds to 0 and 1
        with batch.entries("answers"):
            pyro.sample("answer", dist.Bernoulli(logits=logits), obs=batch.value)
