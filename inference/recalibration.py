"""What a calibration split says of a fit: factors on its noise, by activity of the row, and the predictive's shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .recalibration_map import RecalibrationMap


@dataclass(frozen=True)
class Recalibration:
    """Temperatures of the noise, and a map of places in predictives; the posterior of latents is left as it is.

    Attributes:
        temperatures: Factor on the noise's standard deviation in each part of the rows.
        edges: Most training entries of a row in each part but the last, ascending; one number fewer than temperatures.
        n_entries: Entries of the calibration split.
        fingerprint: Digest of the calibration split.
        knots: Places at which the density of places is known; none where the shape is left as it is.
        density: The density of places there.
    """

    temperatures: tuple[float, ...]
    edges: tuple[float, ...]
    n_entries: int
    fingerprint: str
    knots: tuple[float, ...] = ()
    density: tuple[float, ...] = ()

    @property
    def shape(self) -> RecalibrationMap | None:
        """The map of places in the predictive with this noise; None where its shape is left as it is."""
        return RecalibrationMap(self.knots, self.density) if self.knots else None

    def of(self, n_training: Int[np.ndarray, " e"]) -> Float[np.ndarray, " e"]:
        """The factor for rows with so many training entries."""
        return np.array(self.temperatures)[self.part_of(n_training)]

    def part_of(self, n_training: Int[np.ndarray, " e"]) -> Int[np.ndarray, " e"]:
        """The part, from 0, of rows with so many training entries."""
        return np.searchsorted(np.array(self.edges), n_training, side="left")

    def in_words(self) -> str:
        """What was done, for whoever reads figures."""
        what = "noise and shape" if self.knots else "noise"
        return f"{what} recalibrated on {self.n_entries:,} entries"
