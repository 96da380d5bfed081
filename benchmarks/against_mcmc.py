"""Variational posteriors beside Markov chain Monte Carlo on the same model: means, standard deviations, intervals.

    python benchmarks/against_mcmc.py small
    python benchmarks/against_mcmc.py movielens [--folder ml-100k] [--ranks 8 --ranks 16]

`small`: 300 ratings, a fifth of them held out, of 30 users and 20 items, drawn from a model of rank 2 with given
scales, so that nothing but the latent sites is unknown; guides beside Gibbs and NUTS.

`movielens`: u1 of MovieLens 100K. For each tenth of the test entries by activity, the ratio of standard deviations,
guide to Gibbs: with the scales held at the fit's, which is the posterior that the guide approximates, and with scales
that Gibbs learns too, whose uncertainty the guide leaves out.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer
from against_mcmc_movielens import DECILE_HEADINGS, HEADINGS, Run, compared
from against_mcmc_small import simulated, table_of_all, table_of_some, told
from tables import show, show_markdown

app = typer.Typer(add_completion=False, help="Variational posteriors beside Markov chain Monte Carlo.")


@app.callback()
def numerics() -> None:
    """Float64 and one thread: tensors this small are slower on several."""
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)


@app.command()
def small(
    seed: Annotated[int, typer.Option(min=0, help="Seed of data, fits and chains.")] = 0,
    sweeps: Annotated[int, typer.Option(min=100, help="Sweeps of each Gibbs chain.")] = 5000,
    draws: Annotated[int, typer.Option(min=10, help="Draws of each NUTS chain.")] = 500,
) -> None:
    """Guides, Gibbs and NUTS on small simulated data."""
    train, heldout = simulated(seed)
    said, mixing = told(train, heldout, seed, sweeps, draws)
    for name, (rhat, ess) in mixing.items():
        typer.echo(f"{name}: largest R-hat {rhat:.3f}, smallest effective number of draws {ess:.0f}")
    for headings, rows in (table_of_some(said), table_of_all(said)):
        show_markdown(headings, rows)


@app.command()
def movielens(
    folder: Annotated[Path | None, typer.Option(help="Holds u1.base and u1.test.")] = None,
    ranks: Annotated[list[int] | None, typer.Option(min=1, help="Ranks.")] = None,
    sweeps: Annotated[int, typer.Option(min=100, help="Sweeps of each chain that count.")] = 1500,
    warmup: Annotated[int, typer.Option(min=1, help="Sweeps before these.")] = 400,
    chains: Annotated[int, typer.Option(min=2, help="Chains, one after the other.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Seed of fits and chains.")] = 0,
) -> None:
    """Row-block coordinate ascent beside Gibbs at equal rank on u1 of MovieLens 100K."""
    folder = folder or Path(os.environ.get("PLATEWISE_TEST_DATA", ".")) / "ml-100k"
    if missing := [name for name in ("u1.base", "u1.test") if not (folder / name).exists()]:
        sys.exit(f"Expected {missing[0]} in {folder}, got none. Name the folder with --folder.")
    for rank in ranks or [8, 16]:
        scores, ratios = compared(folder, rank, Run(chains, sweeps, warmup, seed))
        show(f"u1 of MovieLens 100K, rank {rank}", HEADINGS, scores)
        for headings, rows in ((HEADINGS, scores), (DECILE_HEADINGS, ratios)):
            show_markdown(headings, rows)


if __name__ == "__main__":
    app()
