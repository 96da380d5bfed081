"""Inner products of columns' embeddings with a difference between two mean embeddings of rows.

For columns j and two sets of rows C and D of sizes k and l, with blocks independent under the posterior,

    score_j = B_j . m        m = mean of A_i over C - mean of A_i over D
    E[m] = their means' difference                        Cov[m] = sum_C Cov[A_i] / k^2 + sum_D Cov[A_i] / l^2
    E[score_j] = E[B_j] . E[m]
    Var[score_j] = tr(Cov[B_j] (E[m] E[m]' + Cov[m])) + E[B_j]' Cov[m] E[B_j]

in the canonical frame, where factors are centred on both sides. D being all rows but C, E[m] is the mean embedding of C
times a number, so that the columns' order is that of their inner products with it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data.errors import PlatewiseError
from ..models.bilinear import Block, block_of
from .blocks import MAX_ROWS
from .canonical import Affine, block_posterior, canonical_frame, has_factors, item_blocks
from .reader import Reader

Positions = Int[np.ndarray, " _"]  # of any length: two sets need not agree


def factor_scores(reader: Reader, chosen: Positions, others: Positions, draws: int) -> Float[np.ndarray, "n_cols 3"]:
    """Mean, standard deviation and probability of being above zero of each column's score, in a model with factors.

    The probability is exact given m, and averaged over draws of m.

    Args:
        reader: The fit.
        chosen: Rows of the fit in C.
        others: Rows of the fit in D.
        draws: Draws of m.

    Raises:
        PlatewiseError: If the fit has no factors in closed form.
    """
    if not has_factors(reader):
        raise PlatewiseError(
            f"Expected a model with sites mu, user and item and a guide with `posterior`, got "
            f"{type(reader.fitted.model).__name__} and {type(reader.fitted.guide).__name__}. Fit LatentFactor or a VAE."
        )
    frame = canonical_frame(reader)
    ours, theirs = (_mean_factors(reader, rows, frame.user) for rows in (chosen, others))
    between = Block(ours.mean - theirs.mean, ours.cov + theirs.cov)
    return torch.cat([_scores(frame.item.moments(part), between, draws) for part in item_blocks(reader)]).numpy()


def _mean_factors(reader: Reader, rows: Positions, by: Affine) -> Block:
    """Mean (r,) and covariance (r, r) of the mean of some rows' factors in the frame."""
    mean, cov, factorised = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64), True
    for part in np.array_split(rows, math.ceil(len(rows) / MAX_ROWS)):
        block = block_of(block_posterior(reader, reader.batch(part))["user"])
        mean = mean + block.mean.double().cpu().sum(0) / len(rows)
        cov = cov + block.cov.double().cpu().sum(0) / len(rows) ** 2
        factorised = block.factorised
    full = torch.diag(cov) if factorised else cov
    found = by.moments(Block(mean[None], full[None]))
    return Block(found.mean[0, :-1], found.cov[0, :-1, :-1])


def _scores(items: Block, between: Block, draws: int) -> Float[Tensor, "n 3"]:
    mean, cov = items.mean[:, :-1], items.cov[:, :-1, :-1].flatten(1)
    second = between.cov + torch.outer(between.mean, between.mean)
    variance = cov @ second.flatten() + ((mean @ between.cov) * mean).sum(-1)
    m = _draws(between, draws)
    spread = (cov @ (m[:, :, None] * m[:, None, :]).flatten(1).T).clamp_min(1e-300).sqrt()
    above = torch.special.ndtr(mean @ m.T / spread).mean(-1)
    return torch.stack([mean @ between.mean, variance.clamp_min(0).sqrt(), above], -1)


def _draws(normal: Block, n: int) -> Float[Tensor, "n r"]:
    """Draws of a normal vector whose covariance may be singular."""
    size, axes = torch.linalg.eigh(normal.cov)
    noise = torch.randn(n, len(size), dtype=torch.float64)
    return normal.mean + (noise * size.clamp_min(0).sqrt()) @ axes.T
