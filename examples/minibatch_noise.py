"""The noise of a mini-batch: how far the bound's data term, estimated from some of the rows, is from that of all rows.

    python examples/minibatch_noise.py -o noise.png
    python examples/minibatch_noise.py ratings.h5ad -o noise.png       # ratings of your own, from `platewise ingest`

A latent factor model is fitted once and then left alone. Its data term L = sum_i l_i, the expected log-likelihood of
all entries (l_i: those of row i), is estimated from random sets B of b rows of n, by two formulas:

    scaled by rows     (n / b) sum_{i in B} l_i      Horvitz-Thompson: what `RowBatch` does, by `batch.scale`
    scaled by entries  (N / e) sum_{i in B} l_i      N entries in all, e of them in B: a ratio of two random sums

What to see:

- The first is unbiased at every size: its mean over batches differs from L by chance alone (z is about normal).
- Its relative error falls as b^(-1/2), until b is a fair share of n. Batches are drawn without replacement, so that
  rows left to draw run out, and the error is, exactly, that of drawing with replacement times sqrt((n - b) / (n - 1)).
  Both lines of the figure are computed from the l_i of all rows; nothing is fitted to the points.
- The second is biased, most in small batches: it weighs a batch by 1 / e, and so rows with few entries count for more
  than they should. The right panel shows how much the data of the least and of the most active rows count for on
  average. Where l_i is nearly proportional to the entries of a row, too much here and too little there cancel in the
  total, but in no row's own posterior, nor in any parameter on which rows differ. A bias does not average out over the
  steps of an optimiser, as noise does.

What not to conclude: that the second is the worse estimate of L from one batch. As a ratio estimator its error is the
smaller by far where the ratio l_i / e_i varies little (surveys use it for that), and its bias falls as 1 / b. But an
optimiser takes thousands of batches, and then what counts is the mean. Nor that a batch of some given size is enough:
the noise that matters is that of gradients, which have their own.

References:
    Horvitz and Thompson (1952), A generalization of sampling without replacement from a finite universe.
    Cochran (1977), Sampling techniques, chapters 2 (finite populations) and 6 (ratio estimators).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import anndata as ad
import matplotlib
import numpy as np
import pandas as pd
import torch
import typer
from platewise.data import PlatewiseError, RowBatch, RowLoader, read_h5ad, simulate_ratings, source_of
from platewise.data.writing import require_free
from platewise.guides import RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.inference.elbo import ClosedFormELBO
from platewise.models import LatentFactor

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"  # told apart by colour-blind readers
SMALL = 0.1  # share of rows up to which the finite number of rows hardly shows


def main(
    data: Annotated[Path | None, typer.Argument(help="Ratings, as `platewise ingest` writes; or simulated.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The figure to write.")] = Path("noise.png"),
    users: Annotated[int, typer.Option(min=20, help="Simulated: number of users.")] = 2000,
    items: Annotated[int, typer.Option(min=20, help="Simulated: number of items.")] = 800,
    ratings: Annotated[int, typer.Option(min=20, help="Simulated: number of ratings.")] = 200_000,
    rank: Annotated[int, typer.Option(min=1, help="Number of factors.")] = 8,
    sizes: Annotated[int, typer.Option(min=3, help="Sizes of a batch, from one row to all of them.")] = 10,
    batches: Annotated[int, typer.Option(min=10, help="Random batches of each size.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of data, fit and batches.")] = 0,
) -> None:
    """Measure the noise of mini-batches of growing size on one fit."""
    with mistakes_in_one_line():
        require_free(output, force=True)
        adata = simulated(rank, users, items, ratings, seed) if data is None else read_h5ad(data)
        bound, loader = fitted(adata, rank, seed)
    alone = pd.DataFrame([term(bound, batch) for batch in loader.in_order()])  # of each row by itself
    n = len(alone)
    grid = np.unique(np.geomspace(1, n, sizes).round().astype(int)).tolist()
    found = {b: estimates(bound, loader, random_rows(n, b, batches, seed), alone) for b in grid}
    table = pd.DataFrame([summary(b, relative, alone) for b, relative in found.items()])
    report(table, alone)
    draw(table, found, n, output)
    typer.echo(f"\n{output}")


def report(table: pd.DataFrame, alone: pd.DataFrame) -> None:
    """The table, and the slope of the error over the small batches."""
    n, entries, total = len(alone), alone["entries"].sum(), alone["log_likelihood"].sum()
    typer.echo(f"{n:,} rows, {entries:,} entries; data term {total:,.0f} nats\n")
    typer.echo(table.to_string(index=False, formatters=COLUMNS))
    few = table[table["rows"] <= SMALL * n]
    if len(few) > 1:
        slope = np.polyfit(np.log(few["rows"]), np.log(few["error"]), 1)[0]
        typer.echo(f"\nslope of log error against log rows, up to {SMALL:.0%} of the rows: {slope:.3f} (theory: -0.5)")


COLUMNS = {"rows": "{:,.0f}".format, "mean / full": "{:.4f}".format, "z": "{:+.2f}".format}
COLUMNS |= dict.fromkeys(("error", "theory", "with replacement"), "{:.2%}".format)
COLUMNS |= {"by entries: bias": "{:+.2%}".format, "its z": "{:+.1f}".format, "its error": "{:.2%}".format}


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """A message in place of a traceback."""
    try:
        yield
    except PlatewiseError as error:
        raise typer.BadParameter(str(error)) from error


def simulated(rank: int, users: int, items: int, ratings: int, seed: int) -> ad.AnnData:
    """Ratings drawn from the model, some users far more active than others."""
    factor = (0.2 / rank) ** 0.25  # factors together have a variance of 0.2, whatever their number
    model = LatentFactor(rank, sigma=0.8, user_scale=[factor] * rank + [0.4], item_scale=[factor] * rank + [0.5])
    return simulate_ratings(model, users, items, ratings, given={"mu": 3.5}, seed=seed)[0]


def fitted(adata: ad.AnnData, rank: int, seed: int) -> tuple[ClosedFormELBO, RowLoader]:
    """The bound of a fit, and its rows one by one; in float64, so that there is no other noise than the batches'."""
    fit = coordinate_ascent.fit(LatentFactor(rank), RowBlockNormal(), adata, seed=seed, device="cpu")
    model, guide = fit.model.double(), fit.guide.double()
    return ClosedFormELBO(model, guide), RowLoader(source_of(adata).rows, 1, seed, dtype=torch.float64)


@torch.no_grad()
def term(bound: ClosedFormELBO, batch: RowBatch) -> dict[str, float]:
    """What a batch says of the data term, without the scale; and its rows and entries."""
    scaled, _ = bound.terms(batch)
    return {"log_likelihood": float(scaled) / batch.scale, "entries": len(batch.value), "rows": len(batch.rows)}


def random_rows(n: int, b: int, batches: int, seed: int) -> list[np.ndarray]:
    """Rows of random batches, each drawn anew: those of an epoch are disjoint, and their mean has no error."""
    rng = np.random.default_rng([seed, b])
    return [np.sort(rng.choice(n, b, replace=False)) for _ in range(batches if b < n else 1)]


def estimates(bound: ClosedFormELBO, loader: RowLoader, drawn: list[np.ndarray], alone: pd.DataFrame) -> pd.DataFrame:
    """Both estimates from batches of b rows each, relative to the full value; a line a batch.

    Of the data term ("total"), and of the number of entries of the least and of the most active rows: the weight that
    their data are given.
    """
    sums = pd.DataFrame([term(bound, loader.batch(rows)) for rows in drawn])
    scales: dict[str, Any] = {
        "rows": len(alone) / sums["rows"],
        "entries": alone["entries"].sum() / sums["entries"].clip(lower=1),
    }
    out = {
        (by, "total"): scale * sums["log_likelihood"] / alone["log_likelihood"].sum() for by, scale in scales.items()
    }
    for group, members in groups(alone["entries"]).items():
        held = np.array([members[rows].sum() for rows in drawn])
        out |= {(by, group): scale * held / max(members.sum(), 1) for by, scale in scales.items()}
    return pd.DataFrame(out)


def groups(entries: pd.Series[float]) -> dict[str, np.ndarray]:
    """Entries of the rows that are among the least active half, or among the most active tenth; 0 of the others."""
    rank = entries.rank(method="first").to_numpy() / len(entries)
    masks = {"least active half": rank <= 0.5, "most active tenth": rank > 0.9}
    return {name: np.where(mask, entries, 0.0) for name, mask in masks.items()}


def summary(b: int, relative: pd.DataFrame, alone: pd.DataFrame) -> dict[str, float]:
    """One line of the table, from the estimates at one size."""
    n, x = len(alone), alone["log_likelihood"]
    ours, theirs = (relative[by, "total"].to_numpy() - 1 for by in ("rows", "entries"))
    replaced = float(n * x.std(ddof=0) / np.sqrt(b) / abs(x.sum()))
    return {
        "rows": b,
        "mean / full": 1 + ours.mean(),
        "z": z_score(ours),
        "error": rms(ours),
        "theory": replaced * np.sqrt((n - b) / (n - 1)),
        "with replacement": replaced,
        "by entries: bias": theirs.mean(),
        "its z": z_score(theirs),
        "its error": rms(theirs),
    }


def rms(x: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt((x**2).mean()))


def standard_error(x: np.ndarray) -> float:
    """Standard error of the mean."""
    return float(x.std(ddof=1) / np.sqrt(len(x)))


def z_score(errors: np.ndarray) -> float:
    """How many standard errors the mean is from 0; 0 of the one batch of all rows, which has no error."""
    return float(errors.mean()) / standard_error(errors) if len(errors) > 1 else 0.0


def draw(table: pd.DataFrame, found: dict[int, pd.DataFrame], n: int, output: Path) -> None:
    """Errors by size, and what the data of some rows count for by size."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    draw_errors(left, table, n)
    draw_weights(right, {b: relative for b, relative in found.items() if b < n})
    figure.savefig(output, dpi=130)
    plt.close(figure)


def draw_errors(axes: Axes, table: pd.DataFrame, n: int) -> None:
    """Root mean square errors, with both lines of theory for the first."""
    part = table[table["rows"] < n]
    b = np.geomspace(1, n, 400)[:-1]
    replaced = 100 * table["with replacement"].iloc[0] / np.sqrt(b)
    axes.plot(b, replaced, color=GREY, linestyle=":", label=r"theory, with replacement: $\propto b^{-1/2}$")
    axes.plot(b, replaced * np.sqrt((n - b) / (n - 1)), color=BLUE, label=r"theory: $\times\sqrt{(n-b)/(n-1)}$")
    axes.plot(part["rows"], 100 * part["error"], "o", color=BLUE, label="scaled by rows, measured")
    axes.plot(part["rows"], 100 * part["its error"], "s--", color=ORANGE, label="scaled by entries, measured")
    axes.set(xscale="log", yscale="log", xlabel="rows in a batch", ylabel="error of one batch, relative (%, rms)")
    axes.set_ylim(bottom=100 * min(part["error"].min(), part["its error"].min()) / 3)
    axes.set_title(f"Noise of the data term, {n:,} rows", loc="left")
    axes.legend(frameon=False, fontsize=9)


def draw_weights(axes: Axes, found: dict[int, pd.DataFrame]) -> None:
    """What the data of two groups of rows count for, on average over batches."""
    for by, group, colour, style, shift in (
        ("entries", "least active half", ORANGE, "^--", 1.06),
        ("entries", "most active tenth", ORANGE, "v--", 1.06),
        ("rows", "least active half", BLUE, "^", 0.94),
        ("rows", "most active tenth", BLUE, "v", 0.94),
    ):
        weights = [relative[by, group].to_numpy() for relative in found.values()]
        mean, error = [w.mean() for w in weights], [2 * standard_error(w) for w in weights]
        axes.errorbar(
            shift * np.array(list(found)),
            mean,
            error,
            fmt=style,
            color=colour,
            capsize=3,
            label=f"scaled by {by}: {group}",
        )
    axes.axhline(1, color=GREY, linewidth=1)
    axes.set(xscale="log", xlabel="rows in a batch", ylabel="weight of these rows' data (1 is right)")
    axes.set_title("Scaled by entries, light rows count for too much", loc="left")
    axes.legend(frameon=False, fontsize=9, title="means over batches, two standard errors", title_fontsize=9)


if __name__ == "__main__":
    typer.run(main)
