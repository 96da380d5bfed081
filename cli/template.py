"""What `platewise new-model` writes: a model and a guide that fit as they stand, and their tests."""

MODEL = '''"""A model and a guide of your own, to change: ratings from biases and a few factors."""

import pyro
import pyro.distributions as dist
import torch
from torch import nn


class MyModel(nn.Module):
    """Ratings of item j by user i, with learned noise.

        mu ~ Normal(0, 10)
        user_i ~ Normal(0, 0.5)        1 + rank numbers: a bias, then factors
        item_j ~ Normal(0, 0.5)        likewise
        rating_ij ~ Normal(mu + user_i0 + item_j0 + sum_k user_ik item_jk, sigma)

    | symbol | site     | shape               | meaning            |
    |--------|----------|---------------------|--------------------|
    | mu     | `mu`     | ()                  | grand mean         |
    | user   | `user`   | (n_users, 1 + rank) | bias and factors   |
    | item   | `item`   | (n_items, 1 + rank) | bias and factors   |
    | rating | `rating` | one per entry       | what is observed   |

    Args:
        rank: Number of factors; `--set rank=8` at the command line.
    """

    unstored = "missing"  # an entry that is not stored says nothing; "zero" would make it an observed zero
    # covariates = {"categories": {"group": 3}, "continuous": {"age": 1}}  # levels; numbers a row
    recommended = {"learning_rate": 0.2, "epochs": 60}  # of this model's fits, where you do not say otherwise

    def __init__(self, rank=3):
        super().__init__()
        self.config = {"rank": rank}  # the arguments, kept with a fit so that it can be read again
        self.rank = rank
        self.log_sigma = nn.Parameter(torch.zeros(()))  # a parameter is learned; it has no prior and no posterior

    def forward(self, batch):
        """The program: a batch is some of the rows (users), with all their entries (ratings)."""
        zeros = batch.value.new_zeros(1 + self.rank)  # of the batch's precision, on its device
        mu = pyro.sample("mu", dist.Normal(zeros[0], 10.0))
        # What is known of rows, batch.covariates["age"] of shape (b,), goes into the prior of a latent of theirs, say
        # dist.Normal(weight * age[:, None], 0.5); added to `mean` instead, the interval of weight would be too narrow.
        with batch.row_plate("users"):  # the batch owns the plates, and with them the scale of a mini-batch
            user = pyro.sample("user", dist.Normal(zeros, 0.5).to_event(1))
        with batch.col_plate("items"):
            item = pyro.sample("item", dist.Normal(zeros, 0.5).to_event(1))
        user, item = batch.at_rows(user), batch.at_cols(item)  # of each entry's row, of each entry's column
        mean = mu + user[..., 0] + item[..., 0] + (user[..., 1:] * item[..., 1:]).sum(-1)
        with batch.entries("ratings"):  # outside any plate of rows
            pyro.sample("rating", dist.Normal(mean, self.log_sigma.exp()), obs=batch.value)


class MyGuide(nn.Module):
    """q(mu) prod_i q(user_i) prod_j q(item_j), normals in the model's plates, as `--guide mean-field` makes."""

    def setup(self, model, batch, starts=None):
        """Make the parameters, once the numbers of rows and columns are known: locations and log scales."""
        width = 2 * (1 + model.rank)
        self.mu = nn.Parameter(torch.zeros(2))
        self.users = nn.Embedding(batch.n_rows, width, sparse=True)  # a step touches only the rows of its batch
        self.items = nn.Parameter(torch.empty(batch.n_cols, width))
        for weight in (self.users.weight, self.items):
            nn.init.normal_(weight, std=0.1)  # factors that start at zero would stay there

    def forward(self, batch):
        """Sample from the guide."""
        pyro.sample("mu", dist.Normal(self.mu[0], (self.mu[1] - 2.3).exp()))
        with batch.row_plate("users"):
            pyro.sample("user", normals(self.users(batch.rows)))
        with batch.col_plate("items"):
            pyro.sample("item", normals(self.items))


def normals(numbers):
    """Independent normals from locations and log scales, half of the numbers each; scales start near 0.1."""
    loc, log_scale = numbers.chunk(2, -1)
    return dist.Normal(loc, (log_scale - 2.3).exp()).to_event(1)
'''

TESTS = '''"""The tests of the contract, for this model and guide: `python -m pytest {tests}` runs them."""

from {stem} import MyGuide, MyModel
from platewise.testing.contract import ContractTests


class TestMyModel(ContractTests):
    model, guide = MyModel, MyGuide
'''
