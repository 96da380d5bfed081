"""Gradients of the bound, by every parameter of every family, are those of the divergence by quadrature, on average."""

from dataclasses import replace
from functools import partial

import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import RowBatch
from platewise.guides import Flow, FullNormal, LowRankNormal, MeanFieldNormal, MixtureOfNormals, RowBlockNormal
from platewise.inference.elbo import elbo_of
from torch import nn

from .set_blocks import perturb

FAMILIES = {
    "mean-field": MeanFieldNormal,
    "row-block": RowBlockNormal,
    "full": FullNormal,
    "low-rank": partial(LowRankNormal, 1),
    "mixture": partial(MixtureOfNormals, 2),
    "flow": partial(Flow, maps=1, units=4),
}
BATCH = RowBatch.blank(1, 1)
REPEATS, DRAWS = 30, 1000
BY_QUADRATURE = 1e-5  # error of the truth
LIMIT = 6.0  # standard errors: of 100 t-variables with 29 degrees of freedom, one is beyond in 6,000 runs


class Line(nn.Module):
    """One number without data: the bound is minus the divergence from its prior."""

    def forward(self, batch: RowBatch) -> None:
        pyro.sample("x", dist.StudentT(3.0, torch.tensor(1.0), 1.0))


class Plane(nn.Module):
    """Two numbers, the second bent about the first."""

    def forward(self, batch: RowBatch) -> None:
        x = pyro.sample("x", dist.Normal(torch.tensor(0.5), 1.0))
        pyro.sample("y", dist.Normal(0.4 * x**2, 0.8))


class Vector(nn.Module):
    """The same as one vector, for guides that take elements on their own."""

    def forward(self, batch: RowBatch) -> None:
        pyro.sample("v", Bent())


class Bent(dist.TorchDistribution):
    """The law of `Plane`, as one of vectors."""

    arg_constraints = {}  # noqa: RUF012
    support = dist.constraints.real_vector

    def __init__(self, shape: torch.Size = torch.Size()) -> None:  # noqa: B008
        super().__init__(shape, torch.Size([2]), validate_args=False)

    def expand(self, shape, _instance=None):
        return Bent(torch.Size(shape))

    mean = property(lambda self: torch.tensor([0.5, 0.5]).expand(*self.batch_shape, 2))
    stddev = property(lambda self: torch.ones(*self.batch_shape, 2))

    def sample(self, sample_shape=torch.Size()):  # noqa: B008
        return torch.zeros(*sample_shape, *self.batch_shape, 2)

    def log_prob(self, v: torch.Tensor) -> torch.Tensor:
        x, y = v.unbind(-1)
        return dist.Normal(0.5, 1.0).log_prob(x) + dist.Normal(0.4 * x**2, 0.8).log_prob(y)


def made(make, model: nn.Module) -> nn.Module:
    guide = make()
    guide.setup(model, BATCH)
    perturb(guide.double(), 0.2)
    return guide


def estimated(model: nn.Module, guide: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean gradient of the bound, and its standard error."""
    batch = replace(BATCH, crow=torch.zeros(2, dtype=torch.long), col=BATCH.col[:0], value=BATCH.value[:0].double())
    elbo, parameters = elbo_of(model, guide, batch, "sampled", DRAWS), list(guide.parameters())
    grads = [torch.autograd.grad(elbo(batch), parameters) for _ in range(REPEATS)]
    flat = torch.stack([torch.cat([g.flatten() for g in each]) for each in grads])
    return flat.mean(0), flat.std(0) / REPEATS**0.5


def by_quadrature(log_q: torch.Tensor, log_p: torch.Tensor, cell: float, guide: nn.Module) -> torch.Tensor:
    assert abs(log_q.exp().sum() * cell - 1) < 1e-4
    divergence = (log_q.exp() * (log_q - log_p)).sum() * cell
    return -torch.cat([g.flatten() for g in torch.autograd.grad(divergence, list(guide.parameters()))])


def same(found: tuple[torch.Tensor, torch.Tensor], truth: torch.Tensor) -> None:
    mean, error = found
    assert truth.abs().max() > 10 * error.max(), "the gradient has to be seen above its noise"
    off = (mean - truth).abs() - (LIMIT * error + BY_QUADRATURE)
    assert (off <= 0).all(), f"{mean[off.argmax()]} +- {error[off.argmax()]}, got {truth[off.argmax()]}"


@pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)
def test_in_one_dimension(make):
    guide, grid = made(make, Line()), torch.linspace(-12, 14, 20001)
    log_q = (
        guide.joint().log_prob(grid[:, None]) if hasattr(guide, "joint") else guide.posterior(BATCH)["x"].log_prob(grid)
    )
    log_p = dist.StudentT(3.0, 1.0, 1.0).log_prob(grid)
    same(estimated(Line(), guide), by_quadrature(log_q, log_p, 26 / 20000, guide))


@pytest.mark.parametrize("name", ["mean-field", "row-block", "full", "low-rank", "mixture"])
def test_in_two_dimensions(name):
    model = Vector() if name in ("mean-field", "row-block") else Plane()
    guide = made(FAMILIES[name], model)
    q = guide.joint() if hasattr(guide, "joint") else guide.posterior(BATCH)["v"]
    drawn = q.sample((1000,)).reshape(-1, 2)
    axes = torch.linalg.cholesky(drawn.T.cov())
    grid = drawn.mean(0) + STEPS @ axes.T
    log_q, cell = q.log_prob(grid), float(CELL * axes.det())
    same(estimated(model, guide), by_quadrature(log_q, Bent().log_prob(grid), cell, guide))


STEPS = torch.cartesian_prod(*[torch.linspace(-8, 8, 401, dtype=torch.float64)] * 2)  # standard deviations
CELL = (16 / 400) ** 2


@pytest.mark.slow
def test_of_a_flow_in_two_dimensions():
    """By scrambled nets over the base: gradients jump at the kinks of a flow, where a grid is off by 0.005."""
    guide = made(FAMILIES["flow"], Plane())
    nets = torch.stack([by_net(guide, seed) for seed in range(8)])
    (mean, error), truth, off = estimated(Plane(), guide), nets.mean(0), nets.std(0) / 8**0.5
    assert off.max() < 2e-4
    same((mean, torch.hypot(error, off)), truth)


def by_net(guide: nn.Module, seed: int) -> torch.Tensor:
    """Gradient of the bound at Sobol's points, and that draws are scored as values from elsewhere are."""
    unit = torch.quasirandom.SobolEngine(2, scramble=True, seed=seed).draw(2**17, dtype=torch.float64)
    value = dist.Normal(0.0, 1.0).icdf(unit.clamp(1e-12, 1 - 1e-12))
    log_q = dist.Normal(0.0, 1.0).log_prob(value).sum(-1)
    for bend in guide.joint().transforms:
        bent = bend(value)
        log_q = log_q - bend.log_abs_det_jacobian(value, bent)
        value = bent
    divergence = (log_q - Bent().log_prob(value)).mean()
    torch.testing.assert_close(guide.joint().log_prob(value[::97].detach()), log_q[::97], atol=2e-3, rtol=1e-6)
    return -torch.cat([g.flatten() for g in torch.autograd.grad(divergence, list(guide.parameters()))])
