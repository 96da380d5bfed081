"""The amortised flow: its start, its density against its inverse and by quadrature, its bound, and extremes."""

from typing import ClassVar

import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data.batches import RowBatch
from platewise.data.errors import PlatewiseError
from platewise.guides import AmortizedFlow
from platewise.inference import svi
from platewise.inference.elbo import SampledELBO
from platewise.models import VAE
from platewise.posterior import score_rows
from platewise.testing.contract import ContractTests

from ..count_data import small_counts
from ..models.test_vae import batch_of


class FlowContract(ContractTests):
    make_model = staticmethod(lambda: VAE(3, hidden=8))
    make_guide = staticmethod(lambda: AmortizedFlow(hidden=8, context=4, units=6))
    make_data = staticmethod(small_counts)


class TestContract(FlowContract):
    pass


class TestSeveralParticles(FlowContract):
    options: ClassVar = {"particles": 3}


def numbers_and_vectors(batch: RowBatch) -> None:
    with batch.row_plate("cells"):
        library = pyro.sample("library", dist.Normal(7.0, 0.5))
        z, w = (pyro.sample(name, dist.Normal(torch.zeros(2), 1).to_event(1)) for name in "zw")
        pyro.sample("total", dist.Normal(library.exp() + (z * w).sum(-1), 1), obs=batch.totals())


class TestSeveralSites(FlowContract):
    make_model = staticmethod(lambda: numbers_and_vectors)


def made(latent: int, spread: float = 1.0, n_rows: int = 60):
    """A model, a guide in evaluation mode whose maps bend (unless `spread` is 0), and a batch."""
    batch = batch_of(small_counts()[:n_rows])
    model, guide = VAE(latent, hidden=8), AmortizedFlow(hidden=8, context=4, units=6)
    model.allocate(batch)
    guide.setup(model, batch)
    for x in guide.maps.parameters():
        x.data += spread * torch.randn_like(x)
    return model.double().eval(), guide.double().eval(), batch


def test_it_starts_near_independent_normals() -> None:
    _, guide, batch = made(3, spread=0.0)
    q = guide.posterior(batch)["z"]
    torch.testing.assert_close(q.log_prob(q.base_dist.mean), q.base_dist.log_prob(q.base_dist.mean), atol=0.2, rtol=0)


@pytest.mark.parametrize("latent", [2, 5])
def test_the_density_of_a_draw_is_that_of_the_same_value_from_elsewhere(latent: int) -> None:
    _, guide, batch = made(latent)
    q = guide.posterior(batch)["z"]
    z = q.rsample((7,))
    torch.testing.assert_close(guide.posterior(batch)["z"].log_prob(z.clone()), q.log_prob(z), rtol=1e-8, atol=1e-8)


def test_every_map_is_undone_by_its_inverse() -> None:
    _, guide, batch = made(4)
    for each in guide.posterior(batch)["z"].transforms:
        x = torch.randn(3, 60, 4)
        torch.testing.assert_close(each._inverse(each(x)), x, rtol=1e-8, atol=1e-8)


def test_the_jacobian_is_that_of_automatic_differentiation() -> None:
    _, guide, batch = made(3)
    first = guide.posterior(batch)["z"].transforms[0]
    x = torch.randn(60, 3)
    jacobian = torch.autograd.functional.jacobian(lambda one: first(one.expand(60, 3))[0], x[0])
    torch.testing.assert_close(first.log_abs_det_jacobian(x[:1].expand(60, 3), x)[0], jacobian.det().abs().log())


@pytest.mark.parametrize("latent", [1, 2])
def test_densities_integrate_to_one(latent: int) -> None:
    _, guide, batch = made(latent, spread=0.3, n_rows=3)
    edges = torch.linspace(-25, 25, 501)
    grid = torch.cartesian_prod(*[edges] * latent).reshape(-1, 1, latent).expand(-1, 3, -1)
    with torch.no_grad():
        mass = guide.posterior(batch)["z"].log_prob(grid).exp().sum(0) * (edges[1] - edges[0]) ** latent
    torch.testing.assert_close(mass, torch.ones(3), atol=1e-3, rtol=0)


def test_density_and_draws_agree_in_single_precision_as_well() -> None:
    _, guide, batch = made(3)
    q = guide.float().posterior(batch.to("cpu", torch.float32))["z"]
    z = q.rsample()
    assert z.dtype == torch.float32
    again = guide.posterior(batch.to("cpu", torch.float32))["z"].log_prob(z.clone())
    torch.testing.assert_close(again, q.log_prob(z), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("push", [-1e6, 1e6])
def test_extremes_leave_the_bound_and_its_gradients_finite(push: float) -> None:
    model, guide, batch = made(3)
    guide.encoder.output.bias.data[3:] = push
    bound = SampledELBO(model, guide)(batch)
    bound.backward()
    assert bound.isfinite()
    assert all(x.grad.isfinite().all() for x in guide.parameters())
    assert guide.posterior(batch)["z"].log_prob(torch.full((60, 3), push)).isfinite().all()


def test_its_divergence_is_that_of_many_draws() -> None:
    """By Monte Carlo and unbiased: the mean over draws is the mean of log q - log p of others."""
    model, guide, batch = made(2, spread=0.3, n_rows=4)
    with torch.no_grad():
        q = guide.posterior(batch)["z"]
        z = q.sample((1000,))
        ratio = (q.log_prob(z) - dist.Normal(torch.zeros(2), 1).to_event(1).log_prob(z)).sum(-1)
        found = SampledELBO(model, guide, 1000).terms(batch)[1]
    assert abs(found - ratio.mean()) < 4 * 2**0.5 * ratio.std() / 1000**0.5


def test_a_fit_is_scored_row_by_row() -> None:
    options = {"epochs": 2, "batch_rows": 20, "device": "cpu", "progress": False}
    fitted = svi.fit(VAE(2, hidden=8), AmortizedFlow(hidden=8), small_counts(), **options)
    found = score_rows(fitted, small_counts(), draws=20)
    assert (found["log_likelihood_iw"] >= found["elbo"]).all()


def test_a_saved_fit_draws_alike(tmp_path) -> None:
    options = {"epochs": 1, "device": "cpu", "progress": False}
    fitted = svi.fit(VAE(3, hidden=8), AmortizedFlow(8, maps=3, context=2, units=1), small_counts(), **options)
    fitted.save(tmp_path / "run")
    batch = batch_of(small_counts()).to("cpu", torch.float32)
    draws = []
    for each in (fitted, svi.Fitted.load(tmp_path / "run")):
        torch.manual_seed(0)
        draws.append(each.guide.eval()(batch)["z"])
    assert torch.equal(*draws)


def test_misuse_gets_one_line() -> None:
    with pytest.raises(PlatewiseError, match="maps, context and units of at least 1, got 0, 16 and 64"):
        AmortizedFlow(maps=0)
