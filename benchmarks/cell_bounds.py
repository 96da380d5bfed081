"""Bounds of a cell's log evidence from log weights, and the negative binomial in double precision, for peers.

The definitions are those of `platewise.posterior.score_rows`.
"""

import math

import torch
from torch import Tensor


def bounds_of(weights: Tensor) -> Tensor:
    """ELBO and importance-weighted bound (b, 2) from log p(x, z) - log q(z | x) of some draws of z, (draws, b)."""
    return torch.stack([weights.mean(0), weights.logsumexp(0) - math.log(len(weights))], -1)


def coefficients(x: Tensor, theta: Tensor) -> Tensor:
    """What of a negative binomial's log-probability does not depend on its mean, summed over genes, (b,).

    Args:
        x: Counts (b, n_genes), float64.
        theta: Inverse dispersions, (n_genes,) or (b, n_genes).
    """
    return (torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)).sum(-1)


def powers(x: Tensor, mean: Tensor, theta: Tensor) -> Tensor:
    """The rest of it, (b,): x log(mean / (mean + theta)) + theta log(theta / (mean + theta)), summed over genes."""
    both = (mean + theta).log()
    return (torch.xlogy(x, mean) - x * both + theta * (theta.log() - both)).sum(-1)
