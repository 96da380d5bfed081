"""How far off intervals are where nothing is wrong but that ratings are whole stars.

    python benchmarks/whole_stars.py TRAIN [--rank 16] [--splits 10] [--held-out 0.1] [--calibration 0.1]

A fit's own predictives, temperatures included, are drawn from for its held-out and its calibration ratings, as they
are and rounded to whole stars on the scale of TRAIN. Each kind of ratings is then recalibrated on and judged as the
real ones are. What the rounded draws are off by, and the plain ones are not, is due to whole stars and the ends of the
scale alone. Shares are over all splits together: the tenth that is farthest off, at each of four levels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import anndata as ad
import numpy as np
import pandas as pd
import typer
from noise import by_chance, worst
from platewise.data import read_ratings, split_entries
from platewise.guides import RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent
from platewise.models import LatentFactor
from platewise.posterior import calibration, recalibrate
from platewise.posterior.held_out import held_out as entries_of
from platewise.posterior.predictive import Predictive, Settings, predictives
from platewise.posterior.reader import reading
from tables import show, show_markdown

HEADINGS = ["ratings", "recalibrated", "overall, less the level", "worst tenth of users", "of items", "of predictions"]
HALVINGS = 40  # of the range in which a quantile is sought

Draw = Callable[[ad.AnnData], ad.AnnData]


def main(
    train: Annotated[Path, typer.Argument(help="Training ratings: no test file is needed.")],
    rank: Annotated[int, typer.Option(help="Factors.")] = 16,
    splits: Annotated[int, typer.Option(help="Random parts held out.")] = 10,
    share: Annotated[float, typer.Option("--held-out", help="Share that is held out.")] = 0.1,
    kept: Annotated[float, typer.Option("--calibration", help="Share of the rest to recalibrate on.")] = 0.1,
) -> None:
    """Print the table."""
    given, found = read_ratings(train), []
    for seed in range(splits):
        found += judged(given, share, kept, rank, seed)
    tables = pd.concat(found)
    n = int(tables.loc[tables["by"] == "all", "n"].iloc[0]) * splits
    rows = [[*name, *figures(some)] for name, some in tables.groupby(["ratings", "recalibrated"], sort=False)]
    show(f"{train}, {n:,} held-out ratings, rank {rank}", HEADINGS, rows)
    show_markdown(HEADINGS, rows)
    print(f"Of ten tenths that are right, the worst is off by {by_chance(n)}, one time in two.")


def judged(given: ad.AnnData, share: float, kept: float, rank: int, seed: int) -> list[pd.DataFrame]:
    """Coverage in tenths of one fit: of the ratings, of draws, and of draws rounded to whole stars."""
    rest, held = split_entries(given, test=share, seed=seed)
    known, part = split_entries(rest, test=kept, seed=seed)
    model = LatentFactor(rank, noise="both")
    fitted = coordinate_ascent.fit(model, RowBlockNormal(), known, seed=seed, progress=False)
    wide, rng = recalibrate(fitted, part, shape=False), np.random.default_rng(seed)
    low, high = given.X.data.min(), given.X.data.max()
    kinds: dict[str, Draw] = {
        "as they are": lambda x: x,
        "drawn": lambda x: drawn(wide, x, rng),
        "drawn, whole stars": lambda x: rounded(drawn(wide, x, rng), low, high),
    }
    found = []
    for name, draw in kinds.items():
        calibrated_on, judged_on = draw(part), draw(held)
        for what, shape in (("noise", False), ("noise and shape", True)):
            table = calibration(recalibrate(fitted, calibrated_on, shape=shape), judged_on).table()
            found.append(table.assign(ratings=name, recalibrated=what))
    return found


def drawn(fitted: Fitted, ratings: ad.AnnData, rng: np.random.Generator) -> ad.AnnData:
    """The same entries, each with a draw from its predictive in place of its rating."""
    request, new = entries_of(fitted, ratings), ratings.copy()
    with reading(fitted, 0, None) as reader:
        for block, predictive in predictives(reader, request, Settings()):
            new.X.data[block.at] = quantiles(predictive, rng.random(len(block.at)))
    return new


def quantiles(predictive: Predictive, p: np.ndarray) -> np.ndarray:
    """Of each entry the quantile at its own probability, by bisection."""
    low, high = predictive.mean - 20 * predictive.sd, predictive.mean + 20 * predictive.sd
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = predictive.cdf(middle) < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def rounded(ratings: ad.AnnData, low: float, high: float) -> ad.AnnData:
    """The same, as whole stars from `low` to `high`."""
    ratings.X.data[:] = np.clip(np.round(ratings.X.data), low, high)
    return ratings


def figures(some: pd.DataFrame) -> list[str]:
    """By how much coverage is off, overall and in the worst tenths, each at four levels."""
    together = some.groupby(["by", "part", "level"], as_index=False)["coverage"].mean()
    return [worst(together, by) for by in ("all", "row", "column", "predicted")]


if __name__ == "__main__":
    typer.run(main)
