"""Divergences that torch lacks: of normal blocks, full or of low rank, plain or reshaped, from independent normals.

Without it the KL term of a row-block guide would be estimated by Monte Carlo, silently. Importing this module
registers it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import (
    Independent,
    LowRankMultivariateNormal,
    MultivariateNormal,
    Normal,
    ReshapeTransform,
    TransformedDistribution,
    kl_divergence,
    register_kl,
)


@register_kl(MultivariateNormal, Independent)
def kl_block_normal(q: MultivariateNormal, p: Independent) -> Tensor:
    """D[q || p] for q = Normal(m, L L') and p = prod_k Normal(mean_k, s_k^2), in closed form.

    1/2 sum_k [ sum_l L_kl^2 / s_k^2 + (m_k - mean_k)^2 / s_k^2 - 1 + 2 log s_k ] - sum_k log L_kk

    Args:
        q: Multivariate normal with event shape (d,).
        p: `Normal(...).to_event(1)` with the same event shape.

    Returns:
        The divergence in nats, of the shape of the broadcast batches.
    """
    if not isinstance(p.base_dist, Normal) or p.event_shape != q.event_shape:
        raise NotImplementedError
    prior = p.base_dist
    variance = torch.linalg.vector_norm(q.scale_tril, dim=-1).square()
    squares = (variance + (q.loc - prior.loc).square()) / prior.variance
    log_ratio = prior.scale.log() - q.scale_tril.diagonal(dim1=-2, dim2=-1).log()
    return (0.5 * (squares - 1) + log_ratio).sum(-1)


@register_kl(LowRankMultivariateNormal, Independent)
def kl_low_rank_normal(q: LowRankMultivariateNormal, p: Independent) -> Tensor:
    """D[q || p] for q = Normal(m, W W' + diag s^2) and p independent normals: cross-entropy less entropy."""
    if not isinstance(p.base_dist, Normal) or p.event_shape != q.event_shape:
        raise NotImplementedError
    prior = p.base_dist
    squares = (q.variance + (q.loc - prior.loc).square()) / prior.variance
    cross: Tensor = (0.5 * squares + prior.scale.log() + 0.5 * math.log(2 * math.pi)).sum(-1)
    return cross - q.entropy()


@register_kl(TransformedDistribution, Independent)
def kl_reshaped(q: TransformedDistribution, p: Independent) -> Tensor:
    """D[q || p] for a block that is only reshaped, say to a matrix, and p independent normals of that shape."""
    reshaped = len(q.transforms) == 1 and isinstance(q.transforms[0], ReshapeTransform)
    if not reshaped or not isinstance(p.base_dist, Normal) or p.event_shape != q.event_shape:
        raise NotImplementedError
    axes = p.reinterpreted_batch_ndims
    flat = Normal(p.base_dist.loc.flatten(-axes), p.base_dist.scale.flatten(-axes))
    return kl_divergence(q.base_dist, Independent(flat, 1))
