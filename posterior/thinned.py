"""One half of a cell's counts given the other: what a model of counts says of molecules that it was not shown.

Each molecule goes to one of two halves by the toss of a coin: of a count x, seen ~ Binomial(x, 1/2), and the rest is
x - seen. Counts with rates have rates half as large in either half, so that a model in which the rates of a row go by
its total is one of either half. Given a row's latents the halves are independent where the counts are Poisson; a
negative binomial is a Poisson whose rate is mu times a gamma variate g, and the seen half tells of g:

    g        ~ Gamma(theta, theta)                      inverse dispersion theta, mean 1
    seen     ~ Poisson(mu g)                            mu: mean of the seen half
    rest     ~ Poisson(r mu g)                          r: total of the rest over that of the seen half
    g | seen ~ Gamma(theta + seen, theta + mu)
    rest | seen ~ NegativeBinomial(mean r mu (theta + seen) / (theta + mu), inverse dispersion theta + seen)

An extra zero is one of both halves: where something was seen there is none, and where nothing was,
logit pi becomes logit pi - log P(seen = 0).

References:
    Batson, Royer and Webber (2019), Molecular cross-validation for single-cell RNA-seq.
    Neufeld, Dharamshi, Gao and Witten (2024), Data thinning for convolution-closed distributions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..models.count_rows import NegativeBinomialRows, PoissonRows, ZeroInflatedNegativeBinomialRows
from ..models.multinomial_rows import MultinomialRows
from ..models.negative_binomial import bounded_log
from .count_tails import Array, Tails, binomial_tails, negative_binomial_tails, poisson_tails
from .tails import as_array, log_tails

Some = Float[np.ndarray, "b k"]


class NoCounts(PlatewiseError):
    """Rows that cannot be divided in two, because their values are no counts."""


def halves(counts: sp.csr_matrix, rng: np.random.Generator) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Each molecule in one of two matrices at random.

    Args:
        counts: Whole numbers from 0.
        rng: The coin.

    Raises:
        PlatewiseError: If a value is no count.
    """
    if (counts.data < 0).any() or (counts.data != np.round(counts.data)).any():
        raise PlatewiseError("Expected counts (whole numbers, 0 or more), got others. Give the raw counts.")
    seen = counts.copy()
    seen.data = rng.binomial(counts.data.astype(np.int64), 0.5).astype(counts.dtype)
    rest = counts - seen
    for half in (seen, rest):
        half.eliminate_zeros()
    return seen, rest


@dataclass(frozen=True, eq=False)
class Rest:
    """Some entries of each of b rows of the half that was not shown, k a row.

    Attributes:
        col: Their columns.
        seen: What the half that was shown holds there.
        value: What they are.
        total: Totals of the rows' rest.
        log_ratio: Log of the rest's expected size over the seen half's.
    """

    col: Int[Tensor, "b k"]
    seen: Float[np.ndarray, "b k"]
    value: Float[np.ndarray, "b k"]
    total: Float[np.ndarray, "b 1"]
    log_ratio: Float[np.ndarray, "b 1"]

    def pick(self, x: Tensor, like: Tensor) -> Some:
        """Numbers of a likelihood's entries, of the shape of `like` or (n_cols,), at these."""
        return as_array(x.expand(like.shape).gather(-1, self.col))


@singledispatch
def rest_given_seen(likelihood: object, rest: Rest) -> tuple[Tails, Some]:
    """How probable the entries of the rest, and larger and smaller ones, are given latents and the seen half.

    Args:
        likelihood: That of the seen half given its rows' latents, without particles: parameters (b, n_cols).
        rest: The entries.

    Returns:
        Log-probabilities and means, all (b, k).

    Raises:
        PlatewiseError: If it is no likelihood of counts, which alone can be divided so.
    """
    raise refuse_what_is_no_count(likelihood)


def refuse_what_is_no_count(likelihood: object) -> NoCounts:
    """The error for rows that cannot be divided in two."""
    return NoCounts(
        f"Expected a likelihood of counts, whose molecules can be divided in two, got {type(likelihood).__name__}. "
        "Judge it by score_rows and posterior_predictive_checks."
    )


# likelihoods are `Any` below: their base in Pyro is a `typing.Callable`, which run-time type checks warn of
@rest_given_seen.register(PoissonRows)
def _poisson(likelihood: Any, rest: Rest) -> tuple[Tails, Some]:
    log_rate = rest.pick(likelihood.log_rate, likelihood.log_rate) + rest.log_ratio
    return poisson_tails(rest.value, log_rate), np.exp(log_rate)


@rest_given_seen.register(MultinomialRows)
def _multinomial(likelihood: Any, rest: Rest) -> tuple[Tails, Some]:
    logits = likelihood.logits.double()
    log_p = rest.pick(logits.log_softmax(-1), logits)
    with np.errstate(divide="ignore"):
        log_not = np.log(-np.expm1(log_p))
    tails = binomial_tails(rest.value, np.broadcast_to(rest.total, log_p.shape), log_p, log_not)
    return tails, rest.total * np.exp(log_p)


@rest_given_seen.register(NegativeBinomialRows)
def _negative_binomial(likelihood: Any, rest: Rest) -> tuple[Tails, Some]:
    log_mean, log_theta, _ = _updated(likelihood, rest)
    return negative_binomial_tails(rest.value, log_mean, log_theta), np.exp(log_mean)


@rest_given_seen.register(ZeroInflatedNegativeBinomialRows)
def _zero_inflated(likelihood: Any, rest: Rest) -> tuple[Tails, Some]:
    log_mean, log_theta, log_zero = _updated(likelihood, rest)
    logits = rest.pick(likelihood.zero_logits, likelihood.log_mean)
    logits = np.where(rest.seen > 0, -np.inf, logits - log_zero)
    mean, theta, extra = (torch.from_numpy(x) for x in (log_mean, log_theta, logits))
    rows = ZeroInflatedNegativeBinomialRows(_blank(*log_mean.shape), mean, theta, extra, validate_args=False)
    return log_tails(rows, torch.from_numpy(rest.value)), np.exp(log_mean - np.logaddexp(0, logits))


def _updated(likelihood: Any, rest: Rest) -> tuple[Array, Array, Array]:
    """Log mean and log inverse dispersion of the rest given what was seen, and log P(seen = 0), without extra zeros."""
    log_mean = likelihood.log_mean.double()
    log_theta = rest.pick(bounded_log(likelihood.log_inverse_dispersion.double()), log_mean)
    mean, theta = np.exp(rest.pick(log_mean, log_mean)), np.exp(log_theta)
    log_theta_given = np.log(theta + rest.seen)
    log_scale = np.log(mean) - np.log(theta + mean)
    return rest.log_ratio + log_scale + log_theta_given, log_theta_given, -theta * np.log1p(mean / theta)


def _blank(n: int, k: int) -> RowBatch:
    """Rows to hang parameters on: nothing is stored in them."""
    nothing = torch.zeros(0)
    return RowBatch(torch.arange(n), torch.zeros(n + 1, dtype=torch.long), nothing.long(), nothing, n, k)
