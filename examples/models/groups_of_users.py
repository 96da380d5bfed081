"""A hierarchical latent factor model: users around the mean of their group, which a newcomer starts from.

Story, for users i of group g(i), items j and the ratings (i, j) that are stored:

    mu     ~ Normal(0, 5^2)
    tau_k  ~ HalfNormal(1)    kappa_k ~ HalfNormal(1)    sigma ~ HalfNormal(1)
    G_g    ~ Normal(0, diag tau^2)                   mean of a group: r factors, and a bias
    U_i    ~ Normal(G_g(i), diag kappa^2)            a user: (A_i, a_i)
    V_j    ~ Normal(0, I)                            an item: (B_j, b_j)
    Y_ij   ~ Normal(mu + a_i + b_j + A_i . B_j, sigma^2)

| symbol | site     | shape             | meaning                                         |
|--------|----------|-------------------|-------------------------------------------------|
| mu     | `mu`     | ()                | grand mean                                      |
| tau    | `tau`    | (r + 1,)          | spread of groups, per factor, the bias last     |
| kappa  | `kappa`  | (r + 1,)          | spread of users around their group              |
| sigma  | `sigma`  | ()                | noise of a rating                               |
| G      | `group`  | (n_groups, r + 1) | means of groups                                 |
| U      | `user`   | (n_users, r + 1)  | embedding and satisfaction of a user            |
| V      | `item`   | (n_items, r + 1)  | embedding and quality of an item                |
| Y      | `rating` | (n_entries,)      | ratings                                         |

How far a group pulls its users is learned: with kappa small beside tau, users of a group are alike. Groups are codes
0, 1, ... in the covariate `group`: `fit(..., covariates={"group": "occupation"})` reads them off a column of obs.

References:
    Gelman and Hill (2006), Data analysis using regression and multilevel/hierarchical models, chapters 11 to 13.
    Salakhutdinov and Mnih (2008), Bayesian probabilistic matrix factorization using MCMC.
"""

from collections.abc import Mapping

import pyro
import pyro.distributions as dist
from platewise.data import RowBatch
from torch import Tensor, nn


class GroupsOfUsers(nn.Module):
    """The model; `rank` factors, and at most as many groups as `categories` says (`{"group": 32}` by default)."""

    def __init__(self, rank: int = 4, categories: Mapping[str, int] | None = None) -> None:
        super().__init__()
        self.rank, self.n_groups = rank, dict(categories or {"group": 32})["group"]
        self.covariates = {"categories": {"group": self.n_groups}, "continuous": {}}  # checked before a fit

    def forward(self, batch: RowBatch) -> None:
        """Run the generative program on a batch."""
        zero, zeros = batch.value.new_zeros(()), batch.value.new_zeros(self.rank + 1)
        mu = pyro.sample("mu", dist.Normal(zero, 5.0))
        sigma = pyro.sample("sigma", dist.HalfNormal(zero + 1))
        mean, kappa = self.groups(batch, zeros)
        with batch.row_plate("users"):
            user = pyro.sample("user", dist.Normal(mean, kappa).to_event(1))
        with batch.col_plate("items"):
            item = pyro.sample("item", dist.Normal(zeros, 1.0).to_event(1))
        u, v = batch.at_rows(user), batch.at_cols(item)
        rating = mu + u[..., -1] + v[..., -1] + (u[..., :-1] * v[..., :-1]).sum(-1)
        with batch.entries("ratings"):
            pyro.sample("rating", dist.Normal(rating, sigma), obs=batch.value)

    def groups(self, batch: RowBatch, zeros: Tensor) -> tuple[Tensor, Tensor]:
        """Mean of each of the batch's users' group (b, r + 1), and spread around it (r + 1,)."""
        tau = pyro.sample("tau", dist.HalfNormal(zeros + 1).to_event(1))
        kappa = pyro.sample("kappa", dist.HalfNormal(zeros + 1).to_event(1))
        with pyro.plate("groups", self.n_groups, dim=-1):
            group = pyro.sample("group", dist.Normal(zeros, tau).to_event(1))
        return group.index_select(-2, batch.covariates["group"]), kappa
