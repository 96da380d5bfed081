"""Small fits that the tests of read-outs share."""

from dataclasses import replace

import anndata as ad
import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import scipy.sparse as sp
import torch
from platewise.data.container import make_ratings
from platewise.data.simulate import simulate_ratings
from platewise.data.split import split_entries
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import svi
from platewise.models import LatentFactor
from torch import nn

GUIDES = {"mean-field": MeanFieldNormal, "row-block": RowBlockNormal}


class Regression(nn.Module):
    """y_ij ~ Normal(mu + a_i + x_i beta, 0.5^2), a_i ~ Normal(0, tau^2): no latents of columns, no closed form."""

    unstored = "missing"

    def forward(self, batch):
        zero = batch.value.new_zeros(())
        mu = pyro.sample("mu", dist.Normal(zero, 5.0))
        beta = pyro.sample("beta", dist.Normal(zero, 1.0).expand([2]).to_event(1))
        tau = pyro.sample("tau", dist.LogNormal(zero - 1, 0.5))
        with batch.row_plate("people"):
            a = pyro.sample("a", dist.Normal(zero, tau))
            level = pyro.deterministic("level", mu + a + batch.covariates["x"] @ beta)
        with batch.entries("answers"):
            pyro.sample("answer", dist.Normal(batch.at_rows(level, event_dim=0), 0.5), obs=batch.value)


class Means(nn.Module):
    """An amortised guide of one site `a`: it reads a row's entries."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.ones(()))

    def forward(self, batch):
        n = batch.crow.diff().clamp_min(1)
        mean = batch.value.new_zeros(len(batch.rows)).index_add(0, batch.row, batch.value) / n
        with batch.row_plate("people"):
            pyro.sample("a", dist.Normal(self.slope * mean, 0.1))


class Levels(nn.Module):
    """y_ij ~ Normal(a_i + offset_j, 1), the offsets a fixed table with one number a column."""

    def __init__(self, n_cols):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(n_cols))

    def forward(self, batch):
        with batch.row_plate("people"):
            a = pyro.sample("a", dist.Normal(batch.value.new_zeros(()), 3.0))
        with batch.entries("answers"):
            pyro.sample(
                "answer", dist.Normal(batch.at_rows(a, event_dim=0) + self.offset[batch.col], 1.0), obs=batch.value
            )


@pytest.fixture(scope="session")
def split():
    """Training and test ratings of 200 users and 100 items, integer ids, with titles."""
    model = LatentFactor(rank=2, sigma=0.5, user_scale=0.5, item_scale=0.5)
    ratings, _ = simulate_ratings(model, 200, 100, 4000, given={"mu": 3.5}, seed=1)
    ratings.var["title"] = [f"Film {name}" for name in ratings.var_names]
    return split_entries(ratings, test=0.25, seed=0)


@pytest.fixture(scope="session")
def fits(split):
    """A fit of the latent factor model with each guide, in float64."""

    def fit(guide):
        return svi.fit(LatentFactor(rank=3), guide, split[0], epochs=12, progress=False, dtype=torch.float64)

    return {name: fit(guide()) for name, guide in GUIDES.items()}


@pytest.fixture(params=list(GUIDES))
def fitted(request, fits):
    """The latent factor model with each guide in turn."""
    return fits[request.param]


@pytest.fixture
def block_fit(fits):
    """The latent factor model with the row-block guide."""
    return fits["row-block"]


@pytest.fixture(scope="session")
def people():
    """Answers of 60 people, named by text, and two covariates of each."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    names = [f"p{i}" for i in range(60)]
    cells = sp.random(60, 8, density=0.6, format="csr", random_state=0)
    cells.data = rng.normal(1 + (x @ [0.5, -0.5])[np.repeat(np.arange(60), np.diff(cells.indptr))], 0.5)
    return make_ratings(cells, names, [f"q{i}" for i in range(8)]), x


@pytest.fixture(scope="session")
def regression(people):
    """A fit of a model without closed forms, that takes covariates."""
    answers, x = people
    options = {"epochs": 150, "batch_rows": 60, "progress": False, "dtype": torch.float64}
    return svi.fit(Regression(), RowBlockNormal(), answers, covariates={"x": x}, **options)


@pytest.fixture(scope="session")
def amortised(people):
    """A fit whose guide reads the entries of a row."""
    return svi.fit(Levels(8), Means(), people[0], epochs=2, progress=False, dtype=torch.float64)


@pytest.fixture
def with_noise(block_fit):
    """The row-block fit with other numbers of training entries: for deciles."""

    def make(n_entries):
        return replace(block_fit, obs=block_fit.obs.assign(n_entries=n_entries))

    return make


@pytest.fixture
def renamed():
    """A function that renames rows of a matrix, its meaning kept."""

    def rename(adata: ad.AnnData, rows: dict[str, str], cols: dict[str, str]) -> ad.AnnData:
        copy = adata.copy()
        copy.obs_names = pd.Index([rows.get(name, name) for name in adata.obs_names])
        copy.var_names = pd.Index([cols.get(name, name) for name in adata.var_names])
        return copy

    return rename
