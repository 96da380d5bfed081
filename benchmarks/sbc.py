"""Simulation-based calibration of the latent factor model: NUTS, Gibbs, and guides that take blocks as independent.

    python benchmarks/sbc.py run nuts sbc --data-sets 100
    python benchmarks/sbc.py run row-block sbc --data-sets 100
    python benchmarks/sbc.py table sbc
    python benchmarks/sbc.py diagnose

Ratings of 180 of 30 x 20 cells are drawn from the model of rank 2 with given scales, latents from the prior, and each
method draws from what it takes for their posterior. True values must rank uniformly among the draws. What is ranked is
identified: expectations f_ij = mu + a_i + b_j + A_i . B_j of some cells, the log-likelihood, and the grand mean (by its
prior). Rotations and signs of the factors change none of them.

`run` writes ranks into a folder after each block of data sets, and goes on where it ended. All methods see the same
data sets. `diagnose` is what the command of that name says of both guides, fitted to one more.

A chain's draws are thinned to 50: `table` shows its effective number of draws before. Whether ranks are uniform is
judged by bands that hold the whole ECDF of a quantity with the probability declared; over the quantities of a method
p-values are multiplied by their number (Bonferroni), so that one that is right is rejected at 5 % once in 20 at most.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import anndata as ad
import arviz as az
import numpy as np
import pandas as pd
import torch
import typer
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.posterior import diagnose as diagnosed
from platewise.posterior.simulation_calibration import SimulationCalibration, simulation_calibration
from platewise.posterior.uniform_ranks import N_NULL
from sbc_methods import CHAINS, DRAW, Method, fitted, simulate, values
from tables import show_markdown

DRAWS = 50  # that a true value is ranked among
BLOCK = 5  # data sets between two writes
FIGURES = {"shift": ".3f", "spread": ".3f", "chi_squared_p": ".4f", "ecdf_p": ".4f", "asymmetry_p": ".4f"}
RANKED = r"^(f\(|log-likelihood|mu)"  # columns of ranks among those of a file
HEADINGS = ["method", "ranked", *FIGURES, "says"]
COST = ["chain", "R-hat of halves, median", "most", "draws", "ESS of f", "of log-likelihood", "of mu"]
COST += ["least of a data set, median", "least", "divergent", "gradients"]

app = typer.Typer(add_completion=False, help="Simulation-based calibration, 30 x 20.")


def block_of(method: Method, seed: int, block: int) -> pd.DataFrame:
    """Ranks in the data sets of a block, and how drawing went; the data sets are those of all methods."""
    said: list[dict[str, float]] = []

    def quantities(data: ad.AnnData, draws: int, of_draws: int) -> dict[str, np.ndarray]:
        start = time.perf_counter()
        drawn = DRAW[method](data, draws, of_draws)
        found = values(drawn, data)
        about = {"divergent": drawn.divergent, "gradients": drawn.gradients, "seconds": time.perf_counter() - start}
        said.append({"draws": len(drawn.mu)} | mixing(found) | about)
        thin = len(drawn.mu) // draws
        return {name: x[thin - 1 :: thin] for name, x in found.items()}

    of_block = int(np.random.SeedSequence([seed, block]).generate_state(1)[0])
    ranks = simulation_calibration(
        simulate, lambda data: data, quantities, replicates=BLOCK, draws=DRAWS, seed=of_block
    ).ranks
    return pd.concat([ranks, pd.DataFrame(said)], axis=1)


def mixing(found: dict[str, np.ndarray]) -> dict[str, float]:
    """Largest R-hat of the halves of a chain, and effective numbers of its draws: the least, and of each quantity."""
    halves = [x[: len(x) // 2 * 2].reshape(2, -1) for x in found.values()]
    ess = {f"ESS {name}": float(az.ess(x[None])) for name, x in found.items()}
    return {"R-hat": max(float(az.rhat(x)) for x in halves), "least ESS": min(ess.values()), **ess}


def lines(frame: pd.DataFrame, method: Method) -> list[list[str]]:
    """A method's table: one line per quantity, and the p-value of all of them together."""
    table = SimulationCalibration(frame.filter(regex=RANKED), DRAWS).table()
    rows = [[method.value, *row] for row in cells(table.reset_index())]
    return [*rows, [method.value, f"all, {len(frame)} data sets", "", "", "", together(table["ecdf_p"]), "", ""]]


def cells(table: pd.DataFrame) -> list[list[str]]:
    """One row per quantity."""
    return [
        [str(x["quantity"]), *(f"{x[figure]:{form}}" for figure, form in FIGURES.items()), str(x["says"])]
        for x in table.to_dict("records")
    ]


def together(p: pd.Series[float]) -> str:
    """P-value of several tests (Bonferroni), a bound where the least is the least that can be found."""
    found = min(1.0, len(p) * float(p.min()))
    return f"{found:.4f}" if p.min() > 1.01 / (1 + N_NULL) else f"<= {found:.4f}"


def cost(frame: pd.DataFrame, method: Method) -> list[str]:
    """How the chains of a method went: medians over data sets, and the worst."""
    middle, rhat = frame.median(), frame["R-hat"]
    ess = [middle.filter(regex=r"^ESS f").median(), *middle[["ESS log-likelihood", "ESS mu", "least ESS"]]]
    counts = [middle["draws"], *ess, frame["least ESS"].min(), frame["divergent"].sum(), middle["gradients"]]
    return [method.value, f"{rhat.median():.3f}", f"{rhat.max():.3f}", *(f"{x:.0f}" for x in counts)]


@app.callback()
def numerics() -> None:
    """Float64 and one thread: tensors this small are slower on several."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)


@app.command()
def run(
    method: Annotated[Method, typer.Argument(help="What draws.")],
    folder: Annotated[Path, typer.Argument(help="Where ranks are written, and read to go on.")],
    data_sets: Annotated[int, typer.Option(min=BLOCK, help="Data sets in all, in blocks of five.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything.")] = 0,
) -> None:
    """Rank true values among the draws of a method."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{method.value}.csv"
    parts = [pd.read_csv(path)] if path.exists() else []
    for block in range(sum(map(len, parts)) // BLOCK, data_sets // BLOCK):
        parts.append(block_of(method, seed, block))
        pd.concat(parts).to_csv(path, index=False)
        typer.echo(f"{method.value}: {(block + 1) * BLOCK} data sets, {parts[-1]['seconds'].sum():.0f} s")


@app.command()
def table(folder: Annotated[Path, typer.Argument(help="Where ranks are.")]) -> None:
    """Whether ranks are uniform, of all methods that have some."""
    paths = {method: folder / f"{method.value}.csv" for method in Method}
    frames = {method: pd.read_csv(path) for method, path in paths.items() if path.exists()}
    show_markdown(HEADINGS, [row for method, frame in frames.items() for row in lines(frame, method)])
    show_markdown(COST, [cost(frame, method) for method, frame in frames.items() if method in CHAINS])


@app.command()
def diagnose(
    replicates: Annotated[int, typer.Option(min=2, help="Data sets that each guide is fitted to.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything.")] = 0,
) -> None:
    """What `platewise diagnose` says of the intervals of both guides."""
    data, _ = simulate(seed)
    for guide in (MeanFieldNormal, RowBlockNormal):
        found = diagnosed(fitted(guide, data), data=data, rows=5, draws=100, replicates=replicates, seed=seed)
        (judged,) = (line for line in found.verdict if "this kind of fit" in line.use)
        typer.echo(f"{guide.__name__}: {judged.use}: {judged.answer} ({judged.why})")
        show_markdown(HEADINGS[1:], cells(pd.DataFrame(found.simulation)))


if __name__ == "__main__":
    app()
