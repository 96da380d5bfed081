"""Moments of a_i + b_j + A_i . B_j over a batch's entries, when the blocks (A_i, a_i) and (B_j, b_j) are independent.

Write u = (A, a), z = (B, b), and u1 = (A, 1), z1 = (B, 1) for the same with their biases replaced by one. Then the form
is u1 . z + a = z1 . u + b, and with means m and covariances S

    E[form]   = m_u1 . m_z + m_a
    Var[form] = tr(S_u E[z1 z1']) + m_u1' S_z m_u1

Sums over entries are products of the sparse matrix with a table of the columns' moments: O(e r) operations where
the blocks are factorised, O(e r^2) where they are not; no table of entries by moments is ever made.
"""

from __future__ import annotations

from types import EllipsisType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from ..data.batches import RowBatch


class Block(NamedTuple):
    """Means (..., d) of independent blocks, and their variances (..., d) or covariances (..., d, d)."""

    mean: Tensor
    cov: Tensor

    @property
    def factorised(self) -> bool:
        """Whether the components of a block are independent."""
        return self.mean.shape == self.cov.shape


def block_of(q: Distribution, at: Int[Tensor, " k"] | EllipsisType = ...) -> Block:
    """Moments of a normal distribution's elements, all of them or some.

    Raises:
        NotImplementedError: If `q` is neither a normal, independent normals, nor a multivariate normal.
    """
    if isinstance(q, MultivariateNormal):
        lower = q.scale_tril[at]
        return Block(q.mean[at], lower @ lower.mT)
    if isinstance(q, Normal) or (isinstance(q, Independent) and isinstance(q.base_dist, Normal)):
        return Block(q.mean[at], q.variance[at])
    raise NotImplementedError(f"No closed form for blocks of {type(q).__name__}")


def shifted(block: Block, by: Block) -> Block:
    """The blocks with an independent scalar added to their last component."""
    mean = torch.cat([block.mean[..., :-1], block.mean[..., -1:] + by.mean], -1)
    if block.factorised:
        return Block(mean, torch.cat([block.cov[..., :-1], block.cov[..., -1:] + by.cov], -1))
    d = mean.shape[-1]
    return Block(mean, block.cov + F.pad(by.cov.reshape(1, 1), (d - 1, 0, d - 1, 0)))


def expected_squared_error(batch: RowBatch, target: Float[Tensor, " e"], user: Block, item: Block) -> Float[Tensor, ""]:
    """Sum over a batch's entries of E[(target - a_i - b_j - A_i . B_j)^2].

    Args:
        batch: The entries.
        target: What the form is compared with.
        user: Blocks (A_i, a_i) of the batch's rows, (b, r + 1).
        item: Blocks (B_j, b_j) of all columns, (n_cols, r + 1).
    """
    form = expected_form(batch, user, item)
    if user.factorised and item.factorised:
        return (target - form).square().sum() + _summed_variance(batch, user, item)
    return (target * (target - 2 * form)).sum() + _summed_square(batch, _full(user), _full(item))


def bilinear_moments(batch: RowBatch, user: Block, item: Block) -> tuple[Float[Tensor, " e"], Float[Tensor, " e"]]:
    """Mean and variance of a_i + b_j + A_i . B_j for each of the batch's entries."""
    factorised = user.factorised and item.factorised
    of_u, of_z = _variance_tables(user, item) if factorised else _covariance_tables(_full(user), _full(item))
    return expected_form(batch, user, item), batch.sparse.dots(of_u, of_z, batch.row)


def expected_form(batch: RowBatch, user: Block, item: Block) -> Float[Tensor, " e"]:
    """E[a_i + b_j + A_i . B_j] of each entry."""
    product = batch.sparse.dots(_with_one(user.mean), item.mean, batch.row)
    return product + batch.at_rows(user.mean[:, -1], event_dim=0)


def _variance_tables(user: Block, item: Block) -> tuple[Float[Tensor, "b k"], Float[Tensor, "n k"]]:
    """Vectors of rows and of columns whose dot product is Var[form], blocks factorised: k = 2 (r + 1)."""
    of_u = torch.cat([user.cov, _with_one(user.mean).square()], -1)
    of_z = torch.cat([_with_one(item.mean).square() + _without_bias(item.cov), item.cov], -1)
    return of_u, of_z


def _covariance_tables(user: Block, item: Block) -> tuple[Float[Tensor, "b k"], Float[Tensor, "n k"]]:
    """Vectors of rows and of columns whose dot product is Var[form]: k = 2 (r + 1)^2."""
    u1 = _with_one(user.mean)
    square_z1 = _second(Block(_with_one(item.mean), _without_bias(_without_bias(item.cov).mT)))
    of_u = torch.cat([user.cov.flatten(1), (u1[:, :, None] * u1[:, None, :]).flatten(1)], -1)
    return of_u, torch.cat([square_z1.flatten(1), item.cov.flatten(1)], -1)


def _summed_variance(batch: RowBatch, user: Block, item: Block) -> Float[Tensor, ""]:
    """Sum of Var[form] over the batch's entries, blocks factorised: columns are summed over each row first."""
    of_u, of_z = _variance_tables(user, item)
    return (of_u * batch.sparse.sum_over_cols(of_z)).sum()


def _summed_square(batch: RowBatch, user: Block, item: Block) -> Float[Tensor, ""]:
    """Sum of E[form^2] over the batch's entries: form = u1 . z + a, and the columns' E[z z'] are summed first."""
    square = _second(user)  # E[u u']
    mean_u1 = _with_one(user.mean)
    square_u1 = torch.cat([torch.cat([square[:, :-1, :-1], mean_u1[:, :-1, None]], 2), mean_u1[:, None, :]], 1)
    bias_u1 = torch.cat([square[:, -1, :-1], user.mean[:, -1:]], 1)  # E[a u1]
    z_squares = batch.sparse.sum_over_cols(_second(item).flatten(1))
    z_sums = batch.sparse.sum_over_cols(item.mean)
    cross = 2 * (bias_u1 * z_sums).sum() + (batch.crow.diff() * square[:, -1, -1]).sum()
    return (square_u1.flatten(1) * z_squares).sum() + cross


def _with_one(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Vectors with one in place of their bias."""
    return torch.cat([x[:, :-1], torch.ones_like(x[:, -1:])], 1)


def _without_bias(x: Float[Tensor, "n *d"]) -> Float[Tensor, "n *d"]:
    """Arrays with zero in place of the last entries along the last axis."""
    return F.pad(x[..., :-1], (0, 1))


def _second(block: Block) -> Float[Tensor, "n d d"]:
    """E[x x'] of full blocks."""
    return torch.baddbmm(block.cov, block.mean[:, :, None], block.mean[:, None, :])


def _full(block: Block) -> Block:
    return Block(block.mean, torch.diag_embed(block.cov)) if block.factorised else block
