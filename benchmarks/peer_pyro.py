"""The latent factor model in plain Pyro: automatic guide, a plate over ratings, Adam, a fixed time."""

import time
from dataclasses import dataclass

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from peers import Codes
from pyro.infer import SVI, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam
from torch import Tensor

BATCH = 65_536
RATE = 0.01


@dataclass(frozen=True)
class PlainFit:
    """A trained automatic guide, with what it took."""

    guide: AutoNormal
    data: tuple[Tensor, Tensor, Tensor]
    shape: tuple[int, int, int]
    steps: int
    seconds: float
    batch: int = BATCH
    rate: float = RATE

    @property
    def passes(self) -> float:
        """Ratings drawn, as a multiple of the training entries."""
        n_entries = len(self.data[2])
        return self.steps * min(self.batch, n_entries) / n_entries


def model(data: tuple[Tensor, Tensor, Tensor], shape: tuple[int, int, int]) -> None:
    """Biases and factors of users and items, and a rating for each pair observed."""
    user, item, rating = data
    n_users, n_items, rank = shape
    zero = torch.tensor(0.0)
    mu = pyro.sample("mu", dist.Normal(zero, 10.0))
    sigma = pyro.sample("sigma", dist.LogNormal(zero, 1.0))
    with pyro.plate("users", n_users):
        a = pyro.sample("a", dist.Normal(zero, 0.5))
        A = pyro.sample("A", dist.Normal(zero, 0.3).expand([rank]).to_event(1))
    with pyro.plate("items", n_items):
        b = pyro.sample("b", dist.Normal(zero, 0.5))
        B = pyro.sample("B", dist.Normal(zero, 0.3).expand([rank]).to_event(1))
    with pyro.plate("ratings", len(rating), subsample_size=min(BATCH, len(rating))) as chosen:
        i, j = user[chosen], item[chosen]
        loc = mu + a[i] + b[j] + (A[i] * B[j]).sum(-1)
        pyro.sample("rating", dist.Normal(loc, sigma), obs=rating[chosen])


def fit_within(allowed: float, codes: Codes, rating: np.ndarray, rank: int, seed: int) -> PlainFit:
    """Train for `allowed` seconds of wall-clock time, the last step included."""
    pyro.clear_param_store()
    pyro.set_rng_seed(seed)
    data = (torch.as_tensor(codes.train_user), torch.as_tensor(codes.train_item), torch.as_tensor(rating))
    shape = (codes.n_users, codes.n_items, rank)
    guide = AutoNormal(model)
    svi = SVI(model, guide, Adam({"lr": RATE}), Trace_ELBO())
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < allowed:
        svi.step(data, shape)
        steps += 1
    return PlainFit(guide, data, shape, steps, time.perf_counter() - began)


@torch.no_grad()
def predict(fit: PlainFit, codes: Codes, draws: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (n_test,) of the predictive, from draws of the guide."""
    user, item = torch.as_tensor(codes.test_user), torch.as_tensor(codes.test_item)
    total, square, noise = (torch.zeros(len(user), dtype=torch.float64) for _ in range(3))
    for _ in range(draws):
        site = fit.guide(fit.data, fit.shape)
        loc = site["mu"] + site["a"][user] + site["b"][item] + (site["A"][user] * site["B"][item]).sum(-1)
        total += loc
        square += loc.double() ** 2
        noise += site["sigma"].double() ** 2
    mean = total / draws
    variance = square / draws - mean**2 + noise / draws
    return mean.numpy(), variance.sqrt().numpy()
