"""Inner products of a linear decoder's loadings with a difference between two mean embeddings of rows.

As in `posterior.inner_product`, with a column's loading, a number that is known, for B_j, and z_i for A_i:

    score_j = B_j . m        E[score_j] = B_j . E[m]        Var[score_j] = B_j' Cov[m] B_j

Loadings are centred over the columns where a softmax takes away what they have in common.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from ..data.batches import RowBatch
from ..data.loader import RowLoader
from ..inference.fitted import Fitted
from ..models.bilinear import Block, block_of
from ..models.vae import VAE
from .inner_product import Positions

DRAWS = 100  # of a row's embedding, where its moments have no closed form


def loading_scores(
    fitted: Fitted, model: VAE, loader: RowLoader, chosen: Positions, others: Positions
) -> Float[np.ndarray, "n_cols 3"]:
    """Mean, standard deviation and probability of being above zero of each column's score.

    Args:
        fitted: The fit.
        model: Its model, with a linear decoder.
        loader: All rows.
        chosen: Rows of the loader in the one set.
        others: Rows of the loader in the other.
    """
    weight = model.decoder.output.weight.double()[:, : model.latent]  # further ones are of covariates
    if has_shares(model.likelihood_name):
        weight = weight - weight.mean(0)
    ours, theirs = (_mean_embedding(fitted, loader, rows) for rows in (chosen, others))
    mean = weight @ (ours.mean - theirs.mean)
    sd = ((weight @ (ours.cov + theirs.cov)) * weight).sum(-1).clamp_min(1e-300).sqrt()
    return torch.stack([mean, sd, torch.special.ndtr(mean / sd)], -1).cpu().numpy()


def has_shares(likelihood: str) -> bool:
    """Whether the decoder's output goes through a softmax over the columns."""
    return likelihood not in ("bernoulli", "gaussian")


def embeddings(fitted: Fitted, batch: RowBatch) -> Distribution:
    """Posterior of the embeddings of a batch's rows, (b,) vectors of M."""
    q: dict[str, Distribution] = fitted.guide.posterior(batch)  # type: ignore[operator]
    return q["z"]


def _mean_embedding(fitted: Fitted, loader: RowLoader, rows: Positions) -> Block:
    """Mean (M,) and covariance (M, M) of the mean of some rows' embeddings."""
    blocks = np.array_split(rows, math.ceil(len(rows) / loader.batch_rows))
    parts = [_moments(embeddings(fitted, loader.batch(part))) for part in blocks]
    mean = sum(part.mean.double().sum(0) for part in parts) / len(rows)
    cov = sum(_covariances(part).double().sum(0) for part in parts) / len(rows) ** 2
    return Block(torch.as_tensor(mean), torch.as_tensor(cov))


def _moments(q: Distribution) -> Block:
    try:
        return block_of(q)
    except NotImplementedError:
        z = q.sample(torch.Size([DRAWS]))
        return Block(z.mean(0), z.var(0))


def _covariances(block: Block) -> Tensor:
    return torch.diag_embed(block.cov) if block.factorised else block.cov
