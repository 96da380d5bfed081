import pyro.distributions as dist
import pytest
import torch
from platewise.guides.kl import kl_block_normal
from torch.distributions import kl_divergence


def _block(*batch: int, d: int = 4) -> dist.MultivariateNormal:
    lower = torch.randn(*batch, d, d).tril(-1) + torch.diag_embed(torch.rand(*batch, d) + 0.3)
    return dist.MultivariateNormal(torch.randn(*batch, d), scale_tril=lower)


def _prior(*batch: int, d: int = 4) -> dist.Independent:
    return dist.Normal(torch.randn(*batch, d), torch.rand(*batch, d) + 0.5).to_event(1)


@pytest.mark.parametrize(
    ("q_batch", "p_batch"), [((), ()), ((5,), (5,)), ((2, 5), (2, 5)), ((5,), ()), ((3, 1), (1, 5))]
)
def test_it_is_the_divergence_of_multivariate_normals(q_batch, p_batch):
    q, p = _block(*q_batch), _prior(*p_batch)
    full = dist.MultivariateNormal(p.mean, scale_tril=torch.diag_embed(p.stddev))
    expected = kl_divergence(q.expand(torch.broadcast_shapes(q_batch, p_batch)), full)
    torch.testing.assert_close(kl_divergence(q, p), expected, atol=1e-6, rtol=0)


def test_it_is_registered_and_not_estimated():
    q, p = _block(5), _prior(5)
    assert torch.equal(kl_divergence(q, p), kl_block_normal(q, p))


def test_monte_carlo_agrees():
    q, p = _block(), _prior()
    z = q.sample((100_000,))
    ratio = q.log_prob(z) - p.log_prob(z)
    error = ratio.std() / len(z) ** 0.5
    assert abs(kl_divergence(q, p) - ratio.mean()) < 4 * error


def test_it_is_zero_at_the_prior():
    p = _prior(5)
    q = dist.MultivariateNormal(p.mean, scale_tril=torch.diag_embed(p.stddev))
    torch.testing.assert_close(kl_divergence(q, p), torch.zeros(5), atol=1e-12, rtol=0)


def test_its_gradient_is_right():
    loc, lower, mean, scale = (
        torch.randn(3),
        torch.eye(3) + 0.2 * torch.randn(3, 3).tril(-1),
        torch.randn(3),
        torch.rand(3) + 1,
    )

    def divergence(loc, lower, mean, scale):
        q = dist.MultivariateNormal(loc, scale_tril=lower.tril(), validate_args=False)
        return kl_block_normal(q, dist.Normal(mean, scale, validate_args=False).to_event(1))

    inputs = tuple(x.requires_grad_() for x in (loc, lower, mean, scale))
    assert torch.autograd.gradcheck(divergence, inputs)


@pytest.mark.parametrize(
    "p", [dist.Laplace(torch.zeros(4), 1.0).to_event(1), dist.Normal(torch.zeros(2, 4), 1.0).to_event(2)]
)
def test_other_priors_have_no_closed_form(p):
    with pytest.raises(NotImplementedError):
        kl_divergence(_block(), p)
