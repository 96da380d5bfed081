"""A monotone map of the unit interval onto itself: what a calibration split says of the shape of predictives.

Its derivative is the density of places in the predictive: linear between knots and constant beyond the outermost ones,
so that the map is quadratic between them and linear in the tails. Both it and its inverse are exact.

    R(u) = integral of r from 0 to u,        r > 0,    R(0) = 0,    R(1) = 1
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Places = Float[np.ndarray, "..."]


@dataclass(frozen=True)
class RecalibrationMap:
    """R, by the values of its derivative.

    Attributes:
        knots: Places strictly between 0 and 1, ascending.
        density: The derivative at each; positive, with integral 1.
    """

    knots: tuple[float, ...]
    density: tuple[float, ...]

    def __call__(self, u: Places) -> Places:
        """Shares below places u of the old predictive."""
        knots, density, below, slope = self._pieces()
        at = np.clip(np.searchsorted(knots, u, side="right") - 1, 0, len(slope) - 1)
        step = u - knots[at]
        return np.asarray(below[at] + step * (density[at] + 0.5 * slope[at] * step))

    def derivative(self, u: Places) -> Places:
        """How much denser observations are at places u than the old predictive had them."""
        return np.asarray(np.interp(u, self.knots, self.density))

    def inverse(self, p: float) -> float:
        """The place below which there is a share p."""
        knots, density, below, slope = self._pieces()
        at = int(np.clip(np.searchsorted(below, p, side="right") - 1, 0, len(slope) - 1))
        rest = p - below[at]
        # the root that stays right where the piece is all but linear
        root = np.sqrt(density[at] ** 2 + 2 * slope[at] * rest)
        return float(min(knots[at] + 2 * rest / (density[at] + root), 1.0))

    def _pieces(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Ends of the pieces, r and R there, and the slope of r in each."""
        knots = np.array([0.0, *self.knots, 1.0])
        density = np.array([self.density[0], *self.density, self.density[-1]])
        width = np.diff(knots)
        below = np.append(0.0, np.cumsum(0.5 * width * (density[1:] + density[:-1])))
        return knots, density, below, np.diff(density) / width
