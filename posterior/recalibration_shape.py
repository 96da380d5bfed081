"""The shape that predictives ought to have, learned from where calibration entries lie in them.

The density of their places is a mixture of hats around knots, its weights the most probable under a Dirichlet prior
around the uniform density. How strong the prior is, cross-validation says; a density that is not clearly better than
the uniform one, by 2 standard errors, on entries it was not learned from is not taken.

References:
    Kuleshov, Fenner and Ermon (2018), Accurate uncertainties for deep learning using calibrated regression.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from ..inference.fitted import Fitted
from ..inference.recalibration_map import RecalibrationMap

LEAST_OF_SHAPE = 2000  # entries: the standard error of the share of a 50 % interval is then 0.011
KNOTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
OUTER = (1e-6, 1e-5, 1e-4, 2.5e-4, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05)  # from either end, ...
BEYOND = 25  # ... as far out as so many entries lie beyond
STRENGTHS = (30.0, 100.0, 300.0, 1000.0, 3000.0)  # of the prior, in entries
FOLDS = 5
STANDARD_ERRORS = 2.0  # by which log densities have to be higher
SWEEPS = 100  # of expectation-maximisation; more change nothing that is printed
SHOWN = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)

Weights = Float[np.ndarray, " k"]


def learned_shape(pit: Float[np.ndarray, " e"], seed: int = 0) -> RecalibrationMap | None:
    """The map from places in the old predictive to those in one of the right shape; None where none is clearly better.

    Args:
        pit: Places of calibration entries, from 0 to 1.
        seed: Of the folds.
    """
    low, high = ([t for t in OUTER if (distance < t).sum() >= BEYOND] for distance in (pit, 1 - pit))
    knots = np.array([*low, *KNOTS, *(1 - t for t in reversed(high))])
    edges = _edges()
    cell = np.clip(np.searchsorted(edges, pit, side="right") - 1, 0, len(edges) - 2)
    fold = np.random.default_rng(seed).permutation(len(pit)) % FOLDS
    counts = np.stack([np.bincount(cell[fold == k], minlength=len(edges) - 1) for k in range(FOLDS)]).astype(np.float64)
    hats = _Hats.around(knots, edges)
    gains = {strength: _gain(counts, hats, strength) for strength in STRENGTHS}
    best = max(gains, key=lambda strength: gains[strength][0])
    gain, error = gains[best]
    if gain <= STANDARD_ERRORS * error:
        return None
    density = _density(counts.sum(0), hats, best)
    return RecalibrationMap(tuple(knots.tolist()), tuple(density.tolist()))


def shares_by_place(fitted: Fitted) -> pd.DataFrame:
    """The map as a table: `place`, quantiles of the predictive without it, and `share`, of entries expected below.

    It has no lines where the shape of the fit's predictives is left as it is.
    """
    shape = None if fitted.recalibration is None else fitted.recalibration.shape
    place = np.zeros(0) if shape is None else np.array(SHOWN)
    return pd.DataFrame({"place": place, "share": place if shape is None else shape(place)})


def _edges() -> Float[np.ndarray, " ends"]:
    """Ends of the cells that places are told apart by: every knot is one, and they are narrower towards 0 and 1."""
    tail = np.concatenate([np.geomspace(a, b, 9)[:-1] for a, b in pairwise((*OUTER, KNOTS[0]))])
    inner = np.linspace(KNOTS[0], KNOTS[-1], 801)
    return np.concatenate([[0.0], tail, inner, 1 - tail[::-1], [1.0]])


class _Hats(NamedTuple):
    """_Hats around knots, mean values in each cell, and their areas; the outermost stay at 1 beyond their knots."""

    value: Float[np.ndarray, "cells k"]
    area: Weights

    @classmethod
    def around(cls, knots: Weights, edges: Float[np.ndarray, " ends"]) -> _Hats:
        """Those of the knots, which are among the cells' ends."""
        middle, width = 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)
        value = np.stack([np.interp(middle, knots, one) for one in np.eye(len(knots))], axis=1)
        return cls(value, width @ value)


def _gain(counts: Float[np.ndarray, "f cells"], hats: _Hats, strength: float) -> tuple[float, float]:
    """Mean log density of entries of each fold, by the others, and its standard error; the uniform density has 0."""
    total = counts.sum(0)
    log_density = np.stack([np.log(hats.value @ _density(total - of, hats, strength)) for of in counts])
    n, gain = counts.sum(), float((counts * log_density).sum() / counts.sum())
    return gain, float(np.sqrt((counts * (log_density - gain) ** 2).sum()) / n)


def _density(counts: Float[np.ndarray, " cells"], hats: _Hats, strength: float) -> Weights:
    """The most probable density at each knot, by expectation-maximisation over which hat a place is of."""
    density = np.ones(len(hats.area))
    for _ in range(SWEEPS):
        of_hat = density * (hats.value.T @ (counts / (hats.value @ density)))
        density = (of_hat + strength * hats.area) / ((counts.sum() + strength) * hats.area)
    return density
