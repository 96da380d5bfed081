"""Dropout: the share left out, the mean kept, nothing out of training."""

import pytest
import torch
from platewise.data.dropout import Dropout, dropout


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.9])
def test_share_and_size_of_what_is_kept(rate):
    x = torch.ones(501, 399)
    out = dropout(x, rate, training=True)
    assert (out == 0).double().mean().item() == pytest.approx(rate, abs=0.005)
    assert out[out != 0].unique().item() == pytest.approx(1 / (1 - rate), rel=2e-4)
    assert not torch.equal(out, dropout(x, rate, training=True))


def test_the_gradient_is_that_of_what_was_kept():
    x = torch.randn(7, 5, requires_grad=True)
    out = dropout(x, 0.5, training=True)
    (grad,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(grad, (out / x).detach())


def test_nothing_is_left_out_of_an_empty_tensor_at_rate_0_or_out_of_training():
    layer, x = Dropout(0.5), torch.randn(4)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(dropout(x, 0.0, training=True), x)
    assert dropout(torch.empty(0, 3), 0.5, training=True).shape == (0, 3)
    assert dropout(x, 0.9999999, training=True).isfinite().all()


def test_the_same_seed_leaves_out_the_same():
    outs = []
    for _ in range(2):
        torch.manual_seed(3)
        outs.append(dropout(torch.ones(50), 0.5, training=True))
    assert torch.equal(*outs)
