"""The canonical frame: predictions stay, factors are what they are said to be, whatever frame the fit ended in."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from platewise.data.errors import PlatewiseError
from platewise.models.bilinear import Block, block_of
from platewise.posterior import factors, predict
from platewise.posterior.canonical import canonical_frame, has_factors, item_blocks, user_blocks
from platewise.posterior.reader import reading
from torch import nn
from torch.distributions import MultivariateNormal, Normal


def forms(mu, user, item):
    """mu + a_i + b_j + A_i . B_j of all pairs, from blocks (..., d)."""
    return mu + user[:, None, -1] + item[None, :, -1] + user[:, :-1] @ item[:, :-1].T


@pytest.fixture
def framed(fitted):
    """Blocks before and after, the frame, and mu."""
    with reading(fitted, 0) as reader:
        frame = canonical_frame(reader)
        user, item = (
            Block(*(torch.cat(part) for part in zip(*blocks(reader), strict=True)))
            for blocks in (user_blocks, item_blocks)
        )
        mu = float(fitted.guide.posterior(reader.any_row())["mu"].mean)
    return frame, user, item, mu


def test_predictions_of_draws_are_unchanged(framed):
    frame, user, item, mu = framed
    u, v = (np.asarray(x.mean) + np.random.default_rng(0).normal(size=x.mean.shape) for x in (user, item))
    moved = forms(mu + frame.shift, frame.user.draws(u), frame.item.draws(v))
    np.testing.assert_allclose(moved, forms(mu, u, v), atol=1e-8)


def test_moments_of_predictions_are_unchanged(framed):
    frame, user, item, mu = framed
    u, v = frame.user.moments(user), frame.item.moments(item)
    np.testing.assert_allclose(forms(mu + frame.shift, u.mean, v.mean), forms(mu, user.mean, item.mean), atol=1e-8)
    for i, j in ((0, 0), (3, 7)):
        after = variance(Block(u.mean[i], u.cov[i]), Block(v.mean[j], v.cov[j]))
        before = variance(Block(user.mean[i], user.cov[i]), Block(item.mean[j], item.cov[j]))
        assert after == pytest.approx(before, rel=1e-8)


def variance(user, item):
    """Var[a + b + A . B] of two independent blocks, from E[f^2] - E[f]^2, in the plainest way."""
    r = len(user.mean) - 1
    full = [torch.diag(x.cov) if x.cov.ndim == 1 else x.cov for x in (user, item)]
    su, sv = (s + torch.outer(x.mean, x.mean) for s, x in zip(full, (user, item), strict=True))
    square = (su[:r, :r] * sv[:r, :r]).sum() + su[r, r] + sv[r, r] + 2 * user.mean[r] * item.mean[r]
    square += 2 * (su[r, :r] @ item.mean[:r]) + 2 * (sv[r, :r] @ user.mean[:r])
    mean = user.mean[r] + item.mean[r] + user.mean[:r] @ item.mean[:r]
    return float(square - mean**2)


def test_the_frame_is_what_it_is_said_to_be(framed):
    frame, *blocks, _ = framed
    assert (np.diff(frame.strength) <= 0).all()
    for by, block in zip((frame.user, frame.item), blocks, strict=True):
        moved = by.moments(block)
        np.testing.assert_allclose(moved.mean.mean(0), 0, atol=1e-10)
        second = (moved.cov + moved.mean[:, :, None] * moved.mean[:, None, :]).mean(0)[:-1, :-1]
        np.testing.assert_allclose(second, np.diag(frame.strength), atol=1e-10)
    items = frame.item.moments(blocks[1]).mean[:, :-1].numpy()
    assert (items.max(0) >= -items.min(0)).all()


class Moved(nn.Module):
    """A guide that is the same posterior in another frame."""

    def __init__(self, guide, seed):
        super().__init__()
        self.guide = guide
        torch.manual_seed(seed)
        self.turn = torch.linalg.qr(torch.randn(3, 3))[0] @ torch.diag(torch.rand(3) + 0.5)
        self.c_user, self.c_item = torch.randn(3), torch.randn(3)

    def posterior(self, batch):
        q = self.guide.posterior(batch)
        user = self.move(q["user"], self.turn, self.c_user, self.c_item)
        item = self.move(q["item"], torch.linalg.inv(self.turn).T, self.c_item, self.c_user)
        return {"mu": Normal(q["mu"].mean - self.c_user @ self.c_item, q["mu"].stddev), "user": user, "item": item}

    def move(self, q, turn, centre, other):
        matrix = torch.block_diag(turn.T, torch.ones(1, 1))
        matrix[-1, :-1] = other
        block = block_of(q)
        cov = torch.diag_embed(block.cov) if block.factorised else block.cov
        mean = block.mean @ matrix.T - torch.cat([turn.T @ centre, torch.zeros(1)])
        cov = matrix @ cov @ matrix.T
        return MultivariateNormal(mean, (cov + cov.mT) / 2)

    def forward(self, batch):
        return self.guide(batch)


@pytest.mark.parametrize("seed", [1, 2])
def test_another_frame_of_the_same_posterior_gives_the_same_factors(fitted, seed):
    moved = replace(fitted, guide=Moved(fitted.guide, seed))
    np.testing.assert_allclose(
        predict(moved, [1, 2], [3, 4])[["mean", "sd"]], predict(fitted, [1, 2], [3, 4])[["mean", "sd"]], rtol=1e-8
    )
    first, second = factors(fitted), factors(moved)
    for one, two in zip(
        [first.mu, first.strength, *first.obsm.values(), *first.varm.values(), first.obs, first.var],
        [second.mu, second.strength, *second.obsm.values(), *second.varm.values(), second.obs, second.var],
        strict=True,
    ):
        np.testing.assert_allclose(two, one, atol=1e-7)


def test_factors_predict(fitted):
    found = factors(fitted)
    users, items = fitted.obs.index.get_indexer(["5", "9"]), fitted.var.index.get_indexer(["1", "2"])
    expected = found.mu + found.obs["bias"].to_numpy()[users] + found.var["bias"].to_numpy()[items]
    expected += (found.obsm["X_factors"][users] * found.varm["factors"][items]).sum(1)
    np.testing.assert_allclose(predict(fitted, [5, 9], [1, 2])["mean"], expected, rtol=1e-8)


def test_factors_go_beside_the_data(block_fit, split):
    found = factors(block_fit)
    adata = found.write_to(split[0].copy())
    assert adata.obsm["X_factors"].shape == (200, 3)
    assert adata.varm["factors_sd"].shape == (100, 3)
    assert (adata.obs["bias_sd"] > 0).all()
    assert adata.var["bias"].abs().max() > 0.1
    with pytest.raises(PlatewiseError, match="rows and columns of the fit, got others"):
        found.write_to(split[0][:5].copy())


def test_models_without_factors(regression, people):
    with reading(regression, 0, {"x": people[1]}) as reader:
        assert not has_factors(reader)
