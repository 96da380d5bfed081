"""Draws from predictive distributions whose shape a calibration split has mended, made of draws from those before.

What was drawn of an entry keeps its rank among all draws of it, and takes the value of that rank in the new shape. So
dependence between entries stays, and means and covariances change as the shape asks for. Distribution functions are
those of the draws, and the outermost draws stay outermost: use many where tails matter.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ..inference.fitted import Fitted

Drawn = Float[np.ndarray, "n e"]


def reshaped_draws(drawn: Drawn, fitted: Fitted) -> Drawn:
    """Draws of each entry in the shape that a calibration split asked for, if it did.

    Args:
        drawn: Draws from predictives with the noise recalibrated, n of each of e entries.
        fitted: The fit.
    """
    shape, n = None if fitted.recalibration is None else fitted.recalibration.shape, len(drawn)
    if shape is None:
        return drawn
    place = np.array([shape.inverse(k / (n + 1)) for k in range(1, n + 1)]) * (n + 1) - 1  # among the sorted, from 0
    low = np.clip(np.floor(place).astype(np.int64), 0, max(n - 2, 0))
    share = np.clip(place - low, 0, 1)[:, None].astype(drawn.dtype)
    order = np.argsort(drawn, axis=0)
    old, new = np.take_along_axis(drawn, order, 0), np.empty_like(drawn)
    np.put_along_axis(new, order, old[low] + share * (old[np.minimum(low + 1, n - 1)] - old[low]), 0)
    return new
