"""Predictive distributions whose shape a calibration split has mended: G = R(F) for any predictive F.

    density g = f R'(F),    quantiles F^-1(R^-1(p)),    place of y R(F(y))

Mean, standard deviation and CRPS differ from those of F by integrals of R(F) - F, which is small and smooth: by the
trapezoidal rule over 31 points within 6 standard deviations, right to 2e-3 standard deviations on MovieLens.

References:
    Kuleshov, Fenner and Ermon (2018), Accurate uncertainties for deep learning using calibrated regression.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from ..inference.fitted import Fitted
from ..inference.recalibration_map import RecalibrationMap
from .count_tails import Tails

Entries = Float[np.ndarray, " e"]
P = TypeVar("P")

STEP = 0.4  # of the rule, in standard deviations
GRID = STEP * np.arange(-15, 16)


@dataclass(frozen=True, eq=False)
class ReshapedPredictive:
    """Predictives with a map of places on top.

    Attributes:
        base: Those without: normals, mixtures of normals, or draws.
        shape: The map.
    """

    base: Any
    shape: RecalibrationMap

    @property
    def mean(self) -> Entries:
        """Means of the base: point predictions stay the model's. `shift` is what the new shape's own mean adds."""
        return np.asarray(self.base.mean)

    @property
    def sd(self) -> Entries:
        """Standard deviations, about the new shape's own mean."""
        return self._moments[1]

    @property
    def shift(self) -> Entries:
        """Mean of the new shape, less that of the base."""
        return self._moments[0]

    def quantile(self, p: float) -> Entries:
        """Quantiles at probability p."""
        return np.asarray(self.base.quantile(self.shape.inverse(p)))

    def interval(self, level: float) -> tuple[Entries, Entries]:
        """Ends of the central interval: equal probabilities beyond either, not equal lengths."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def cdf(self, y: Entries) -> Entries:
        """Probability of at most y."""
        return self.shape(self.base.cdf(y))

    def pit(self, y: Entries, u: Entries) -> Entries:
        """Probability integral transform; `u` breaks ties where the base is drawn."""
        return self.shape(self.base.pit(y, u))

    def log_density(self, y: Entries) -> Entries:
        """Log density, in nats."""
        # of draws, half-way between those on either side: beyond all of them is not at 0
        place = self.base.pit(y, np.full(len(y), 0.5))
        return np.asarray(self.base.log_density(y) + np.log(self.shape.derivative(place)))

    def tails(self, y: Entries) -> Tails:
        """Log-probabilities of what lies on either side of y, of a base in closed form."""
        old: Tails = self.base.tails(y)
        knots, density = self.shape.knots, self.shape.density
        below, above = (np.minimum(np.exp(x), 1.0) for x in (old.below, old.above))
        # linear in the tails, where differences from 0 and from 1 would underflow
        with np.errstate(divide="ignore"):
            lower = np.where(below < knots[0], old.below + np.log(density[0]), np.log(self.shape(below)))
            upper = np.where(above < 1 - knots[-1], old.above + np.log(density[-1]), np.log1p(-self.shape(1 - above)))
        return old._replace(above=upper, below=lower)

    def crps(self, y: Entries) -> Entries:
        """CRPS: that of the base, and the integral of (G - 1{x >= y})^2 - (F - 1{x >= y})^2."""
        scale, more = np.asarray(self.base.sd), np.zeros(len(y))
        place = (y - self.mean) / scale
        for z in GRID:
            old, moved = self._moved(z)
            # a point's cell counts by its part above y
            beyond = np.clip((z - place) / STEP + 0.5, 0, 1)
            more += moved * (2 * old + moved - 2 * beyond)
        return np.asarray(self.base.crps(y) + STEP * scale * more)

    @cached_property
    def _moments(self) -> tuple[Entries, Entries]:
        """Shift of the mean, and standard deviation, in the units of the entries."""
        scale = np.asarray(self.base.sd)
        first, second = np.zeros(len(scale)), np.ones(len(scale))
        for z in GRID:
            _, moved = self._moved(z)
            first -= STEP * moved
            second -= 2 * STEP * z * moved
        return scale * first, scale * np.sqrt(np.maximum(second - first**2, 0))

    def _moved(self, z: float) -> tuple[Entries, Entries]:
        """F, and R(F) - F, so many standard deviations from the mean."""
        old = self.base.cdf(self.base.mean + z * self.base.sd)
        return old, self.shape(old) - old


def reshaped(predictive: P, fitted: Fitted) -> P | ReshapedPredictive:
    """Predictives of entries with the shape that a calibration split asked for, if it did."""
    shape = None if fitted.recalibration is None else fitted.recalibration.shape
    return predictive if shape is None else ReshapedPredictive(predictive, shape)
