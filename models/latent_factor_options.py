"""What a person may set of the latent factor model, checked, and made parameters where it is learned."""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor, nn

from ..data.errors import PlatewiseError
from ..data.meaning import Unstored


def refuse_unfit(rank: int, mu_scale: float, unstored: str, noise: str) -> None:
    """Check a rank, the grand mean's scale, and the meaning of entries that are not stored.

    Raises:
        PlatewiseError: If one is out of range, or the noise is not for such entries.
    """
    if rank < 1:
        raise PlatewiseError(f"Expected a rank of at least 1, got {rank}. Choose, say, 16.")
    if not (math.isfinite(mu_scale) and mu_scale > 0):
        raise PlatewiseError(f"Expected mu_scale positive and finite, got {mu_scale}. Leave it out for 100.")
    if unstored not in get_args(Unstored):
        raise PlatewiseError(f'Expected unstored="missing" (ratings) or "zero" (counts), got {unstored!r}. Choose one.')
    if noise != "constant" and unstored == "zero":
        raise PlatewiseError(
            f'Expected noise="constant" where entries not stored are observed zeros, got {noise!r}. Leave it out, or '
            'take them as unstored="missing".'
        )


def log_scale(name: str, given: float | list[float] | None, shape: tuple[int, ...], start: float) -> Tensor:
    """Logarithm of a scale: a parameter if it is learned, a fixed tensor if it is given."""
    if given is None:
        return nn.Parameter(torch.full(shape, start).log())
    scale = torch.as_tensor(given, dtype=torch.get_default_dtype())
    if not (scale.isfinite() & (scale > 0)).all() or scale.shape not in ((), shape):
        raise PlatewiseError(
            f"Expected {name} positive and finite, as one number or of shape {shape}, got {given}. Leave it out to "
            "learn it."
        )
    return nn.Buffer(scale.expand(shape).log())
