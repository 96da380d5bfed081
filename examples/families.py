"""One posterior, three ways: a factorised normal, normals in blocks, and Markov chain Monte Carlo.

    python examples/families.py -o families

A small latent factor model (one factor, given scales) draws ratings of its own, of which some are held out. The rest
are fitted twice by exact coordinate ascent, with `MeanFieldNormal` and with `RowBlockNormal`, and sampled by NUTS,
which runs the same Pyro program with all the data as one batch. All three are ArviZ objects (of ArviZ 0.x).

What to see, of the user (of few ratings, as a rule) whose factor and bias the row-block guide correlates most:

- `expectations.png`: expected ratings mu + a_i + b_j + A_i B_j. The means agree. Both guides are narrower than NUTS on
  average, the factorised one most: for it all numbers of a user are independent, and for both users are independent
  of items and of the grand mean.
- `pairs.png`, above: the factor A_i and the bias a_i. They are not identified: (-A, -B) predicts what (A, B) does, and
  A_i + c with b_j - c B_j what A_i with b_j does. A guide describes one solution; a chain of NUTS wanders among them,
  at one sign or the other. The row-block guide has a correlation here, which the factorised one cannot have.
- `pairs.png`, below: two expected ratings. These are identified, and the posteriors are alike but for their width.
- On the terminal: the interval of one held-out rating under each, and how far the chains can be trusted.

What not to conclude: that a guide is wrong because its raw factors differ from those of NUTS, or right because its
intervals of ratings are as wide (noise, the same for all three, is much of these); that NUTS is the truth where R-hat
is above 1.01; that every interval is narrower, or by this much on other data: the gap closes as users and items get
more ratings. Here the scales are known; where they are learned, a guide's intervals leave that uncertainty out.

References:
    Hoffman and Gelman (2014), The No-U-Turn Sampler.
    Bishop (2006), Pattern Recognition and Machine Learning, section 10.1.2: why factorised posteriors are too narrow.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import anndata as ad
import arviz as az
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pyro
import torch
import typer
import xarray as xr
from platewise.data import RowLoader, simulate_ratings, source_of, split_entries
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.models import LatentFactor
from platewise.posterior import to_arviz
from pyro.infer import MCMC, NUTS
from pyro.infer.autoguide import init_to_sample

matplotlib.use("Agg")

SIGMA, SCALE = 0.5, 1.0  # standard deviations: of the noise; of factors and biases
COLORS = {"factorised": "#D55E00", "row-block": "#0072B2", "NUTS": "#000000"}  # told apart by colour-blind readers
N_SHOWN = 8
DRAWS = ("chain", "draw")


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write into.")] = Path("families"),
    users: Annotated[int, typer.Option(min=6, help="Number of users.")] = 30,
    items: Annotated[int, typer.Option(min=6, help="Number of items; half of all cells are rated.")] = 20,
    draws: Annotated[int, typer.Option(min=10, help="Draws of each chain.")] = 300,
    warmup: Annotated[int, typer.Option(min=1, help="Steps of each chain before its first draw.")] = 200,
    chains: Annotated[int, typer.Option(min=2, help="Chains of NUTS, one after the other.")] = 2,
    seed: Annotated[int, typer.Option(min=0, help="Seed of data, fits and draws.")] = 0,
) -> None:
    """Compare the posteriors of two guides with that of NUTS, on small simulated data."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)  # tensors this small are slower on several
    train, heldout, truth = simulated(users, items, seed)
    posteriors = {
        "factorised": fitted(MeanFieldNormal(), train, chains * draws, seed),
        "row-block": fitted(RowBlockNormal(), train, chains * draws, seed),
        "NUTS": sampled(train, draws, warmup, chains, seed),
    }
    for idata in posteriors.values():
        idata.posterior["expectation"] = expectation(idata.posterior)
    user = most_correlated(posteriors["row-block"].posterior, np.diff(heldout.X.indptr) > 0)
    shown = np.argsort(heldout.X[user].toarray()[0] == 0, kind="stable")[:N_SHOWN]  # held-out ratings first
    output.mkdir(parents=True, exist_ok=True)
    plot_expectations(posteriors, truth, user, shown, output / "expectations.png")
    plot_pairs(posteriors, user, shown[:2], output / "pairs.png")
    report(posteriors, heldout, user, int(shown[0]), seed)


def model() -> LatentFactor:
    """One factor and given scales: nothing but the sites is unknown."""
    return LatentFactor(1, sigma=SIGMA, user_scale=SCALE, item_scale=SCALE)


def simulated(users: int, items: int, seed: int) -> tuple[ad.AnnData, ad.AnnData, np.ndarray]:
    """Ratings of half of the cells, for training and held out, and the true expectation of every cell."""
    ratings, truth = simulate_ratings(model(), users, items, users * items // 2, given={"mu": 3.5}, seed=seed)
    train, heldout = split_entries(ratings, test=0.2, seed=seed, by="user")
    return train, heldout, truth["mu"] + truth["a"][:, None] + truth["b"] + truth["A"] @ truth["B"].T


def fitted(guide: torch.nn.Module, train: ad.AnnData, n_draws: int, seed: int) -> az.InferenceData:
    """Draws of a guide at the maximum of its bound, with the factors as they are."""
    settings: dict[str, Any] = {"sweeps": 2000, "tolerance": 1e-8, "dtype": torch.float64, "progress": False}
    fit = coordinate_ascent.fit(model(), guide, train, seed=seed, **settings)
    return to_arviz(fit, train.obs_names, train.var_names, n_draws, canonical=False, seed=seed)


def sampled(train: ad.AnnData, draws: int, warmup: int, chains: int, seed: int) -> az.InferenceData:
    """Draws of NUTS, whose chains begin at draws from the prior."""
    batch = next(RowLoader(source_of(train).rows, train.n_obs, dtype=torch.float64).in_order())
    dims = {"user": ["user_id", "user_dim_0"], "item": ["item_id", "item_dim_0"]}  # as `to_arviz` has them
    coords = {"user_id": train.obs_names.astype(int), "item_id": train.var_names.astype(int)}
    runs = []
    for chain in range(chains):
        pyro.set_rng_seed(1000 * seed + chain)
        kernel = NUTS(model(), init_strategy=init_to_sample, max_tree_depth=7)  # deeper trees only cost, at the start
        mcmc = MCMC(kernel, num_samples=draws, warmup_steps=warmup)
        mcmc.run(batch)
        runs.append(az.from_pyro(mcmc, log_likelihood=False, coords=coords, dims=dims))
    return az.concat(runs, dim="chain")


def expectation(posterior: xr.Dataset) -> xr.DataArray:
    """The expected rating of every cell, in each draw: (chain, draw, user_id, item_id)."""
    factor, bias = parts(posterior, "user")
    quality_factor, quality = parts(posterior, "item")
    return posterior["mu"] + bias + quality + factor * quality_factor


def parts(posterior: xr.Dataset, block: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Factor and bias of a block."""
    return posterior[block].isel({f"{block}_dim_0": 0}), posterior[block].isel({f"{block}_dim_0": 1})


def most_correlated(posterior: xr.Dataset, eligible: np.ndarray) -> int:
    """Position of the eligible user whose factor and bias are the most correlated."""
    correlation = np.abs(xr.corr(*parts(posterior, "user"), dim=DRAWS).to_numpy())
    return int(np.argmax(np.where(eligible, correlation, -1)))


def plot_expectations(
    posteriors: dict[str, az.InferenceData], truth: np.ndarray, user: int, items: np.ndarray, path: Path
) -> None:
    """Forest of one user's expected ratings under each posterior, with the truth."""
    cells = [p.posterior[["expectation"]].isel(user_id=user, item_id=items) for p in posteriors.values()]
    options = {"combined": True, "hdi_prob": 0.9, "colors": list(COLORS.values()), "figsize": (8, 6), "textsize": 11}
    (axes,) = az.plot_forest(cells, model_names=list(posteriors), **options)
    middle = np.sort(axes.get_yticks()).reshape(len(items), -1).mean(1)[::-1]  # of each item's three lines
    axes.set_yticks(middle, [f"item {j + 1}" for j in items])
    half = 0.4 * (middle[0] - middle[1])
    axes.vlines(truth[user, items], middle - half, middle + half, colors="#009E73", linestyles="dashed", label="truth")
    axes.set(
        title=f"User {user + 1}", xlabel="expected rating, rating points (thin: 90 % interval; thick: middle half)"
    )
    for name, color in COLORS.items():
        axes.plot([], [], color=color, label=name)
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    axes.figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(axes.figure)


def plot_pairs(posteriors: dict[str, az.InferenceData], user: int, items: np.ndarray, path: Path) -> None:
    """One user's factor and bias, which are not identified, above two expected ratings, which are."""
    figure, axes = plt.subplots(2, len(posteriors), figsize=(11, 7), sharex="row", sharey="row", layout="constrained")
    for (above, below), (name, idata) in zip(axes.T, posteriors.items(), strict=True):
        raw = [x.isel(user_id=user) for x in parts(idata.posterior, "user")]
        plot_pair(above, raw, [f"factor $A_{{{user + 1}}}$", f"bias $a_{{{user + 1}}}$, rating points"], name)
        cells = [idata.posterior["expectation"].isel(user_id=user, item_id=j) for j in items]
        plot_pair(below, cells, [f"expected rating of item {j + 1}, rating points" for j in items], name)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_pair(ax: plt.Axes, pair: list[xr.DataArray], labels: list[str], name: str) -> None:
    """Draws of two numbers, with their correlation within each chain."""
    draws = xr.Dataset({label: x.drop_vars(set(x.coords) - set(DRAWS)) for label, x in zip(labels, pair, strict=True)})
    az.plot_pair(draws, ax=ax, scatter_kwargs={"color": COLORS[name], "alpha": 0.4, "s": 12}, textsize=10)
    by_chain = xr.corr(*draws.values(), dim="draw").to_numpy()
    ax.set_title(f"{name}: correlation {', '.join(f'{r:.2f}' for r in by_chain)}", fontsize=11)
    ax.set(xlabel=labels[0], ylabel=labels[1])


def report(posteriors: dict[str, az.InferenceData], heldout: ad.AnnData, user: int, item: int, seed: int) -> None:
    """Print the predictive interval of one held-out rating, and what the chains are worth."""
    lines = {name: predictive(idata.posterior["expectation"], user, item, seed) for name, idata in posteriors.items()}
    typer.echo(f"\nUser {user + 1}, item {item + 1}, held out, rated {heldout.X[user, item]:.2f}:")
    typer.echo(pd.DataFrame(lines).T.to_string(float_format="{:.2f}".format))
    widths = (f"{name} {idata.posterior['expectation'].std(DRAWS).mean():.3f}" for name, idata in posteriors.items())
    typer.echo(f"Mean sd of all {heldout.n_obs * heldout.n_vars} expectations: {', '.join(widths)}")
    report_chains(posteriors["NUTS"])


def predictive(expectation: xr.DataArray, user: int, item: int, seed: int) -> dict[str, float]:
    """Moments and 90 % interval of a rating: draws of its expectation, with noise."""
    draws = expectation.isel(user_id=user, item_id=item).to_numpy().ravel()
    rating = draws + SIGMA * np.random.default_rng(seed).standard_normal((100, len(draws)))
    low, high = np.quantile(rating, [0.05, 0.95])
    return {"mean": rating.mean(), "sd": rating.std(), "5 %": low, "95 %": high, "sd of expectation": draws.std()}


def report_chains(nuts: az.InferenceData) -> None:
    """Print the diagnostics of NUTS, of identified and of raw numbers."""
    posterior, diverged = nuts.posterior, int(nuts.sample_stats["diverging"].sum())
    typer.echo(f"NUTS: {posterior.sizes['chain']} chains of {posterior.sizes['draw']} draws, {diverged} divergent")
    for what, sites in (("expectations", ["expectation"]), ("raw factors and biases", ["mu", "user", "item"])):
        worst, fewest = az.rhat(posterior[sites]).to_array().max(), az.ess(posterior[sites]).to_array().min()
        typer.echo(f"  {what}: largest R-hat {worst:.3f}, smallest effective number of draws {fewest:.0f}")
    typer.echo(
        "R-hat above 1.01: more --draws are needed, unless it is of raw numbers, which no number of draws mends."
    )


if __name__ == "__main__":
    typer.run(main)
