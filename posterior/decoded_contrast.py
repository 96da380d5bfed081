"""Columns compared between two sets of rows by what a decoder makes of their embeddings, pair of rows by pair of rows.

For a row c drawn from the one set and a row d from the other, with z ~ q(z | x) for each and covariates s of a third
row, drawn from either set with equal probability and the same for both, so that a batch does not pass for a difference:

    contrast_j = level_j(z_c, s) - level_j(z_d, s)

| likelihood           | level_j(z, s)                                                                              |
|----------------------|--------------------------------------------------------------------------------------------|
| those of counts      | log2(1 + 10,000 softmax(f(z, s))_j): of the expected share, a row's total being left out   |
| bernoulli            | the probability of a 1                                                                     |
| gaussian             | the mean                                                                                   |

Of counts, the contrast is a log2 fold change with one count in 10,000 added on both sides (as log-normalising does):
without it, columns of next to no counts would lead.

References:
    Boyeau, Lopez, Regier, Gayoso, Jordan and Yosef (2019), Deep generative models for detecting differential expression
    in single cells (pairs of posterior draws, log fold changes).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..data.loader import RowLoader
from ..data.normalise import TARGET
from ..inference.fitted import Fitted
from ..models.vae import VAE
from .inner_product import Positions
from .loadings import embeddings, has_shares

PAIRS = 64  # decoded at once


def contrast_scores(
    fitted: Fitted, model: VAE, loader: RowLoader, chosen: Positions, others: Positions, draws: int
) -> Float[np.ndarray, "n_cols 3"]:
    """Mean and standard deviation over pairs of each column's contrast, and the share of pairs in which it is above 0.

    Args:
        fitted: The fit.
        model: Its model.
        loader: All rows.
        chosen: Rows of the loader in the one set.
        others: Rows of the loader in the other.
        draws: Pairs of rows, each with a draw of both embeddings.
    """
    ours, theirs, *either = (_drawn(rows, draws) for rows in (chosen, others, chosen, others))
    about = np.where(torch.rand(draws).numpy() < 0.5, *either)
    level = level_of(model.likelihood_name)
    z = torch.stack([_embedded(fitted, loader, rows) for rows in (ours, theirs)])
    sums = torch.zeros(3, fitted.n_cols, dtype=torch.float64)
    for at in np.array_split(np.arange(draws), math.ceil(draws / PAIRS)):
        one, other = level(model.decoder(loader.batch(about[at]), z[:, at]))
        contrast = (one - other).double().cpu()
        sums += torch.stack([contrast.sum(0), contrast.square().sum(0), _above(contrast).sum(0)])
    mean, square, above = sums / draws
    return torch.stack([mean, (square - mean.square()).clamp_min(0).sqrt(), above], -1).numpy()


def _drawn(rows: Positions, n: int) -> Positions:
    """So many of the rows, drawn with replacement."""
    return rows[torch.randint(len(rows), (n,)).numpy()]


def _embedded(fitted: Fitted, loader: RowLoader, rows: Positions) -> Float[Tensor, "n d"]:
    """A draw of each row's embedding; a row that stands there more than once is encoded once."""
    distinct, place, times = np.unique(rows, return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    turn = np.empty_like(order)  # which draw of its row each takes
    turn[order] = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
    parts = np.array_split(distinct, math.ceil(len(distinct) / loader.batch_rows))
    drawn = [embeddings(fitted, loader.batch(part)).sample(torch.Size([times.max()])) for part in parts]
    return torch.cat(drawn, 1)[turn, place]


def level_of(likelihood: str) -> Callable[[Tensor], Tensor]:
    """From the decoder's output to the levels that are compared."""
    if has_shares(likelihood):
        return lambda f: torch.log1p(TARGET * torch.softmax(f, -1)) / math.log(2)
    return torch.sigmoid if likelihood == "bernoulli" else lambda f: f


def _above(x: Tensor) -> Tensor:
    """1 where above zero, a half where zero."""
    return (1 + x.sign()) / 2
