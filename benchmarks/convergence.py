"""Does SVI that stops itself stop in time, and not too early? Against fixed schedules, and truncated.

    PLATEWISE_TEST_DATA=/path/to/data python benchmarks/convergence.py [--data ml-100k --data sim-a ...] [--times 10]

The reference of a data set is the bound on all data after one cycle of the step size over ten times the epochs that
`until="converged"` took. A fixed schedule gets there in the first epoch whose bound is within 0.1 % of it, which a
person who watches no reference cannot know. Fits of another seed, cut off at 10 to 90 % of that length, claim falsely
if they say that they have converged and are further off than that. Seconds are the processor's, medians of fits of ours
and of the best fixed schedule by turns: what a process does once is done by then. Set OMP_NUM_THREADS=1, or those of
waiting threads count too.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from anndata import AnnData
from measure import data_folder
from platewise.data import read_h5ad, read_ratings, simulate_ratings
from platewise.data.loader import MemoryRows, RowLoader
from platewise.data.normalise import log_normalise
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, svi
from platewise.inference.validation import bound_per_row
from platewise.models import CountFactor, LatentFactor
from tables import show, show_markdown

SCHEDULES = (15, 30, 60, 120, 240)  # epochs of one cycle
WITHIN = 1e-3  # of the reference
SHARES = [k / 10 for k in range(1, 10)]  # of our length, that fits are cut off at
SIMULATED = {  # users, items, ratings, rank, noise
    "sim-a": (200, 100, 4_000, 2, 0.5),
    "sim-b": (500, 300, 20_000, 4, 0.7),
    "sim-c": (1_000, 400, 60_000, 8, 0.9),
    "sim-d": (2_000, 500, 100_000, 3, 0.3),
    "sim-e": (300, 1_000, 30_000, 5, 1.0),
    "sim-f": (3_000, 1_500, 200_000, 16, 0.8),
}
RATINGS = {"ml-100k": "ml-100k", "ml-1m": "ml-1m/train.csv.gz"}
CELLS = {"pbmc3k": "pbmc3k_top2000.h5ad", "kang": "kang_ifnb.h5ad"}
NAMES = [*RATINGS, *CELLS, *(f"{name}-counts" for name in CELLS), *SIMULATED]
GUIDES: dict[str, Callable[[], Any]] = {"row-block": RowBlockNormal, "mean-field": MeanFieldNormal}
HEADINGS = [
    *("data", "guide", "epochs", "s", "bound", "reference", "off", "best fixed", "its epochs", "its s"),
    *("epochs, ours / its", "s, ours / its", "false claims"),
]


@dataclass(frozen=True)
class Case:
    """A matrix, and what makes the model that is fitted to it."""

    matrix: AnnData
    model: Callable[[], Any]


@dataclass(frozen=True)
class Reached:
    """The fixed schedule that gets there first: epochs of its cycle, and how many it needs."""

    length: int
    epochs: int


def main(
    data: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(NAMES)}; all of them if not given.")] = None,
    guide: Annotated[list[str] | None, typer.Option(help="row-block, mean-field; both if not given.")] = None,
    rank: Annotated[int, typer.Option(help="Factors.")] = 16,
    times: Annotated[int, typer.Option(help="How many times longer the reference is.")] = 10,
    seed: Annotated[int, typer.Option(help="Of all fits.")] = 0,
    truncated: Annotated[bool, typer.Option(help="Whether to cut fits off as well.")] = True,
    runs: Annotated[int, typer.Option(min=1, help="Fits that are timed of ours, and of the best fixed schedule.")] = 3,
) -> None:
    """Print the table, and how many fits that were cut off claim to have converged."""
    rows, claims, cut = [], 0, 0
    for name in data or NAMES:
        case = case_of(name, rank)
        for family in guide or GUIDES:
            row, false = compared(case, GUIDES[family], times, seed, truncated, runs)
            rows.append([name, family, *row])
            claims, cut = claims + false, cut + truncated * len(SHARES)
            print(" | ".join(rows[-1]), flush=True)
    show("SVI that stops itself, and one cycle of a fixed number of epochs", HEADINGS, rows)
    show_markdown(HEADINGS, rows)
    print(f"{claims} of {cut} fits that were cut off claim to have converged")


def case_of(name: str, rank: int) -> Case:
    """A data set by its name."""
    if name in SIMULATED:
        users, items, ratings, factors, noise = SIMULATED[name]
        truth = LatentFactor(factors, sigma=noise, user_scale=0.4, item_scale=0.4)
        drawn, _ = simulate_ratings(truth, users, items, ratings, given={"mu": 3.5}, seed=sorted(SIMULATED).index(name))
        return Case(drawn, lambda: LatentFactor(rank))
    if name in RATINGS:
        return Case(read_ratings(_existing(RATINGS[name])), lambda: LatentFactor(rank))
    if name not in NAMES:
        raise SystemExit(f"Expected data among {', '.join(NAMES)}, got {name!r}. Check the spelling.")
    counts = read_h5ad(_existing(CELLS[name.removesuffix("-counts")]), unstored="zero")
    if name.endswith("-counts"):
        return Case(counts, lambda: CountFactor(rank))
    return Case(log_normalise(counts), lambda: LatentFactor(rank, unstored="zero"))


def _existing(name: str) -> Path:
    path = data_folder() / name
    if not path.exists():
        raise SystemExit(f"Expected data in {path}, got nothing there. Set PLATEWISE_TEST_DATA to their folder.")
    return path


def compared(
    case: Case, guide: Callable[[], Any], times: int, seed: int, truncated: bool, runs: int
) -> tuple[list[str], int]:
    """One line of the table, and the number of false claims."""

    def fit(seed: int = seed, **options: Any) -> Fitted:
        return svi.fit(case.model(), guide(), case.matrix, seed=seed, progress=False, **options)

    def off(fitted: Fitted) -> float:
        return (reference - bound(fitted, case.matrix)) / abs(reference)

    ours = fit(until="converged")
    n_epochs = len(ours.history)
    reference = bound(fit(epochs=times * n_epochs), case.matrix)
    fixed = best_fixed([fit(epochs=n) for n in SCHEDULES], reference)
    cut = [fit(seed + 1, until="converged", max_epochs=max(round(s * n_epochs), 1)) for s in SHARES * truncated]
    false = sum(bool(fitted.converged) and off(fitted) > WITHIN for fitted in cut)
    seconds, its = raced(fit, fixed, runs)
    return [
        f"{n_epochs}{'' if ours.converged else ', not converged'}",
        *(f"{seconds:.1f}", f"{ours.elbo:,.0f}", f"{reference:,.0f}", f"{off(ours):+.3%}"),
        *(("none", "", "") if fixed is None else (str(fixed.length), str(fixed.epochs), f"{its:.1f}")),
        *(("none", "none") if fixed is None else (f"{n_epochs / fixed.epochs:.2f}", f"{seconds / its:.2f}")),
        f"{false} of {len(cut)}",
    ], false


def raced(fit: Callable[..., Fitted], fixed: Reached | None, runs: int) -> tuple[float, float]:
    """Seconds of ours, and of the fixed schedule until it is there: medians of fits by turns."""
    ours, its = [], []
    for _ in range(runs):
        ours.append(seconds_of(lambda: fit(until="converged")))
        if fixed is not None:
            its.append(seconds_of(lambda: fit(epochs=fixed.length)) * fixed.epochs / fixed.length)
    return statistics.median(ours), statistics.median(its or [math.nan])


def seconds_of(run: Callable[[], Any]) -> float:
    """The processor's seconds of a call."""
    start = time.process_time()
    run()
    return time.process_time() - start


def bound(fitted: Fitted, matrix: AnnData) -> float:
    """The bound on all data at a fit's parameters, nats."""
    elbo_batch = RowLoader(MemoryRows(matrix.X), 512)
    elbo = svi.elbo_of(fitted.model, fitted.guide, elbo_batch.look(2))
    with torch.random.fork_rng(devices=[]):
        return bound_per_row(elbo, elbo_batch) * matrix.n_obs


def best_fixed(fits: list[Fitted], reference: float) -> Reached | None:
    """Of the fixed schedules that get there the one that needs fewest epochs."""
    there = reference - WITHIN * abs(reference)
    firsts = [(len(x.history), np.flatnonzero(x.history["elbo"].to_numpy() >= there)) for x in fits]
    reached = [Reached(length, int(at[0]) + 1) for length, at in firsts if len(at)]
    return min(reached, key=lambda found: found.epochs, default=None)


if __name__ == "__main__":
    typer.run(main)
