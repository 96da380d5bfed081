"""Noise of one size for all, by user, by item, by both: predictions of held-out ratings under each.

    python benchmarks/noise.py TRAIN [TEST] [--rank 16] [--seeds 3] [--validation 0.1] [--calibration 0.1]

Each is fitted by exact coordinate ascent at its defaults. Without TEST, what is held out is a part of TRAIN, another
for each seed: settings are chosen on that. Medians over seeds; of the tenths of users and of items (by training
entries), the coverage farthest from each of the four levels, of the seed with the median log predictive density.

With --calibration a part of the training ratings is kept from the fit, another for each seed. The fit is then judged as
it is, with its noise recalibrated on that part, and with the shape of its predictives recalibrated, too.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Annotated

import anndata as ad
import pandas as pd
import typer
from platewise.data import read_ratings, split_entries
from platewise.guides import RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent
from platewise.models import LatentFactor
from platewise.posterior import Evaluation, calibration, evaluate, recalibrate
from rich.console import Console
from rich.table import Table
from scipy.special import ndtri

NOISES = ("constant", "rows", "columns", "both")
LEVELS = ("0.5", "0.8", "0.9", "0.95")


Judged = tuple[Evaluation, pd.DataFrame, float]


def main(
    train: Annotated[Path, typer.Argument(help="Training ratings.")],
    test: Annotated[Path | None, typer.Argument(help="Held-out ratings; a part of the others if not given.")] = None,
    rank: Annotated[int, typer.Option(help="Factors.")] = 16,
    seeds: Annotated[int, typer.Option(help="Fits of each.")] = 3,
    validation: Annotated[float, typer.Option(help="Share that is held out where no test is given.")] = 0.1,
    kept: Annotated[float, typer.Option("--calibration", help="Share of the training ratings to recalibrate on.")] = 0,
) -> None:
    """Print the table."""
    given = read_ratings(train)
    whole = None if test is None else (given, read_ratings(test))
    splits = [whole or split_entries(given, test=validation, seed=seed) for seed in range(seeds)]
    n = splits[0][1].X.nnz
    title = f"{test or f'{validation:g} of {train}'}, {n:,} ratings, rank {rank}"
    caption = f"Of ten tenths that are right, the worst is off by {by_chance(n)}, one time in two."
    parts = ("worst tenth of users, less the level", "of items")
    heads = ("noise", "RMSE", "log density", "CRPS", *LEVELS, *parts, "seconds")
    table = Table(*heads, title=title, caption=caption)
    for noise in NOISES:
        found = [variants(*split, rank, noise, seed, kept) for seed, split in enumerate(splits)]
        for name in found[0]:
            table.add_row(name, *figures([one[name] for one in found]))
    Console(width=160).print(table)


def variants(
    given: ad.AnnData, held_out: ad.AnnData, rank: int, noise: str, seed: int, kept: float
) -> dict[str, Judged]:
    """Scores of one fit, and of what is made of it with the part kept from it, if there is one."""
    known, rest = split_entries(given, test=kept, seed=seed) if kept else (given, None)
    fitted = coordinate_ascent.fit(LatentFactor(rank, noise=noise), RowBlockNormal(), known, seed=seed, progress=False)
    found = {noise: judged(fitted, held_out)}
    if rest is not None:
        for name, shape in (("noise recalibrated", False), ("and shape", True)):
            found[f"{noise}, {name}"] = judged(recalibrate(fitted, rest, shape=shape), held_out)
    return found


def judged(fitted: Fitted, held_out: ad.AnnData) -> Judged:
    """Scores of one fit, its coverage in tenths, and its seconds."""
    tenths = calibration(fitted, held_out).table()
    return evaluate(fitted, held_out), tenths, float(fitted.history["seconds"].iloc[-1])


def figures(found: list[Judged]) -> list[str]:
    """Medians over fits, as they are shown."""
    ordered = sorted(found, key=lambda one: one[0].log_predictive_density)
    scores, tenths = [one[0] for one in ordered], ordered[len(ordered) // 2][1]
    numbers = [
        statistics.median(getattr(s, name) for s in scores) for name in ("rmse", "log_predictive_density", "crps")
    ]
    coverage = [statistics.median(s.coverage[level] for s in scores) for level in LEVELS]
    seconds = statistics.median(seconds for *_, seconds in found)
    shown = [f"{x:.4f}" for x in numbers] + [f"{x:.3f}" for x in coverage]
    return [*shown, worst(tenths, "row"), worst(tenths, "column"), f"{seconds:.1f}"]


def worst(tenths: pd.DataFrame, by: str) -> str:
    """At each level, by how much the tenth whose coverage is farthest off is off."""
    part = tenths[tenths["by"] == by]
    off = (part["coverage"] - part["level"]).groupby(part["level"])
    return " ".join(f"{max(x, key=abs):+.3f}" for _, x in off)


def by_chance(n: int) -> str:
    """The median of the largest of ten binomial errors, of n entries in ten parts, at each level."""
    largest = ndtri((1 + 0.5**0.1) / 2)
    return " ".join(f"{largest * math.sqrt(p * (1 - p) / (n / 10)):.3f}" for p in map(float, LEVELS))


if __name__ == "__main__":
    typer.run(main)
