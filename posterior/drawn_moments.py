"""Moments of normal entries by draws of the latents, where a model and its guide know none in closed form."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch.distributions import Normal

from ..data.errors import PlatewiseError
from .blocks import Request
from .draws import draws, entry_site
from .predictive import MAX_ENTRIES
from .reader import Reader

DRAWS = 200  # the variance of an expectation is then known to 10 %, and is a small part of an entry's

Numbers = Float[np.ndarray, " e"]


def drawn_moments(reader: Reader, request: Request, n: int = DRAWS) -> tuple[Numbers, Numbers, Numbers]:
    """Mean of each entry, variance of its expectation, and mean variance of its noise.

    Args:
        reader: The fit.
        request: The entries.
        n: Draws.

    Raises:
        PlatewiseError: If the likelihood is no normal.
    """
    mean, variance, noise = (np.empty(len(request)) for _ in range(3))
    for block in request.blocks(reader, MAX_ENTRIES):
        total, square, of_noise = (torch.zeros(len(block.at), dtype=torch.float64) for _ in range(3))
        for trace in draws(reader, block, n):
            likelihood = _normal(entry_site(trace, block)["fn"])
            loc, scale = (x.expand(len(block.at)).double().cpu() for x in (likelihood.loc, likelihood.scale))
            total += loc
            square += loc**2
            of_noise += scale**2
        mean[block.at] = total / n
        variance[block.at] = ((square - total**2 / n) / (n - 1)).clamp_min(0)
        noise[block.at] = of_noise / n
    return mean, variance, noise


def _normal(likelihood: object) -> Normal:
    if not isinstance(likelihood, Normal):
        raise PlatewiseError(
            f"Expected a normal likelihood, whose noise a factor can widen, got {type(likelihood).__name__}. Give the "
            "model another likelihood, or scales of its own by row or column, and judge that by diagnose."
        )
    return likelihood
