"""Values that bounds must have exactly, whatever the draws."""

from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import PlatewiseError, RowBatch, RowLoader
from platewise.data.loader import MemoryRows
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference.elbo import ClosedFormELBO, SampledELBO, elbo_of
from platewise.models import LatentFactor
from pyro.infer import Trace_ELBO
from torch import nn
from torch.distributions import AffineTransform

from ..guides.set_blocks import perturb, set_block, set_to_prior
from .conjugate import Lines, exact_posterior, lines_data, log_evidence

GUIDES = pytest.mark.parametrize("family", [MeanFieldNormal, RowBlockNormal])
EXACT = {"atol": 1e-6, "rtol": 0}


def _whole(matrix) -> RowBatch:
    return next(RowLoader(MemoryRows(matrix), matrix.shape[0], dtype=torch.float64).in_order())


@pytest.fixture
def conjugate() -> tuple[nn.Module, nn.Module, RowBatch]:
    """The model, its exact posterior as a guide, and all data."""
    batch = _whole(lines_data())
    model, guide = Lines(5), RowBlockNormal()
    guide.setup(model, batch)
    set_block(guide, "theta", *exact_posterior(model, batch))
    return model, guide.double(), batch


def test_the_exact_posterior_gives_the_log_evidence_at_every_draw(conjugate):
    model, guide, batch = conjugate
    for _ in range(5):
        bound = -Trace_ELBO().differentiable_loss(model, guide, batch)
        torch.testing.assert_close(bound, log_evidence(model, batch), **EXACT)


class Disguised(nn.Module):
    """The same distribution under a name that no closed-form divergence knows."""

    def __init__(self, guide: nn.Module) -> None:
        super().__init__()
        self.guide = guide

    def forward(self, batch: RowBatch) -> None:
        q = self.guide.posterior(batch)["theta"]
        with batch.row_plate("lines"):
            pyro.sample("theta", dist.TransformedDistribution(q, [AffineTransform(0.0, 1.0, event_dim=1)]))


@pytest.mark.parametrize("particles", [1, 3])
def test_so_does_the_sampled_bound_without_closed_form_divergences(conjugate, particles):
    model, guide, batch = conjugate
    elbo = SampledELBO(model, Disguised(guide), particles)
    for _ in range(3):
        torch.testing.assert_close(elbo(batch), log_evidence(model, batch), **EXACT)


def test_the_closed_form_of_the_bound_is_the_log_evidence(conjugate):
    model, guide, batch = conjugate
    elbo = elbo_of(model, guide, batch)
    assert isinstance(elbo, ClosedFormELBO)
    torch.testing.assert_close(elbo(batch), log_evidence(model, batch), **EXACT)


def test_no_other_guide_reaches_the_log_evidence(conjugate):
    model, guide, batch = conjugate
    for _ in range(5):
        perturb(guide, 0.1)
        assert ClosedFormELBO(model, guide)(batch) < log_evidence(model, batch) - 1e-3


def test_the_gradient_is_zero_at_the_exact_posterior(conjugate):
    model, guide, batch = conjugate
    ClosedFormELBO(model, guide)(batch).backward()
    for parameter in guide.parameters():
        torch.testing.assert_close(parameter.grad.to_dense(), torch.zeros_like(parameter), **EXACT)


def _latent_factor(family: type, learned: bool = False) -> tuple[nn.Module, nn.Module, RowBatch]:
    given = {} if learned else {"sigma": 0.5, "user_scale": [0.3, 0.4, 0.5], "item_scale": 0.6}
    model, guide, batch = LatentFactor(2, **given), family(), _whole(lines_data(8, 6))
    guide.setup(model, batch)
    return model, guide.double(), batch


def _without_entries(batch: RowBatch) -> RowBatch:
    return replace(batch, crow=torch.zeros_like(batch.crow), col=batch.col[:0], value=batch.value[:0])


@GUIDES
@pytest.mark.parametrize("bound", [SampledELBO, ClosedFormELBO])
def test_without_data_and_at_the_prior_the_bound_is_zero(family, bound):
    model, guide, batch = _latent_factor(family)
    set_to_prior(guide)
    elbo = bound(model, guide)(_without_entries(batch))
    torch.testing.assert_close(elbo, torch.zeros(()), **EXACT)


@GUIDES
@pytest.mark.parametrize("learned", [False, True])
def test_the_divergence_has_no_variance_over_seeds(family, learned):
    model, guide, batch = _latent_factor(family, learned)
    perturb(guide)
    values = set()
    for seed in range(4):
        torch.manual_seed(seed)
        values.add(ClosedFormELBO(model, guide).divergence(batch, guide.posterior(batch)).item())
        values.add(-SampledELBO(model, guide)(_without_entries(batch)).item())
    assert max(values) - min(values) < 1e-9 * max(values)


@GUIDES
def test_the_divergence_is_that_of_multivariate_normals(family):
    model, guide, batch = _latent_factor(family)
    perturb(guide)
    q, expected = guide.posterior(batch), torch.zeros(())
    for name, scale in (("user", [0.3, 0.4, 0.5]), ("item", [0.6] * 3)):
        cov = getattr(q[name], "covariance_matrix", torch.diag_embed(q[name].variance))
        full = dist.MultivariateNormal(q[name].mean, cov)
        prior = dist.MultivariateNormal(torch.zeros(3), torch.diag(torch.tensor(scale) ** 2))
        expected += torch.distributions.kl_divergence(full, prior).sum()
    expected += torch.distributions.kl_divergence(q["mu"], dist.Normal(torch.zeros(()), 100.0))
    torch.testing.assert_close(ClosedFormELBO(model, guide).divergence(batch, q), expected, **EXACT)


def test_a_closed_form_that_is_not_there_is_refused(conjugate):
    model, guide, batch = conjugate
    with pytest.raises(PlatewiseError, match="Expected a closed form of Lines's likelihood under Disguised, got none"):
        elbo_of(model, Disguised(guide), batch, "closed-form")
    assert isinstance(elbo_of(model, Disguised(guide), batch), SampledELBO)
    assert isinstance(elbo_of(model, guide, batch, "sampled"), SampledELBO)
