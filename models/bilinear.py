"""Moments of the bilinear form a_i + b_j + A_i . B_j over a batch's entries, when (A_i, a_i) and (B_j, b_j) are independent.

With u = (A, a, 1) and v = (B, 1, b) the form is u . v, so with independent blocks of means m and covariances S

    E[u . v]   = m_u . m_v
    Var[u . v] = m_v' S_u m_v + m_u' S_v m_u + tr(S_u S_v)

Sums over entries are products of the sparse matrix with a table of the columns' moments: O(e r) operations where
the blocks are factorised, O(e r^2) where they are not; no table of entries by moments is ever made.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from ..data.batches import RowBatch

CHUNK_ENTRIES = 32_768  # entries whose covariances are looked up at once: (r + 2)^2 numbers each


class Block(NamedTuple):
    """Means (..., d) of independent blocks, and their variances (..., d) or covariances (..., d, d)."""

    mean: Tensor
    cov: Tensor

    @property
    def factorised(self) -> bool:
        """Whether the components of a block are independent."""
        return self.mean.shape == self.cov.shape


def block_of(q: Distribution) -> Block:
    """Moments of a normal distribution.

    Raises:
        NotImplementedError: If `q` is neither a normal, independent normals, nor a multivariate normal.
    """
    if isinstance(q, MultivariateNormal):
        return Block(q.mean, q.covariance_matrix)
    if isinstance(q, Normal) or (isinstance(q, Independent) and isinstance(q.base_dist, Normal)):
        return Block(q.mean, q.variance)
    raise NotImplementedError(f"No closed form for blocks of {type(q).__name__}")


def shifted(block: Block, by: Block) -> Block:
    """The blocks with an independent scalar added to their last component."""
    mean = torch.cat([block.mean[..., :-1], block.mean[..., -1:] + by.mean], -1)
    if block.factorised:
        return Block(mean, torch.cat([block.cov[..., :-1], block.cov[..., -1:] + by.cov], -1))
    d = mean.shape[-1]
    return Block(mean, block.cov + F.pad(by.cov.reshape(1, 1), (d - 1, 0, d - 1, 0)))


def expected_squared_error(
    batch: RowBatch, target: Float[Tensor, " e"], user: Block, item: Block
) -> Float[Tensor, ""]:
    """Sum over a batch's entries of E[(target - a_i - b_j - A_i . B_j)^2].

    Args:
        batch: The entries.
        target: What the form is compared with.
        user: Blocks (A_i, a_i) of the batch's rows, (b, r + 1).
        item: Blocks (B_j, b_j) of all columns, (n_cols, r + 1).
    """
    u, v = _augmented(user, by_row=True), _augmented(item, by_row=False)
    form = batch.sparse.dots(u.mean, v.mean, batch.row)
    if u.factorised and v.factorised:
        return (target - form).square().sum() + _summed_variance(batch, u, v)
    return (target * (target - 2 * form)).sum() + _summed_square(batch, u, v)


def bilinear_moments(batch: RowBatch, user: Block, item: Block) -> tuple[Float[Tensor, " e"], Float[Tensor, " e"]]:
    """Mean and variance of a_i + b_j + A_i . B_j for each of the batch's entries."""
    u, v = _augmented(user, by_row=True), _augmented(item, by_row=False)
    mean = batch.sparse.dots(u.mean, v.mean, batch.row)
    chunks = zip(batch.row.split(CHUNK_ENTRIES), batch.col.split(CHUNK_ENTRIES), strict=True)
    parts = [_variance(Block(u.mean[i], u.cov[i]), Block(v.mean[j], v.cov[j])) for i, j in chunks]
    return mean, torch.cat(parts)


def _augmented(block: Block, by_row: bool) -> Block:
    """Blocks of u = (A, a, 1), or of v = (B, 1, b), from those of (A, a) or (B, b)."""
    mean = F.pad(block.mean, (0, 1), value=1.0)
    cov = F.pad(block.cov, (0, 1) if block.factorised else (0, 1, 0, 1))
    if by_row:
        return Block(mean, cov)
    d = mean.shape[-1]
    order = torch.tensor([*range(d - 2), d - 1, d - 2], device=mean.device)
    cov = cov.index_select(-1, order)
    return Block(mean.index_select(-1, order), cov if block.factorised else cov.index_select(-2, order))


def _variance(u: Block, v: Block) -> Tensor:
    """Var[u . v] of paired blocks."""
    if u.factorised and v.factorised:
        return (u.cov * (v.mean.square() + v.cov) + u.mean.square() * v.cov).sum(-1)
    u, v = _full(u), _full(v)
    second_v = v.cov + v.mean[..., :, None] * v.mean[..., None, :]
    from_v = torch.einsum("ej,ejk,ek->e", u.mean, v.cov, u.mean)
    return (u.cov * second_v).sum((-2, -1)) + from_v


def _summed_variance(batch: RowBatch, u: Block, v: Block) -> Float[Tensor, ""]:
    """Sum of Var[u_i . v_j] over the batch's entries, blocks factorised: columns are summed over each row first."""
    of_u = torch.cat([u.cov, u.mean.square()], -1)
    of_v = torch.cat([v.mean.square() + v.cov, v.cov], -1)
    return (of_u * batch.sparse.sum_over_cols(of_v)).sum()


def _summed_square(batch: RowBatch, u: Block, v: Block) -> Float[Tensor, ""]:
    """Sum of E[(u_i . v_j)^2] over the batch's entries, from the blocks' second moments."""
    of_u, of_v = (_full(x).cov + _outer(x.mean) for x in (u, v))
    return (of_u.flatten(1) * batch.sparse.sum_over_cols(of_v.flatten(1))).sum()


def _outer(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d d"]:
    return x[:, :, None] * x[:, None, :]


def _full(block: Block) -> Block:
    return Block(block.mean, torch.diag_embed(block.cov)) if block.factorised else block
