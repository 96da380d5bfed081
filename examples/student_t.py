"""A heavy-tailed target by a normal, a mixture of normals and a flow: the two divergences, and what each is least for.

    python examples/student_t.py -o student_t

The target p is a Student-t of 3 degrees of freedom, `platewise.models.StudentT`, a model without data. `svi.fit` climbs
the bound, which is -D[q || p] here, over each family; moment matching is the normal of the least D[p || q]. Divergences
are then taken by quadrature, free of the noise of draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import matplotlib.pyplot as plt
import pandas as pd
import torch
import typer
from matplotlib.axes import Axes
from platewise.data import RowBatch
from platewise.guides import Flow, MeanFieldNormal, MixtureOfNormals
from platewise.inference import svi
from platewise.models import StudentT
from platewise.models.quadrature import divergence, divergence_integrand, real_line
from torch import Tensor

matplotlib.use("Agg")

FAMILIES: dict[str, Callable[[], Any]] = {
    "normal": MeanFieldNormal,
    "mixture of 3 normals": lambda: MixtureOfNormals(3),
    "flow": Flow,
}
LEARNING_RATE = {"flow": 0.5}  # of its networks and splines it is a small part
MATCHED = "normal, moments matched"
BLUE, ORANGE, GREY = "#0072B2", "#E69F00", "#777777"  # told apart by the colour-blind
SHOWN = (-5.0, 7.0)  # part of the line in the figure
THINNED = 50  # of that many points of the grid one is drawn


@dataclass(frozen=True)
class Approximation:
    """A family's log density on the grid, before the fit (None if there was none) and after it."""

    family: str
    before: Tensor | None
    after: Tensor


def main(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the figure.")] = Path("student_t"),
    steps: Annotated[int, typer.Option(min=1, help="Steps of each fit.")] = 1000,
    particles: Annotated[int, typer.Option(min=1, help="Draws a step.")] = 256,
    seed: Annotated[int, typer.Option(help="Seed of starts and draws.")] = 0,
) -> None:
    """Approximate a Student-t by members of three families; print their divergences, and draw them."""
    model = StudentT().double()
    grid = real_line(model.loc.item(), model.scale.item())
    p = model.log_prob(grid)
    found = [fit(family, model, grid, steps, particles, seed) for family in FAMILIES]
    found.append(Approximation(MATCHED, None, model.matched_normal().log_prob(grid)))
    typer.echo("Divergences in nats; p is a Student-t of 3 degrees of freedom about 1.")
    typer.echo(table(found, p, grid).to_string(index=False, float_format="{:.4f}".format, na_rep="-"))
    output.mkdir(parents=True, exist_ok=True)
    draw(found, p, grid, output / "student_t.png")
    typer.echo(f"Figure: {output / 'student_t.png'}")


def fit(family: str, model: StudentT, grid: Tensor, steps: int, particles: int, seed: int) -> Approximation:
    """Minimise D[q || p] over a family; the normal starts at Normal(0, 1)."""
    torch.manual_seed(seed)
    guide, blank = FAMILIES[family](), RowBatch.blank(1, 1)
    guide.setup(model, blank.to("cpu", torch.float64))
    guide.double()
    if isinstance(guide, MeanFieldNormal):
        guide.set_blocks("x", torch.zeros(1, 1), torch.ones(1, 1))
    before = log_density(guide, grid)
    options = {"epochs": steps, "particles": particles, "learning_rate": LEARNING_RATE.get(family, 0.1)}
    svi.fit(model, guide, None, seed=seed, dtype=torch.float64, progress=False, **options)
    return Approximation(family, before, log_density(guide, grid))


@torch.no_grad()
def log_density(guide: Any, grid: Tensor) -> Tensor:
    """Log density of a guide's `x` at the points of a grid."""
    log_prob: Tensor = guide.posterior(RowBatch.blank(1, 1).to("cpu", grid.dtype))["x"].log_prob(grid)
    return log_prob


def table(found: list[Approximation], p: Tensor, grid: Tensor) -> pd.DataFrame:
    """One line a family: divergences in nats, mean and standard deviation."""
    return pd.DataFrame([_line(q, p, grid) for q in found])


def _line(q: Approximation, p: Tensor, grid: Tensor) -> dict[str, Any]:
    density = q.after.exp()
    mean = torch.trapezoid(density * grid, grid)
    sd = torch.trapezoid(density * (grid - mean) ** 2, grid).sqrt()
    return {
        "family": q.family,
        "D[q||p] before": None if q.before is None else divergence(q.before, p, grid).item(),
        "D[q||p] after": divergence(q.after, p, grid).item(),
        "D[p||q]": divergence(p, q.after, grid).item(),
        "location": mean.item(),
        "sd": sd.item(),
    }


def draw(found: list[Approximation], p: Tensor, grid: Tensor, path: Path) -> None:
    """A panel a family: densities above, and below the integrand whose area is D[q || p]."""
    figure, axes = plt.subplots(2, len(found), figsize=(3.6 * len(found), 6), sharex=True, sharey="row")
    seen = torch.nonzero((grid > SHOWN[0]) & (grid < SHOWN[1]))[::THINNED, 0]
    x = grid[seen]
    for q, (above, below) in zip(found, axes.T, strict=True):
        above.set_title(f"{q.family}\nD[q || p] = {divergence(q.after, p, grid):.4f} nats", fontsize=11)
        _densities(above, x, p[seen], q.after[seen], None if q.before is None else q.before[seen])
        _area(below, x, divergence_integrand(q.after, p)[seen])
    axes[0, 0].set_ylim(bottom=0)  # now: set earlier, it would cut off what the other panels show
    axes[0, 0].set_ylabel("density")
    axes[1, 0].set_ylabel("q log(q / p), nats per unit of x")
    for row in axes:
        row[0].legend(frameon=False, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _densities(axes: Axes, x: Tensor, p: Tensor, after: Tensor, before: Tensor | None) -> None:
    axes.plot(x, p.exp(), color="black", label="target p")
    if before is not None:
        axes.plot(x, before.exp(), color=GREY, linestyle=":", label="q before")
    axes.plot(x, after.exp(), color=BLUE, linestyle="--", label="q after")


def _area(axes: Axes, x: Tensor, integrand: Tensor) -> None:
    axes.plot(x, integrand, color=BLUE)
    axes.fill_between(x, integrand, where=integrand > 0, color=ORANGE, alpha=0.6, label="adds to D[q || p]")
    axes.fill_between(x, integrand, where=integrand < 0, color=BLUE, alpha=0.25, label="takes from it")
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set_xlabel("x")


if __name__ == "__main__":
    typer.run(main)
