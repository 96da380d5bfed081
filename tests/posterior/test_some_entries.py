"""Some elements of many independent ones are distributed as they were among them."""

import pyro.distributions as dist
import pytest
import torch
from platewise.posterior.some_entries import of_some

AT = torch.tensor([7, 0, 4])


@pytest.mark.parametrize(
    "many",
    [
        dist.Normal(torch.randn(3, 4), torch.tensor(0.5)),
        dist.Poisson(torch.rand(3, 4)),
        dist.Bernoulli(logits=torch.randn(3, 4)),
        dist.NegativeBinomial(torch.rand(4) + 0.5, logits=torch.randn(3, 4)),
        dist.ZeroInflatedNegativeBinomial(
            torch.rand(4) + 0.5, logits=torch.randn(3, 4), gate_logits=torch.randn(3, 4).expand(3, 4)
        ),
    ],
    ids=lambda many: type(many).__name__,
)
def test_some_of_many(many):
    value = many.sample()
    some = of_some(many, AT)
    assert some.batch_shape == (3,)
    torch.testing.assert_close(some.log_prob(value.reshape(-1)[AT]), many.log_prob(value).reshape(-1)[AT])
    drawn, expected = some.sample((4000,)), many.sample((4000,)).reshape(4000, -1)[:, AT]
    error = (drawn.var(0) + expected.var(0)).sqrt() / 4000**0.5
    assert ((drawn.mean(0) - expected.mean(0)).abs() < 5 * error + 1e-6).all()
