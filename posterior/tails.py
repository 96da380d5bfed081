"""How far out in its predictive distribution an entry lies, for every likelihood of rows.

With u ~ Uniform(0, 1), P(X > x) + u P(X = x) is uniform if x is a draw of X, whole numbers included; so is its
complement, and twice the smaller of the two.

References:
    Dunn and Smyth (1996), Randomized quantile residuals.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.special import log_ndtr
from torch import Tensor

from ..data.errors import PlatewiseError
from ..models.count_rows import NegativeBinomialRows, PoissonRows, ZeroInflatedNegativeBinomialRows
from ..models.likelihoods import BernoulliRows, GaussianRows
from ..models.multinomial_rows import MultinomialRows
from ..models.negative_binomial import bounded_log
from .count_tails import Array, Tails, binomial_tails, negative_binomial_tails, poisson_tails

Tail = Literal["two-sided", "upper", "lower"]


@singledispatch
def log_tails(likelihood: object, values: Float[Tensor, "..."]) -> Tails:
    """Log-probabilities of values, and of larger and smaller ones, entry by entry.

    Args:
        likelihood: Rows without particles: parameters (b, n_cols).
        values: Of the entries that the likelihood's batch stores (e,), or of all (b, n_cols).

    Returns:
        Arrays of the shape of `values`, float64, on the host.

    Raises:
        PlatewiseError: On a likelihood that has no tails here.
    """
    raise PlatewiseError(
        f"Expected a likelihood of rows whose tails are known, got {type(likelihood).__name__}. Register one with "
        "platewise.posterior.tails.log_tails.register."
    )


# likelihoods are `Any` below: their base in Pyro is a `typing.Callable`, which run-time type checks warn of
@log_tails.register(PoissonRows)
def _poisson(likelihood: Any, values: Tensor) -> Tails:
    return poisson_tails(as_array(values), pick(likelihood, likelihood.log_rate, values))


@log_tails.register(NegativeBinomialRows)
def _negative_binomial(likelihood: Any, values: Tensor) -> Tails:
    log_theta = bounded_log(likelihood.log_inverse_dispersion.double())
    parameters = (pick(likelihood, x, values) for x in (likelihood.log_mean, log_theta))
    return negative_binomial_tails(as_array(values), *parameters)


@log_tails.register(ZeroInflatedNegativeBinomialRows)
def _zero_inflated(likelihood: Any, values: Tensor) -> Tails:
    plain, x = _negative_binomial(likelihood, values), as_array(values)
    logits = pick(likelihood, likelihood.zero_logits, values)
    log_pi, log_rest = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
    extra_at, extra_below = np.where(x == 0, log_pi, -np.inf), np.where(x > 0, log_pi, -np.inf)
    return Tails(
        above=log_rest + plain.above,
        at=np.logaddexp(log_rest + plain.at, extra_at),
        below=np.logaddexp(log_rest + plain.below, extra_below),
        zero=np.logaddexp(log_rest + plain.zero, log_pi),
        some=log_rest + plain.some,
    )


@log_tails.register(MultinomialRows)
def _multinomial(likelihood: Any, values: Tensor) -> Tails:
    log_p = likelihood.logits.double().log_softmax(-1)
    log_rest = torch.where(log_p < -1, torch.log1p(-log_p.exp()), torch.log(-torch.expm1(log_p)))
    total = likelihood.total_count.to(log_p)[:, None].expand_as(log_p)
    parameters = (pick(likelihood, x, values) for x in (total, log_p, log_rest))
    return binomial_tails(as_array(values), *parameters)


@log_tails.register(BernoulliRows)
def _bernoulli(likelihood: Any, values: Tensor) -> Tails:
    logits = torch.from_numpy(pick(likelihood, likelihood.logits, values))
    parameters = F.logsigmoid(logits).numpy(), F.logsigmoid(-logits).numpy()
    return binomial_tails(as_array(values), np.ones(logits.shape), *parameters)


@log_tails.register(GaussianRows)
def _gaussian(likelihood: Any, values: Tensor) -> Tails:
    loc, scale = (pick(likelihood, x, values) for x in (likelihood.loc, likelihood.scale))
    return normal_tails(as_array(values), loc, scale)


def normal_tails(x: Array, mean: Array, sd: Array) -> Tails:
    """Tails of normals at `x`."""
    z, never = (x - mean) / sd, np.full(np.shape(x), -np.inf)
    return Tails(log_ndtr(-z), never, log_ndtr(z), never, np.zeros(np.shape(x)))


def pick(likelihood: Any, x: Tensor, values: Tensor) -> Array:
    """Numbers of a likelihood's entries, (b, n_cols) or (n_cols,), at those of `values`, in float64 on the host."""
    if values.ndim > 1:
        return as_array(x.expand(values.shape))
    batch = likelihood.batch
    return as_array(x[batch.col] if x.ndim == 1 else x[batch.row, batch.col])


def as_array(x: Tensor) -> Array:
    """A tensor as float64 on the host."""
    return x.double().cpu().numpy()


def given_not_zero(tails: Tails, x: Array) -> Tails:
    """Tails of counts given that they are not 0, for values from 1 on."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_some = np.maximum(tails.some, np.logaddexp(tails.above, tails.at))
        above, at = tails.above - log_some, tails.at - log_some
        # of a count that is surely above 0, nothing below it is lost
        lost = np.where(np.isneginf(tails.zero), -np.inf, tails.zero - tails.below)
        of_below = tails.below + np.log(np.maximum(-np.expm1(lost), 0)) - log_some
        of_rest = np.log(np.maximum(1 - np.exp(above) - np.exp(at), 0))
        # with the mass at 0, what lies between it and x is lost in P(X < x)
        below = np.where(x > 1, np.where(log_some < -1, of_rest, of_below), -np.inf)
    return Tails(above, at, below, np.full_like(below, -np.inf), np.zeros_like(below))


def log_tail_probability(tails: Tails, u: Array, tail: Tail | str) -> tuple[Array, np.ndarray]:
    """Log of randomised tail probabilities, and on which side of the predictive median the values are.

    Args:
        tails: Tails at the values.
        u: Uniform draws from (0, 1), one for each.
        tail: "upper" makes large values surprising, "lower" small ones, "two-sided" both.

    Returns:
        Log-probabilities (at most 0), and signs: 1 above, -1 below.
    """
    upper = np.logaddexp(tails.above, np.log(u) + tails.at)
    lower = np.logaddexp(tails.below, np.log1p(-u) + tails.at)
    chosen = {"upper": upper, "lower": lower, "two-sided": np.log(2) + np.minimum(upper, lower)}[tail]
    return np.minimum(chosen, 0), np.where(upper <= lower, 1, -1)


def require_tail(tail: str) -> None:
    """Check the name of a tail.

    Raises:
        PlatewiseError: If there is no such tail.
    """
    if tail not in get_args(Tail):
        raise PlatewiseError(f"Expected tail among {', '.join(get_args(Tail))}, got {tail!r}. Choose one.")
