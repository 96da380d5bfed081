"""Noise of one size for all, by user, by item, by both: predictions of held-out ratings under each.

    python benchmarks/noise.py TRAIN TEST [--rank 16] [--seeds 3]

Each is fitted by exact coordinate ascent at its defaults. Medians over seeds; coverage of the tenth farthest from 90 %
is that of the seed with the median log predictive density.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated

import anndata as ad
import typer
from platewise.data import read_ratings
from platewise.guides import RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.models import LatentFactor
from platewise.posterior import Evaluation, evaluate
from rich.console import Console
from rich.table import Table

NOISES = ("constant", "rows", "columns", "both")
LEVELS = ("0.5", "0.8", "0.9", "0.95")


def main(
    train: Annotated[Path, typer.Argument(help="Training ratings.")],
    test: Annotated[Path, typer.Argument(help="Held-out ratings.")],
    rank: Annotated[int, typer.Option(help="Factors.")] = 16,
    seeds: Annotated[int, typer.Option(help="Fits of each.")] = 3,
) -> None:
    """Print the table."""
    known, held_out = read_ratings(train), read_ratings(test)
    parts = ("worst tenth of users", "of items")
    table = Table("noise", "RMSE", "log density", "CRPS", *LEVELS, *parts, "seconds", title=f"{test}, rank {rank}")
    for noise in NOISES:
        table.add_row(noise, *figures([judged(known, held_out, rank, noise, seed) for seed in range(seeds)]))
    Console(width=140).print(table)


def judged(known: ad.AnnData, held_out: ad.AnnData, rank: int, noise: str, seed: int) -> tuple[Evaluation, float]:
    """Scores of one fit, and its seconds."""
    model = LatentFactor(rank, noise=noise)
    fitted = coordinate_ascent.fit(model, RowBlockNormal(), known, seed=seed, progress=False)
    return evaluate(fitted, held_out), float(fitted.history["seconds"].iloc[-1])


def figures(found: list[tuple[Evaluation, float]]) -> list[str]:
    """Medians over fits, as they are shown."""
    scores = sorted((score for score, _ in found), key=lambda score: score.log_predictive_density)
    middle = scores[len(scores) // 2]
    numbers = [
        statistics.median(getattr(s, name) for s in scores) for name in ("rmse", "log_predictive_density", "crps")
    ]
    coverage = [statistics.median(s.coverage[level] for s in scores) for level in LEVELS]
    by = (middle.coverage_by_row_decile["0.9"], middle.coverage_by_col_decile["0.9"])
    worst = [max(part, key=lambda share: abs(share - 0.9)) for part in by]
    seconds = statistics.median(seconds for _, seconds in found)
    return [*(f"{x:.4f}" for x in numbers), *(f"{x:.3f}" for x in [*coverage, *worst]), f"{seconds:.1f}"]


if __name__ == "__main__":
    typer.run(main)
