"""Negative binomial rows where numbers are hard: in single precision, and at the ends of the dispersion."""

import math

import pytest
import torch
from platewise.data import RowBatch
from platewise.models import NegativeBinomialRows, PoissonRows, ZeroInflatedNegativeBinomialRows

from .likelihood_rows import a_batch


def grid() -> tuple[RowBatch, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every count, mean and inverse dispersion that matters, one to a row: all rows have one column."""
    counts = torch.tensor([0, 1, 2, 10, 100, 1e3, 1e4, 1e5])
    log_means, log_thetas = (math.log(10) * torch.linspace(*ends, 15) for ends in ((-8, 6), (-4, 4)))
    zero_logits = torch.tensor([-20.0, -3, 0, 3, 20])
    x, m, r, z = (t.flatten() for t in torch.meshgrid(counts, log_means, log_thetas, zero_logits, indexing="ij"))
    stored = x > 0
    crow = torch.cat([torch.zeros(1, dtype=torch.long), stored.cumsum(0)])
    col = torch.zeros(int(stored.sum()), dtype=torch.long)
    batch = RowBatch(torch.arange(len(x)), crow, col, x[stored].float(), len(x), 1)
    return batch, *(t.float()[:, None] for t in (m, r, z))


@pytest.mark.parametrize("kind", [NegativeBinomialRows, ZeroInflatedNegativeBinomialRows])
def test_single_precision_has_four_digits_everywhere(kind):
    batch, *parameters = grid()
    parameters = parameters[: len(kind.arg_constraints)]
    # one count, mean and dispersion a row, and the gradients of a sum over rows are those of each row
    got, want = (
        value_and_gradients_of_sum(kind, batch, [x.to(dtype) for x in parameters])
        for dtype in (torch.float32, torch.float64)
    )
    if kind is NegativeBinomialRows:  # where mean and count are equal, the difference of sigmoids is all rounding
        mean, theta = (x.double().exp() for x in parameters)
        want[1] = (batch.dense().double() - mean) / (1 + mean / theta)
    # at theta = 1e4 a gradient of 1e-12 is all rounding in float64 too: digammas of 1e4 cancel
    for a, b, atol in zip(got, want, (1e-30, 1e-12, 1e-9, 1e-30), strict=False):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=atol)


def value_and_gradients_of_sum(kind, batch, parameters):
    leaves = [x.clone().requires_grad_() for x in parameters]
    log_prob = kind(batch, *leaves).log_prob(batch.value)
    return [log_prob, *torch.autograd.grad(log_prob.sum(), leaves)]


def test_the_negative_binomial_is_poisson_far_from_dispersion():
    batch = a_batch()
    log_mean = torch.randn(3, 4)
    poisson = PoissonRows(batch, log_mean).log_prob(batch.value)
    for log_theta in (9.0, 12.0, 80.0):
        rows = NegativeBinomialRows(batch, log_mean, torch.full((4,), log_theta))
        torch.testing.assert_close(rows.log_prob(batch.value), poisson, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_dispersion_is_itself_inside_its_bounds_and_has_a_gradient_outside(sign):
    batch = a_batch()
    log_mean = torch.ones(3, 4)
    inside = NegativeBinomialRows(batch, log_mean, torch.full((4,), sign * 9.2))
    torch.testing.assert_close(inside.variance, math.e + math.e**2 * torch.exp(torch.tensor(-9.2 * sign)).expand(3, 4))
    far = torch.full((4,), sign * 30.0, requires_grad=True)
    rows = NegativeBinomialRows(batch, log_mean, far)
    theta = (math.e**2 / (rows.variance - math.e)).log() * sign
    assert ((theta > math.log(1e4)) & (theta < math.log(1e4) + 1)).all()
    (grad,) = torch.autograd.grad(rows.log_prob(batch.value).sum(), far)
    assert (grad != 0).all()
