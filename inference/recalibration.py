"""What a calibration split says of a fit's noise: factors on its standard deviation, by activity of the row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Recalibration:
    """Temperatures of the noise; what is uncertain about latents is left as it is.

    Attributes:
        temperatures: Factor on the noise's standard deviation in each part of the rows.
        edges: Most training entries of a row in each part but the last, ascending; one number fewer than temperatures.
        n_entries: Entries of the calibration split.
        fingerprint: Digest of the calibration split.
    """

    temperatures: tuple[float, ...]
    edges: tuple[float, ...]
    n_entries: int
    fingerprint: str

    def of(self, n_training: Int[np.ndarray, " e"]) -> Float[np.ndarray, " e"]:
        """The factor for rows with so many training entries."""
        return np.array(self.temperatures)[self.part_of(n_training)]

    def part_of(self, n_training: Int[np.ndarray, " e"]) -> Int[np.ndarray, " e"]:
        """The part, from 0, of rows with so many training entries."""
        return np.searchsorted(np.array(self.edges), n_training, side="left")

    def in_words(self) -> str:
        """What was done, for whoever reads figures."""
        return f"noise recalibrated on {self.n_entries:,} entries"
