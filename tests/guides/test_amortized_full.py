"""The amortised normal with full covariance: its start, its divergence, and what its covariances are worth."""

from typing import ClassVar

import pyro.distributions as dist
import pytest
import torch
from platewise.data.batches import RowBatch
from platewise.guides import AmortizedFullNormal, AmortizedNormal
from platewise.inference.elbo import SampledELBO
from platewise.models import VAE
from platewise.testing.contract import ContractTests
from torch.distributions import kl_divergence

from ..count_data import N_GENES, small_counts
from ..models.test_vae import batch_of


class FullContract(ContractTests):
    make_model = staticmethod(lambda: VAE(3, hidden=8))
    make_guide = staticmethod(lambda: AmortizedFullNormal(hidden=8))
    make_data = staticmethod(small_counts)


class TestContract(FullContract):
    pass


class TestSeveralParticles(FullContract):
    options: ClassVar = {"particles": 3}


class TestOneDimension(FullContract):
    make_model = staticmethod(lambda: VAE(1, hidden=8))


def made(spread: float = 0.0):
    """Model and guide in evaluation mode, and a batch; covariances drawn at random if `spread` is not 0."""
    batch = batch_of(small_counts())
    model, guide = VAE(3, hidden=8), AmortizedFullNormal(hidden=8)
    model.allocate(batch)
    guide.setup(model, batch)
    model.double().eval()
    guide.double().eval().encoder.output.weight.data.add_(spread * torch.randn(9, 8))
    return model, guide, batch


def test_it_starts_with_independent_components() -> None:
    _, guide, batch = made()
    covariance = guide.posterior(batch)["z"].covariance_matrix
    assert torch.equal(covariance, torch.diag_embed(covariance.diagonal(dim1=-2, dim2=-1)))


def test_its_divergence_is_the_dense_one_whatever_the_seed() -> None:
    model, guide, batch = made(spread=0.3)
    q = guide.posterior(batch)["z"]
    expected = kl_divergence(q, dist.MultivariateNormal(torch.zeros(3), torch.eye(3))).sum()
    found = []
    for seed in range(3):
        torch.manual_seed(seed)
        found.append(SampledELBO(model, guide).terms(batch)[1])
    torch.testing.assert_close(torch.stack(found), expected.expand(3), rtol=1e-10, atol=0)


@pytest.mark.parametrize("push", [-1e6, 1e6])
def test_gradients_are_finite_at_the_bounds_of_scales(push: float) -> None:
    model, guide, batch = made(spread=0.3)
    guide.encoder.output.bias.data[3:6] = push
    SampledELBO(model, guide)(batch).backward()
    assert all(x.grad.isfinite().all() for x in guide.parameters())


def linear_gaussian() -> tuple[VAE, RowBatch]:
    """A linear decoder whose columns are far from orthogonal, so that components depend given a row; and some rows."""
    batch, model = batch_of(small_counts()), VAE(2, "gaussian", layers=0)
    model.allocate(batch)
    model.double().eval().initialise(batch)
    shared = model.log_sigma.detach().exp() / N_GENES**0.5
    weight = torch.stack([shared, shared * (1 + 0.5 * torch.randn(N_GENES))], -1)
    model.decoder.output.weight.data.copy_(3 * weight)
    return model.requires_grad_(False), batch_of(small_counts()[:5])


def log_evidence(model: VAE, batch: RowBatch) -> float:
    weight = model.decoder.output.weight
    covariance = weight @ weight.T + torch.diag((2 * model.log_sigma).exp())
    return float(dist.MultivariateNormal(model.decoder.output.bias, covariance).log_prob(batch.dense()).mean())


def bound_reached(guide, model: VAE, batch: RowBatch) -> float:
    """Nats a row, after a short climb on all rows."""
    guide.setup(model, batch)
    elbo, optimizer = SampledELBO(model, guide.double(), 4), torch.optim.Adam(guide.parameters(), 0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 150)
    for _ in range(150):
        optimizer.zero_grad()
        (-elbo(batch) / 5).backward()
        optimizer.step()
        schedule.step()
    elbo.particles = 2000
    with torch.no_grad():
        return float(elbo(batch)) / 5


def test_dependent_components_bring_the_bound_nearer_to_the_evidence() -> None:
    model, batch = linear_gaussian()
    exact = log_evidence(model, batch)
    gaps = {
        kind: exact - bound_reached(kind(hidden=32, dropout=0.0), model, batch)
        for kind in (AmortizedNormal, AmortizedFullNormal)
    }
    precision = torch.eye(2) + (w := model.decoder.output.weight / model.log_sigma.exp()[:, None]).T @ w
    best_diagonal = 0.5 * float(precision.diagonal().log().sum() - precision.logdet())  # at the same means
    assert gaps[AmortizedNormal] > 0.9 * best_diagonal
    assert -0.02 < gaps[AmortizedFullNormal] < 0.5 * gaps[AmortizedNormal]
