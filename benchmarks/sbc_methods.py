"""What simulation-based calibration compares: data drawn from the model, and four ways to draw from the posterior."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import torch
from gibbs import Cells, ratings_of
from gibbs_chains import gibbs
from jaxtyping import Float
from nuts import sampled
from platewise.data import RowLoader, simulate_ratings, source_of
from platewise.data.compiled import Array
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.inference.fitted import Fitted
from platewise.models import LatentFactor
from torch import Tensor, nn

RANK, USERS, ITEMS, RATINGS = 2, 30, 20, 180
SCALES: dict[str, Any] = {"sigma": 0.7, "user_scale": 0.7, "item_scale": 0.7, "mu_scale": 2.0}
CELLS = [(0, 0), (7, 3), (15, 12), (22, 7), (29, 19)]
MAXIMUM: dict[str, Any] = {"sweeps": 500, "tolerance": 1e-7}  # to the bound's own maximum
WARMUP, THIN = 100, 4  # of the chains
SITES = ("mu", "user", "item")


class Drawn(NamedTuple):
    """Draws in order: the grand mean (k,), expectations of all cells (k, users, items), and what they cost."""

    mu: Array
    expected: Array
    divergent: int = 0
    gradients: int = 0


Draw = Callable[[ad.AnnData, int, int], Drawn]


def model() -> LatentFactor:
    """Two factors and given scales: nothing but the sites is unknown."""
    return LatentFactor(RANK, **SCALES)


def simulate(seed: int) -> tuple[ad.AnnData, dict[str, float]]:
    """Ratings, and the true value of each quantity."""
    data, truth = simulate_ratings(model(), USERS, ITEMS, RATINGS, seed=seed)
    drawn = of_sites({name: torch.from_numpy(np.asarray(truth[name])) for name in SITES})
    return data, {name: float(x[0]) for name, x in values(drawn, data).items()}


def of_sites(sites: dict[str, Tensor], *cost: int) -> Drawn:
    """Expectations of all cells from draws of the sites, whatever dimensions of size one are among theirs."""
    mu, user, item = (sites[name] for name in SITES)
    mu, user, item = mu.reshape(-1), user.reshape(-1, USERS, RANK + 1), item.reshape(-1, ITEMS, RANK + 1)
    biases = mu[:, None, None] + user[..., -1:] + item[:, None, :, -1]
    return Drawn(mu.numpy(), (biases + user[..., :-1] @ item[..., :-1].mT).numpy(), *cost)


def values(drawn: Drawn, data: ad.AnnData) -> dict[str, Float[np.ndarray, " k"]]:
    """What is ranked, of each draw: f_ij of some cells, the log-likelihood and the grand mean."""
    at = data.X.tocoo()
    error = (at.data - drawn.expected[:, at.row, at.col]) / SCALES["sigma"]
    density = -0.5 * (error**2).sum(1) - at.nnz * math.log(SCALES["sigma"] * math.sqrt(2 * math.pi))
    cells = {f"f({i}, {j})": drawn.expected[:, i, j] for i, j in CELLS}
    return {**cells, "log-likelihood": density, "mu": drawn.mu}


def by_nuts(data: ad.AnnData, draws: int, seed: int) -> Drawn:
    """One chain on the Pyro program, from a draw of the prior; more draws than are ranked."""
    found = sampled(model(), data, draws * THIN, WARMUP, seed % 2**31)  # Pyro's seeds end there
    return of_sites(found.sites, found.divergent, found.gradients)


def by_gibbs(data: ad.AnnData, draws: int, seed: int) -> Drawn:
    """One chain of exact conditionals; more draws than are ranked."""
    row, col = (x.ravel() for x in np.indices((USERS, ITEMS)))
    every = Cells(row, col, np.zeros(len(row)))
    length: dict[str, Any] = {"chains": 1, "sweeps": draws * THIN, "warmup": WARMUP, "thin": 1}
    found = gibbs(ratings_of(data.X), model().scales(), every, watched=len(row), seed=seed, **length)
    return Drawn(found.mu[0], found.draws[0].reshape(-1, USERS, ITEMS))


def by_guide(guide: type[nn.Module]) -> Draw:
    """Independent draws of a guide at the maximum of its bound."""

    def draw(data: ad.AnnData, draws: int, seed: int) -> Drawn:
        q: Any = fitted(guide, data).guide
        (batch,) = RowLoader(source_of(data).rows, USERS, dtype=torch.float64).in_order()
        torch.manual_seed(seed)
        with torch.no_grad():
            return of_sites({name: site.sample((draws,)) for name, site in q.posterior(batch).items()})

    return draw


def fitted(guide: type[nn.Module], data: ad.AnnData) -> Fitted:
    """A guide at the maximum of its bound."""
    return coordinate_ascent.fit(model(), guide(), data, dtype=torch.float64, progress=False, **MAXIMUM)


class Method(StrEnum):
    """What draws."""

    nuts = "nuts"
    gibbs = "gibbs"
    row_block = "row-block"
    mean_field = "mean-field"


CHAINS = (Method.nuts, Method.gibbs)
DRAW: dict[Method, Draw] = {
    Method.nuts: by_nuts,
    Method.gibbs: by_gibbs,
    Method.row_block: by_guide(RowBlockNormal),
    Method.mean_field: by_guide(MeanFieldNormal),
}
