"""Predictive distributions of entries as weighed draws of the latents have them, known at what was observed alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from .loo_draws import Drawn, LooDraws

Entries = Float[np.ndarray, " e"]


@dataclass(frozen=True, eq=False)
class WeighedPredictive:
    """Mixtures of what the draws say of each entry.

    Attributes:
        drawn: The draws, of n latents at e entries.
        log_weights: Logarithms of their weights, which add up to 1 for each entry.
    """

    drawn: LooDraws
    log_weights: Drawn

    def log_density(self, y: Entries) -> Entries:
        """Log density, in nats; `y` is what the draws were made at."""
        return np.asarray(logsumexp(self.log_weights + self.drawn.log_density, axis=0))

    def pit(self, y: Entries, u: Entries) -> Entries:
        """Probability integral transform, place u of [0, 1) among equal replications; `y` as above."""
        weight = np.exp(self.log_weights)
        below, equal = ((weight * x).sum(0) for x in (self.drawn.below, self.drawn.replicated == y))
        return np.minimum(below + u * equal, 1.0)
