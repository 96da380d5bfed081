"""A sum over many, from a sample of them and a cheap surrogate of all: the difference estimator.

    sum_i y_i  ~  sum_i s_i + N mean_S(y_i - s_i)

It is unbiased whatever the surrogates s, as long as they were made without looking at which are sampled, and the better
the closer they are. How much another data set would differ is told from the terms that were sampled alone: the
estimate of the reference's equation 9, which has the surrogates in it, may turn out negative.

References:
    Magnusson, Riis Andersen, Jonasson and Vehtari (2020), Leave-one-out cross-validation for Bayesian model comparison
    in large data, equations 7 and 8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Total:
    """An estimated sum.

    Attributes:
        value: The sum.
        se: Its standard error as a sum of N independent terms, were all of them known: how much another data set of
            this size would differ.
        subsampling_se: Standard error from looking at some of them only.
    """

    value: float
    se: float
    subsampling_se: float


def difference_estimate(
    surrogate: Float[np.ndarray, " N"],
    at: Int[np.ndarray, " n"],
    value: Float[np.ndarray, " n"],
    group: Int[np.ndarray, " n"] | None = None,
) -> Total:
    """Estimate a sum and its standard errors.

    Args:
        surrogate: What stands for each of the N terms.
        at: Which terms were sampled: a simple random sample without replacement, or one of groups, as many terms of
            each.
        value: Those terms themselves.
        group: The group of each sampled term, from 0; each is one by itself if None.
    """
    n_all, differences = len(surrogate), value - surrogate[at]
    by_sampling = n_all * math.sqrt(_variance_of_mean(differences, n_all, group))
    total = float(surrogate.sum()) + n_all * float(differences.mean())
    return Total(total, math.sqrt(n_all * _variance(value)), by_sampling)


def _variance_of_mean(x: Float[np.ndarray, " n"], n_all: int, group: Int[np.ndarray, " n"] | None) -> float:
    """Of a simple random sample; of groups that of their means, as if there were many more groups than were drawn."""
    if group is None:
        return 0.0 if len(x) >= n_all else _variance(x) / len(x) * (1 - len(x) / n_all)
    means = np.bincount(group, x) / np.bincount(group)
    return _variance(means) / len(means)


def _variance(x: Float[np.ndarray, " n"]) -> float:
    return float(x.var(ddof=1)) if len(x) > 1 else math.inf
