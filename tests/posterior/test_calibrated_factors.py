"""Simulation-based calibration of the latent factor model, 30 x 20 and of rank 2: an exact sampler, and two guides.

The sampler draws mu, all rows and all columns in turn, each from its conditional (Gibbs), which the test writes out. It
stands in for the No-U-Turn Sampler, which `benchmarks/sbc.py` puts beside it and takes some seconds for each data set.
"""

import numpy as np
import pytest
import torch
from platewise.data import make_ratings
from platewise.data.simulate import simulate_ratings
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.models import LatentFactor
from platewise.posterior.simulation_calibration import simulation_calibration

SD, NOISE, MU = 0.7, 0.7, 2.0
SCALES = {"sigma": NOISE, "user_scale": SD, "item_scale": SD, "mu_scale": MU}
N, M, D = 30, 20, 3
CELLS = [(0, 0), (7, 3), (15, 12), (29, 19)]
WARMUP, THIN = 100, 3

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def pattern():
    return simulate_ratings(LatentFactor(2, **SCALES), N, M, 180, seed=0)[0]


DATA = pattern()
ROW, COL = (torch.from_numpy(x).long() for x in DATA.X.nonzero())


def entries(mu, user, item, row, col):
    u, v = user[..., row, :], item[..., col, :]
    return mu[..., None] + u[..., -1] + v[..., -1] + (u[..., :-1] * v[..., :-1]).sum(-1)


def values(y, mu, user, item) -> dict[str, torch.Tensor]:
    """Expectations of cells, and the log-likelihood up to a constant, of one draw or of many."""
    i, j = (torch.tensor(x) for x in zip(*CELLS, strict=True))
    cells = entries(mu, user, item, i, j)
    error = (y - entries(mu, user, item, ROW, COL)).square().sum(-1)
    return {f"cell {k}": cells[..., k] for k in range(len(CELLS))} | {"log-likelihood": -error}


def simulate(seed: int):
    generator = torch.Generator().manual_seed(seed)
    mu = MU * torch.randn((), generator=generator)
    user, item = (SD * torch.randn(k, D, generator=generator) for k in (N, M))
    y = entries(mu, user, item, ROW, COL) + NOISE * torch.randn(len(ROW), generator=generator)
    y = y.float().double()  # as the matrix holds them
    return y, {name: float(x) for name, x in values(y, mu, user, item).items()}


def gibbs(y: torch.Tensor, draws: int, seed: int) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    mu, user, item = torch.zeros(()), SD * torch.randn(N, D), SD * torch.randn(M, D)
    kept = []
    for k in range(WARMUP + draws * THIN):
        precision = len(y) / NOISE**2 + MU**-2
        rest = (y - entries(torch.zeros(()), user, item, ROW, COL)).sum() / NOISE**2
        mu = rest / precision + torch.randn(()) / precision**0.5
        user = block(y - mu - item[COL, -1], item[COL], ROW, N)
        item = block(y - mu - user[ROW, -1], user[ROW], COL, M)
        if k >= WARMUP and (k - WARMUP) % THIN == 0:
            kept.append((mu, user, item))
    drawn = [torch.stack(x) for x in zip(*kept, strict=True)]
    return {name: x.numpy() for name, x in values(y, *drawn).items()}


def block(target: torch.Tensor, other: torch.Tensor, index: torch.Tensor, n: int) -> torch.Tensor:
    """A draw of all rows, or all columns, given the rest."""
    design = torch.cat([other[:, :-1], torch.ones(len(target), 1)], 1) / NOISE
    gram = torch.zeros(n, D, D).index_add(0, index, design[:, :, None] * design[:, None]) + torch.eye(D) / SD**2
    pull = torch.zeros(n, D).index_add(0, index, design * target[:, None] / NOISE)
    root = torch.linalg.cholesky(gram)
    mean = torch.cholesky_solve(pull[..., None], root)
    noise = torch.linalg.solve_triangular(root.mT, torch.randn(n, D, 1), upper=True)
    return (mean + noise)[..., 0]


def fitted_draws(guide: type):
    """What refits by coordinate ascent, and what draws from its blocks."""

    def refit(y: torch.Tensor):
        x = DATA.X.copy()
        x.data = y.float().numpy()
        data = make_ratings(x, np.arange(N), np.arange(M))
        model = LatentFactor(2, **SCALES)
        options = {"tolerance": 1e-7, "sweeps": 500, "progress": False, "device": "cpu", "dtype": torch.float64}
        return y, coordinate_ascent.fit(model, guide(), data, **options).guide

    def quantities(fit, draws: int, seed: int):
        torch.manual_seed(seed)
        y, q = fit
        mu, user, item = (draw_blocks(*q.blocks(site), draws) for site in ("mu", "user", "item"))
        return {name: x.numpy() for name, x in values(y, mu[:, 0, 0], user, item).items()}

    return refit, quantities


def draw_blocks(mean: torch.Tensor, cov: torch.Tensor, draws: int) -> torch.Tensor:
    noise = torch.randn(draws, *mean.shape)
    if mean.shape == cov.shape:
        return mean + cov.sqrt() * noise
    return mean + (torch.linalg.cholesky(cov) @ noise[..., None])[..., 0]


def test_an_exact_sampler_is_calibrated_and_factorised_guides_less_than_blocks() -> None:
    """Errors declared: each p-value of the sampler is below 0.001 once in a thousand."""
    by = {"replicates": 60, "draws": 100, "seed": 3}
    exact = simulation_calibration(simulate, lambda y: y, gibbs, **by)
    block, factorised = (
        simulation_calibration(simulate, *fitted_draws(g), **by) for g in (RowBlockNormal, MeanFieldNormal)
    )
    assert (exact.table()[["chi_squared_p", "ecdf_p", "asymmetry_p"]] > 0.001).all(axis=None)
    of = "log-likelihood"
    shift = {name: found.table().loc[of, "shift"] for name, found in (("b", block), ("f", factorised))}
    assert factorised.table().loc[of, "ecdf_p"] < 0.01
    assert shift["f"] > shift["b"] > 0
    apart = (factorised.ranks[of] - block.ranks[of]) / 101  # of the same data: what they differ by is less noisy
    assert apart.mean() > 2 * apart.std() / len(apart) ** 0.5
