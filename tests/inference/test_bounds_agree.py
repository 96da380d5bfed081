"""The bounds against each other, against Pyro's, and on mini-batches, within Monte Carlo errors that are computed."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import RowBatch, RowLoader, simulate_ratings
from platewise.data.loader import MemoryRows
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference.elbo import ClosedFormELBO, SampledELBO
from platewise.models import LatentFactor
from pyro.infer import Trace_ELBO
from scipy import integrate, stats
from torch import Tensor, nn

from ..guides.set_blocks import perturb
from ..regression_model import Regression, RegressionGuide, regression_data
from .monte_carlo import assert_agree, average

GUIDES = pytest.mark.parametrize("family", [MeanFieldNormal, RowBlockNormal])
EXACTLY = torch.zeros(())  # standard error of a value that is known


def _latent_factor(family: type) -> tuple[nn.Module, nn.Module, RowLoader]:
    torch.manual_seed(1)
    ratings, _ = simulate_ratings(LatentFactor(2, sigma=0.5), 12, 8, 45, given={"mu": 3.5})
    loader = RowLoader(MemoryRows(ratings.X), 4, dtype=torch.float64)
    model, guide = LatentFactor(2), family()
    guide.setup(model, loader.look(12), {"mu": (torch.tensor(3.5), torch.tensor(0.5))})
    perturb(guide)
    return model.double(), guide.double(), loader


def _regression(family: type) -> tuple[nn.Module, nn.Module, RowLoader]:
    torch.manual_seed(1)
    ratings, covariates = regression_data(15, 4)
    loader = RowLoader(MemoryRows(ratings.X), 5, covariates=covariates, dtype=torch.float64)
    model = Regression(noise=0.5)
    if family is RegressionGuide:
        return model, RegressionGuide(15), loader
    guide = family()
    guide.setup(model, loader.look(15))
    perturb(guide)
    return model, guide.double(), loader


def _gradient(elbo: nn.Module, batch: RowBatch) -> Tensor:
    """Value and gradient as one vector."""
    parameters = [p for p in elbo.parameters() if p.requires_grad]
    value = elbo(batch)
    grads = torch.autograd.grad(value, parameters)
    return torch.cat([value.detach().reshape(1), *(g.to_dense().flatten() for g in grads)])


@GUIDES
def test_the_closed_form_is_the_expectation_of_the_sampled_bound(family):
    model, guide, loader = _latent_factor(family)
    whole = loader.look(12)
    sampled = SampledELBO(model, guide, particles=100)
    exact = _gradient(ClosedFormELBO(model, guide), whole)
    assert_agree(average(lambda: _gradient(sampled, whole), 60), (exact, EXACTLY))


@GUIDES
def test_the_closed_form_is_the_expectation_of_pyros_bound(family):
    model, guide, loader = _latent_factor(family)
    batch = loader.look(4)  # of 12 rows: the scale counts
    pyros = Trace_ELBO(num_particles=200, vectorize_particles=True, max_plate_nesting=1)
    exact = ClosedFormELBO(model, guide)(batch).detach()
    assert_agree(average(lambda: -pyros.differentiable_loss(model, guide, batch), 30), (exact, EXACTLY))


@pytest.mark.parametrize("family", [MeanFieldNormal, RowBlockNormal, RegressionGuide])
def test_with_a_positive_site_the_sampled_bound_is_pyros(family):
    """No Jacobian is dropped: the divergence of a log-normal from a half-normal is right."""
    model, guide, loader = _regression(family)
    batch = loader.look(15)
    pyros = Trace_ELBO(num_particles=200, vectorize_particles=True, max_plate_nesting=1)
    ours = SampledELBO(model, guide, particles=200)
    assert_agree(average(lambda: ours(batch), 40), average(lambda: -pyros.differentiable_loss(model, guide, batch), 40))


def test_the_divergence_of_a_positive_site_is_that_of_quadrature():
    """D[LogNormal(-0.5, 0.3) || HalfNormal(1)], integrated numerically."""
    q, p = stats.lognorm(s=0.3, scale=np.exp(-0.5)), stats.halfnorm()
    expected, _ = integrate.quad(lambda x: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), 1e-9, 20)

    model, guide, batch = _OneScale(), MeanFieldNormal(), RowBatch.blank(3, 2)
    guide.setup(model, batch, {"scale": (torch.tensor(-0.5), torch.tensor(1.0))})  # 0.3 of the unit at the start
    elbo = SampledELBO(model, guide, particles=500)
    assert_agree(average(lambda: -elbo(batch), 50), (torch.tensor(expected), EXACTLY))


class _OneScale(nn.Module):
    def forward(self, batch: RowBatch) -> None:
        pyro.sample("scale", dist.HalfNormal(torch.ones(())))


@GUIDES
def test_mini_batches_average_to_the_whole_exactly_in_closed_form(family):
    """Value and gradient, over all disjoint mini-batches weighted by their share of the rows."""
    model, guide, loader = _latent_factor(family)
    elbo = ClosedFormELBO(model, guide)
    batches = [loader.batch(rows) for rows in (np.arange(5), np.arange(5, 7), np.arange(7, 12))]
    parts = sum(_gradient(elbo, batch) * len(batch.rows) / 12 for batch in batches)
    torch.testing.assert_close(parts, _gradient(elbo, loader.look(12)), atol=1e-9, rtol=1e-9)


@GUIDES
def test_random_mini_batches_average_to_the_whole_in_closed_form(family):
    model, guide, loader = _latent_factor(family)
    elbo = ClosedFormELBO(model, guide)
    epochs = iter(range(1000))
    first = average(lambda: elbo(next(loader.epoch(next(epochs)))), 300)
    assert_agree(first, (elbo(loader.look(12)).detach(), EXACTLY))


@pytest.mark.parametrize("family", [MeanFieldNormal, RowBlockNormal, RegressionGuide])
def test_random_mini_batches_average_to_the_whole_where_sampled(family):
    model, guide, loader = _regression(family)
    elbo = SampledELBO(model, guide, particles=50)
    epochs = iter(range(1000))
    whole = loader.look(15)
    assert_agree(
        average(lambda: _gradient(elbo, next(loader.epoch(next(epochs)))), 200),
        average(lambda: _gradient(elbo, whole), 60),
    )


def test_sites_in_another_order_are_not_given_a_closed_form():
    """A guide that draws the group scale after the intercepts: the divergence is log q - log p at the draw."""
    model, guide, loader = _regression(MeanFieldNormal)
    batch = loader.look(15)
    guide.tables = nn.ModuleDict(dict(reversed(guide.tables.items())))
    pyros = Trace_ELBO(num_particles=200, vectorize_particles=True, max_plate_nesting=1)
    elbo = SampledELBO(model, guide, particles=200)
    assert_agree(average(lambda: elbo(batch), 40), average(lambda: -pyros.differentiable_loss(model, guide, batch), 40))


class _OneLevel(nn.Module):
    """Entries of one level: the guide has no plate, the model has."""

    def forward(self, batch: RowBatch) -> None:
        level = pyro.sample("level", dist.Normal(torch.zeros(()), 1.0))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(level, 0.5), obs=batch.value)


def test_particles_stand_left_of_the_models_plates_too():
    _, _, loader = _latent_factor(MeanFieldNormal)
    model, guide, batch = _OneLevel(), MeanFieldNormal(), loader.look(12)
    guide.setup(model, batch)
    one, many = SampledELBO(model, guide), SampledELBO(model, guide, particles=100)
    assert_agree(average(lambda: one(batch), 2000), average(lambda: many(batch), 40))
