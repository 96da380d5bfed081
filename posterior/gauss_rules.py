"""Gauss rules: a few points and weights whose sums are expectations of smooth functions.

A rule of k points is exact for polynomials up to degree 2 k - 1. Points are eigenvalues of the matrix of the recurrence
of the law's orthogonal polynomials, weights the squared first components of its eigenvectors.

References:
    Golub and Welsch (1969), Calculation of Gauss quadrature rules.
    Gautschi (2004), Orthogonal polynomials: computation and approximation, section 2.2.3 (Lanczos, of a discrete law).
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.polynomial.hermite_e import hermegauss
from scipy.linalg import eigh_tridiagonal
from scipy.special import digamma, polygamma

GRID = 4001  # points that stand for a density
REACH = 14.0  # standard deviations of the grid on either side, beyond which a normal has 1e-44
DECAY = 40.0  # and so many scales of an exponential tail: 4e-18 beyond


class Rule(NamedTuple):
    """Points (k,) and their weights (k,), which add up to 1."""

    point: Float[np.ndarray, " k"]
    weight: Float[np.ndarray, " k"]


@lru_cache
def normal_rule(k: int) -> Rule:
    """The rule of k points for the standard normal."""
    point, weight = hermegauss(k)
    return Rule(point, weight / weight.sum())


@lru_cache
def log_gamma_rule(shape: float, k: int) -> Rule:
    """The rule of k points for log X, X ~ Gamma(shape, shape): a log precision of mean precision 1.

    Its lower tail is exponential, and the longer the smaller the shape.
    """
    centre, scale = float(digamma(shape)) - np.log(shape), float(polygamma(1, shape)) ** 0.5
    x = np.linspace(centre - REACH * scale - DECAY / shape, centre + REACH * scale, GRID)
    log_density = shape * (x - np.exp(x))
    density = np.exp(log_density - log_density.max())
    return _gauss(x, density / density.sum(), k)


def _gauss(x: Float[np.ndarray, " n"], mass: Float[np.ndarray, " n"], k: int) -> Rule:
    """The rule of k points for a discrete law, by Lanczos' recurrence."""
    basis, diagonal, beside = np.sqrt(mass)[None], np.empty(k), np.empty(k)
    for i in range(k):
        new = x * basis[-1]
        diagonal[i] = basis[-1] @ new
        for _ in range(2):  # the second time takes off what rounding left of the others
            new = new - (basis @ new) @ basis
        beside[i] = np.linalg.norm(new)
        basis = np.vstack([basis, new / beside[i]])
    point, vectors = eigh_tridiagonal(diagonal, beside[:-1])
    return Rule(point, vectors[0] ** 2)
