"""A cheap log density of every training entry without itself: what a sample of exacter ones is scaled to all with.

Where predictive moments are known, an entry y = f + noise, f ~ Normal(m, v) and the noise of variance s^2, is taken out
of f by hand:

    f without y ~ Normal(m + (m - y) v / (s^2 - v), v s^2 / (s^2 - v))        where v is well below s^2

Elsewhere, and where f is less certain than that, the log predictive density with the entry stands for it. A shape that
was recalibrated is put on top. It need not be right: what it lacks is made up for by the sample.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from .blocks import Request
from .moments import knows_moments, moments
from .noise import noise_factors
from .predictive import MAX_ENTRIES, NormalPredictive, Settings, predictives
from .reader import Reader
from .reshaped_predictive import reshaped

DRAWS = 20  # where the predictive is sampled
LARGEST = 0.5  # share of the noise's variance that the expectation's may be: beyond, m moves too far to be trusted

Entries = Float[np.ndarray, " e"]


class Surrogate(NamedTuple):
    """Log densities of all entries, approximately.

    Attributes:
        without: Of each without itself.
        gain: By how much those with it are higher.
    """

    without: Entries
    gain: Entries


def surrogate_of_entries(reader: Reader, request: Request) -> Surrogate:
    """Of entries that are observed one by one, all of them training entries."""
    found = Surrogate(np.empty(len(request)), np.zeros(len(request)))
    if knows_moments(reader):
        for block in request.blocks(reader, MAX_ENTRIES):
            mean, variance, noise = (_host(x) for x in moments(reader, block))
            y, judged = request.value[block.at], noise * noise_factors(reader.fitted, block) ** 2
            normals = (_without(y, mean, variance, noise, judged), NormalPredictive(mean, np.sqrt(variance + judged)))
            without, with_it = (reshaped(x, reader.fitted).log_density(y) for x in normals)
            found.without[block.at], found.gain[block.at] = without, with_it - without
        return found
    for block, predictive in predictives(reader, request, Settings(n_samples=DRAWS)):
        found.without[block.at] = predictive.log_density(request.value[block.at])
    return found


def _without(y: Entries, mean: Entries, variance: Entries, noise: Entries, judged: Entries) -> NormalPredictive:
    """Normals that entries were taken out of."""
    certain = variance < LARGEST * noise
    rest = np.where(certain, noise - variance, 1.0)
    shift = np.where(certain, (mean - y) * variance / rest, 0.0)
    without = np.where(certain, variance * noise / rest, variance)
    return NormalPredictive(mean + shift, np.sqrt(without + judged))


def _host(x: Tensor) -> Entries:
    return x.double().cpu().numpy()
