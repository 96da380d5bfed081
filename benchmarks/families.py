"""Families of guides on five targets whose normalising constants are known: the divergence that each ends at.

    python benchmarks/families.py [--steps 1000] [--particles 64] [--seeds 3]

Every family is fitted by `svi.fit(target, guide, None)` at the same steps, draws and seeds. D[q || p] is then found by
quadrature in two dimensions, by Monte Carlo in ten. The table has the median of the seeds; its error is that of the
Monte Carlo and the spread of the seeds together. Along factorised <= full <= flow and factorised <= mixture, the script
names each richer family that ended worse than a poorer one by more than three such errors.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pyro
import pyro.distributions as dist
import torch
import typer
from platewise.data import RowBatch
from platewise.guides import Flow, FullNormal, JointGuide, LowRankNormal, MeanFieldNormal, MixtureOfNormals
from platewise.inference import svi
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.distributions import Distribution, TransformedDistribution

FAMILIES: dict[str, Callable[[], Any]] = {
    "factorised": MeanFieldNormal,
    "low-rank": LowRankNormal,
    "full": FullNormal,
    "mixture of 3": MixtureOfNormals,
    "flow": Flow,
}
CHAINS = (("factorised", "full", "flow"), ("factorised", "mixture of 3"))
POINTS = 401  # of quadrature, a side
DRAWS = 40_000  # of Monte Carlo


class Target(nn.Module):
    """A law of d numbers, as a model without data: site `z`, drawn about a wide normal and reweighted.

    Args:
        log_prob: Its log density, normalised.
        d: Numbers.
    """

    def __init__(self, log_prob: Callable[[Tensor], Tensor], d: int) -> None:
        super().__init__()
        self.log_prob, self.d = log_prob, d

    def forward(self, batch: RowBatch) -> None:
        """Run the program: minus the bound of a guide is its divergence from the target."""
        wide = dist.Normal(batch.value.new_zeros(self.d), 3.0).to_event(1)
        z = pyro.sample("z", wide)
        pyro.factor("target", self.log_prob(z) - wide.log_prob(z))


def correlated(z: Tensor) -> Tensor:
    """A normal of correlation 0.9."""
    return dist.MultivariateNormal(z.new_tensor([1.0, -1.0]), z.new_tensor([[1.0, 1.35], [1.35, 2.25]])).log_prob(z)


def banana(z: Tensor) -> Tensor:
    """A normal bent along a parabola."""
    x, y = z.unbind(-1)
    return dist.Normal(0.0, 2.0).log_prob(x) + dist.Normal(0.5 * x**2 - 2.0, 0.5).log_prob(y)


def two_modes(z: Tensor) -> Tensor:
    """Two normals four apart, of weights 0.4 and 0.6."""
    one = dist.Normal(z.new_tensor([-2.0, 0.0]), z.new_tensor([0.7, 1.0])).to_event(1).log_prob(z)
    other = dist.Normal(z.new_tensor([2.0, 1.0]), z.new_tensor([0.5, 0.7])).to_event(1).log_prob(z)
    return torch.logaddexp(one + math.log(0.4), other + math.log(0.6))


def funnel(z: Tensor) -> Tensor:
    """A number whose exponential is the variance of another (Neal 2003, in two dimensions, scale 1.5)."""
    v, x = z.unbind(-1)
    return dist.Normal(0.0, 1.5).log_prob(v) + dist.Normal(0.0, (v / 2).exp()).log_prob(x)


def student_t(z: Tensor) -> Tensor:
    """Ten dimensions, 5 degrees of freedom, correlations 0.5."""
    shape = 0.5 * torch.eye(10).to(z) + 0.5
    return dist.MultivariateStudentT(z.new_tensor(5.0), z.new_zeros(10), torch.linalg.cholesky(shape)).log_prob(z)


TARGETS = {
    "correlated normal": Target(correlated, 2),
    "banana": Target(banana, 2),
    "two modes": Target(two_modes, 2),
    "funnel": Target(funnel, 2),
    "Student-t, 10 dimensions": Target(student_t, 10),
}


def main(
    steps: Annotated[int, typer.Option(help="Steps of each fit.")] = 1000,
    particles: Annotated[int, typer.Option(help="Draws a step.")] = 64,
    seeds: Annotated[int, typer.Option(help="Fits of each, of which the table has the median.")] = 3,
) -> None:
    """Print the table, and where a richer family ended worse."""
    table = Table("target", *FAMILIES, title="D(q || p) in nats")
    worse = []
    for name, target in TARGETS.items():
        row = {family: ended(target, make, steps, particles, seeds) for family, make in FAMILIES.items()}
        table.add_row(name, *(f"{median:.4f} +- {error:.4f}" for median, error in row.values()))
        worse += [f"{name}: {richer} ended worse than {poorer}" for poorer, richer in inversions(row)]
    Console(width=140).print(table)
    typer.echo("\n".join(worse) or "no richer family ended worse than a poorer one beyond three errors")


def ended(target: Target, make: Callable[[], Any], steps: int, particles: int, seeds: int) -> tuple[float, float]:
    """Median divergence over seeds, and its error: of the Monte Carlo and between seeds."""
    fits = [divergence(target, make(), steps, particles, seed) for seed in range(seeds)]
    values = [value for value, _ in fits]
    between = statistics.stdev(values) if seeds > 1 else 0.0
    return statistics.median(values), math.hypot(between, fits[0][1])


def divergence(target: Target, guide: Any, steps: int, particles: int, seed: int) -> tuple[float, float]:
    """Fit a guide to a target; D[q || p], and its standard error where it is found by Monte Carlo."""
    options: dict[str, Any] = {"epochs": steps, "particles": particles, "final": 1e-3, "seed": seed, "progress": False}
    fitted = svi.fit(target, guide, None, dtype=torch.float64, **options)
    q = guide.joint() if isinstance(guide, JointGuide) else guide.posterior(fitted.blank_batch())["z"]
    with torch.no_grad():
        return by_quadrature(q, target) if target.d == 2 else by_monte_carlo(q, target)


def by_quadrature(q: Distribution, target: Target) -> tuple[float, float]:
    """D[q || p] in the plane: over a flow's base, where nothing is steep, or along the axes of the draws."""
    steps = torch.linspace(-8, 8, POINTS, dtype=torch.float64)
    grid, cell = torch.cartesian_prod(steps, steps), (16 / (POINTS - 1)) ** 2
    if isinstance(q, TransformedDistribution):
        value, log_q = grid, q.base_dist.log_prob(grid)
        weight = log_q.exp() * cell
        for bend in q.transforms:
            bent = bend(value)
            log_q, value = log_q - bend.log_abs_det_jacobian(value, bent), bent
    else:
        drawn = q.sample(torch.Size([10_000]))
        axes = torch.linalg.cholesky(drawn.T.cov())
        value = drawn.mean(0) + grid @ axes.T
        log_q = q.log_prob(value)
        weight = log_q.exp() * cell * axes.det()
    return float((weight * (log_q - target.log_prob(value))).sum()), 0.0


def by_monte_carlo(q: Distribution, target: Target) -> tuple[float, float]:
    """D[q || p] at draws, and its standard error."""
    torch.manual_seed(12345)
    value = q.sample(torch.Size([DRAWS]))
    terms = q.log_prob(value) - target.log_prob(value)
    return float(terms.mean()), float(terms.std() / math.sqrt(DRAWS))


def inversions(row: dict[str, tuple[float, float]]) -> Iterator[tuple[str, str]]:
    """Pairs of families of which the richer ended worse than the poorer, beyond three errors."""
    for chain in CHAINS:
        for k, poorer in enumerate(chain):
            for richer in chain[k + 1 :]:
                (a, error), (b, other) = row[poorer], row[richer]
                if b - a > 3 * math.hypot(error, other):
                    yield poorer, richer


if __name__ == "__main__":
    typer.run(main)
