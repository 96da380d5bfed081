"""One posterior, many factors: what of a latent factor model may be read, and what may not.

    python examples/degeneracy.py -o degeneracy.png

A rating's mean is mu + a_i + b_j + A_i . B_j. For any invertible matrix R and any vector c, these have the same means:

    turned      A_i becomes R' A_i          B_j becomes R^-1 B_j
    shifted     B_j becomes B_j - c         a_i becomes a_i + A_i . c

The data cannot tell such solutions apart. The prior can, a little: it charges for stretching and for factors whose mean
is not zero. For turning it charges nothing where all factors have the same scale, as here, so that each seed of the fit
ends at an angle of its own.

What to see:

- In the table: means and standard deviations of all predictions are what they were, to rounding, after the whole
  posterior (means and covariances of every block) was turned, stretched or shifted, and so is the bound's data term.
  The bound itself falls by what the prior charges.
- In the figure: two fits of the same ratings, from different seeds. They predict the same; their raw factors do not
  agree. In the canonical frame (`platewise.posterior.factors`: centred, turned until both sides have one and the same
  diagonal second moment, ordered by strength, signs fixed) they are one picture, and so is the fit that was moved.

So raw factors must not be read: neither their values, nor their signs, nor which one is "the first", nor their
standard deviations. Predictions may, and so may what the canonical frame gives.

What not to conclude: that the canonical axes mean something by themselves. They are principal axes. Where two strengths
are about the same, the data do not determine the axes between them, and the frame turns with the slightest change of
the ratings. Nor that all fits agree: this is one optimum, seen in different coordinates. There may be others.

References:
    Luttinen and Ilin (2010), Transformations in variational Bayesian factor analysis to speed up learning.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import anndata as ad
import matplotlib
import numpy as np
import torch
import typer
from platewise.data import RowLoader, simulate_ratings, source_of
from platewise.guides import RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent
from platewise.inference.elbo import ClosedFormELBO
from platewise.models import LatentFactor
from platewise.posterior import factors, predict

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SIGMA, SCALE = 0.4, 0.6  # of the noise; of all factors and biases in the fits, so that no direction is preferred
STRONG, WEAK = 0.9, 0.45  # of the two factors in the truth, so that the canonical axes are determined
ANGLE, STRETCH, SHIFT = 50.0, 1.6, (0.8, -0.5)  # degrees; of one axis, and its inverse of the other; of the items


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="The figure to write.")] = Path("degeneracy.png"),
    users: Annotated[int, typer.Option(min=10, help="Number of users.")] = 400,
    items: Annotated[int, typer.Option(min=10, help="Number of items.")] = 150,
    ratings: Annotated[int, typer.Option(min=50, help="Number of ratings, at most half of the cells.")] = 18_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the data and of the first fit.")] = 0,
    other: Annotated[int, typer.Option(min=0, help="Seed of the second fit.")] = 1,
) -> None:
    """Move a posterior without changing a prediction, and bring two fits into one frame."""
    torch.set_default_dtype(torch.float64)
    adata, truth = simulated(users, items, ratings, seed)
    first, second = (fitted(adata, s) for s in (seed, other))
    all_moved = moved(first, turn(ANGLE) @ np.diag([STRETCH, 1 / STRETCH]), SHIFT)
    compare_predictions(
        adata,
        {
            f"fit of seed {seed}": first,
            f"turned by {ANGLE:.0f} degrees": moved(first, turn(ANGLE), (0.0, 0.0)),
            f"stretched by {STRETCH}": moved(first, np.diag([STRETCH, 1 / STRETCH]), (0.0, 0.0)),
            "items shifted": moved(first, np.eye(2), SHIFT),
            "all three": all_moved,
            f"fit of seed {other}": second,
        },
    )
    compare_factors(first, second, truth["B"])
    draw({f"seed {seed}": first, f"seed {other}": second}, all_moved, truth["B"], output)
    typer.echo(f"\n{output}")


def simulated(users: int, items: int, ratings: int, seed: int) -> tuple[ad.AnnData, dict[str, np.ndarray]]:
    """Ratings of a strong and a weak factor, and the truth."""
    model = LatentFactor(2, sigma=SIGMA, user_scale=[STRONG, WEAK, 0.4], item_scale=[STRONG, WEAK, 0.5])
    return simulate_ratings(model, users, items, ratings, given={"mu": 3.5}, seed=seed)


def fitted(adata: ad.AnnData, seed: int) -> Fitted:
    """A fit that is run until its bound stands still: what differs between seeds is then not for want of sweeps."""
    model = LatentFactor(2, sigma=SIGMA, user_scale=SCALE, item_scale=SCALE)
    options: dict[str, Any] = {"tolerance": 1e-10, "sweeps": 1000, "progress": False, "dtype": torch.float64}
    return coordinate_ascent.fit(model, RowBlockNormal(), adata, seed=seed, device="cpu", **options)


def turn(degrees: float) -> np.ndarray:
    """The rotation of the plane by an angle."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[cos, -sin], [sin, cos]])


def moved(fit: Fitted, matrix: np.ndarray, shift: tuple[float, float]) -> Fitted:
    """The same posterior predictive from other factors: R' A_i, R^-1 (B_j - c), and a_i + A_i . c."""
    r, c = torch.from_numpy(matrix), torch.tensor(shift)
    of_user, of_item = torch.eye(3), torch.eye(3)
    of_user[:2, :2], of_user[2, :2] = r.T, c
    of_item[:2, :2] = r.inverse()
    offset = torch.cat([-r.inverse() @ c, torch.zeros(1)])
    guide = RowBlockNormal()
    guide.setup(fit.model, fit.blank_batch())
    guide.load_state_dict(fit.guide.state_dict())
    for site, map_, by in (("user", of_user, torch.zeros(3)), ("item", of_item, offset)):
        mean, cov = guide.blocks(site)
        guide.set_blocks(site, mean @ map_.T + by, map_ @ cov @ map_.T)
    return replace(fit, guide=guide)


def compare_predictions(adata: ad.AnnData, fits: dict[str, Fitted]) -> None:
    """Say by how much predictions and bound differ from those of the first fit."""
    batch = next(RowLoader(source_of(adata).rows, adata.n_obs, dtype=torch.float64).in_order())
    reference = next(iter(fits.values()))
    mean, sd = predictions(reference)
    typer.echo(
        f"{'':24}{'largest change of a prediction':>32}{'bound':>14}{'data term':>14}\n{'':24}{'mean':>16}{'sd':>16}"
    )
    for name, fit in fits.items():
        changes = [np.abs(x - y).max() for x, y in zip(predictions(fit), (mean, sd), strict=True)]
        with torch.no_grad():
            data, kl = ClosedFormELBO(fit.model, fit.guide).terms(batch)
        typer.echo(f"{name:24}{changes[0]:16.1e}{changes[1]:16.1e}{data - kl:14,.2f}{data:14,.2f}")


def predictions(fit: Fitted) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of the expectation of every cell; an item without ratings is left to the prior."""
    rows, cols = (np.asarray(table.index[table["n_entries"] > 0]) for table in (fit.obs, fit.var))
    table = predict(fit, np.repeat(rows, len(cols)), np.tile(cols, len(rows)), of="mean")
    return table["mean"].to_numpy(), table["sd"].to_numpy()


def raw(fit: Fitted) -> np.ndarray:
    """Posterior means of B_j as they stand in the guide, (n_items, 2)."""
    guide: Any = fit.guide
    means: np.ndarray = guide.blocks("item")[0][:, :2].numpy()
    return means


def canonical(fit: Fitted) -> np.ndarray:
    """The same in the canonical frame."""
    return factors(fit).varm["factors"]


def compare_factors(first: Fitted, second: Fitted, truth: np.ndarray) -> None:
    """Say how coordinates of the two fits, and of the truth, go together."""
    typer.echo(f"\n{'correlation over items':36}{'factor 1':>10}{'factor 2':>10}")
    for name, x, y in (
        ("raw, one seed against the other", raw(first), raw(second)),
        ("canonical, one seed and the other", canonical(first), canonical(second)),
        ("canonical against the truth", canonical(first), truth),
    ):
        typer.echo(f"{name:36}" + "".join(f"{np.corrcoef(x[:, k], y[:, k])[0, 1]:10.3f}" for k in range(2)))
    typer.echo(f"raw factors of one seed are {explained(raw(first), raw(second)):.2%} a linear map of the other's")
    typer.echo(f"strengths of the canonical factors: {factors(first).strength.round(3)}")


def explained(x: np.ndarray, y: np.ndarray) -> float:
    """Share of the spread of y that the best affine map of x explains."""
    x, y = x - x.mean(0), y - y.mean(0)
    left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return float(1 - (left**2).sum() / (y**2).sum())


def draw(fits: dict[str, Fitted], moved_fit: Fitted, truth: np.ndarray, output: Path) -> None:
    """Items in the plane of their factors, raw and in the canonical frame, coloured by the truth."""
    (one, first), (two, second) = fits.items()
    panels = {
        f"{one}, raw": raw(first),
        f"{one}, moved: the same predictions": raw(moved_fit),
        f"{one}, canonical frame": canonical(first),
        f"{two}, raw": raw(second),
        f"{one}, moved, canonical frame": canonical(moved_fit),
        f"{two}, canonical frame": canonical(second),
    }
    figure, axes = plt.subplots(2, 3, figsize=(11, 7), layout="constrained", sharex=True, sharey=True)
    ringed = truth[:, 0].argmax()  # one and the same item, to be found in each
    for panel, (title, x) in zip(axes.flat, panels.items(), strict=True):
        points = panel.scatter(*x.T, c=truth[:, 0], cmap="cividis", s=16)
        panel.scatter(*x[ringed], s=110, facecolors="none", edgecolors="#D55E00", linewidths=2)
        panel.axhline(0, color="#999999", linewidth=0.6, zorder=0)
        panel.axvline(0, color="#999999", linewidth=0.6, zorder=0)
        panel.set(aspect="equal", xlabel="factor 1 of the item", ylabel="factor 2 of the item")
        panel.set_title(title, loc="left", fontsize=11)
    figure.colorbar(points, ax=axes, shrink=0.7, label="first factor of the item in the truth (ringed: the highest)")
    figure.savefig(output, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    typer.run(main)
