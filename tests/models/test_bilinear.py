"""Moments of the bilinear form, against brute force over dense arrays and against sampling."""

from itertools import product

import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from platewise.data import RowBatch
from platewise.models.bilinear import Block, bilinear_moments, block_of, expected_squared_error, shifted
from torch import Tensor

from ..sparse_strategies import batches, some
from .brute_force import brute_force, random_block

FAMILIES = pytest.mark.parametrize(("user_full", "item_full"), list(product([False, True], repeat=2)))


@FAMILIES
@some
@given(batches)
def test_moments_are_those_of_brute_force(user_full, item_full, batch):
    user, item = random_block(len(batch.rows), user_full), random_block(batch.n_cols, item_full)
    means, variances = (x[batch.row, batch.col] for x in brute_force(user, item))
    got_mean, got_variance = bilinear_moments(batch, user, item)
    torch.testing.assert_close(got_mean, means, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(got_variance, variances, atol=1e-10, rtol=1e-10)
    target = torch.randn(len(batch.value))
    expected = ((target - means) ** 2 + variances).sum()
    torch.testing.assert_close(expected_squared_error(batch, target, user, item), expected, atol=1e-9, rtol=1e-10)


@FAMILIES
def test_moments_are_those_of_draws(user_full, item_full):
    user, item = random_block(1, user_full), random_block(1, item_full)
    draws = [_draws(block, 200_000) for block in (user, item)]
    form = (draws[0][:, :-1] * draws[1][:, :-1]).sum(-1) + draws[0][:, -1] + draws[1][:, -1]
    mean, variance = brute_force(user, item)
    assert abs(form.mean() - mean) < 4 * (variance / len(form)) ** 0.5
    torch.testing.assert_close(form.var(), variance[0, 0], rtol=0.05, atol=0)


def _draws(block: Block, n: int) -> Tensor:
    cov = torch.diag_embed(block.cov) if block.factorised else block.cov
    return dist.MultivariateNormal(block.mean, cov).sample((n,))[:, 0]


@FAMILIES
def test_gradients_are_right(user_full, item_full):
    batch = _batch()
    user, item = random_block(3, user_full), random_block(4, item_full)
    leaves = tuple(x.requires_grad_() for x in (*user, *item))

    def error(*parts: Tensor) -> Tensor:
        return expected_squared_error(batch, batch.value, Block(*parts[:2]), Block(*parts[2:]))

    def moments(*parts: Tensor) -> tuple[Tensor, Tensor]:
        return bilinear_moments(batch, Block(*parts[:2]), Block(*parts[2:]))

    assert torch.autograd.gradcheck(error, leaves)
    assert torch.autograd.gradcheck(moments, leaves)


@pytest.mark.parametrize("full", [False, True])
def test_a_shift_adds_to_the_bias(full):
    block, by = random_block(5, full), Block(torch.tensor(2.0), torch.tensor(0.5))
    moved = shifted(block, by)
    mean, variance = (x.diagonal(dim1=-2, dim2=-1) if x.ndim == 3 else x for x in moved)
    before = block.cov.diagonal(dim1=-2, dim2=-1) if full else block.cov
    torch.testing.assert_close(mean - block.mean, torch.tensor([0, 0, 2.0]).expand(5, 3))
    torch.testing.assert_close(variance - before, torch.tensor([0, 0, 0.5]).expand(5, 3))


def test_blocks_of_other_families_have_no_closed_form():
    with pytest.raises(NotImplementedError, match="No closed form for blocks of StudentT"):
        block_of(dist.StudentT(3.0))


def _batch() -> RowBatch:
    crow, col = torch.tensor([0, 2, 2, 5]), torch.tensor([3, 0, 1, 2, 3])
    return RowBatch(torch.arange(3), crow, col, torch.randn(5), 3, 4)
