"""Averages of random tensors with the error that they have."""

from collections.abc import Callable

import torch
from torch import Tensor


def average(draw: Callable[[], Tensor], n: int) -> tuple[Tensor, Tensor]:
    """Mean of `n` independent draws, and its standard error."""
    draws = torch.stack([draw().detach() for _ in range(n)])
    return draws.mean(0), draws.std(0) / n**0.5


def assert_agree(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], sigmas: float = 4.5) -> None:
    """Check that two averages, each with its standard error, differ by no more than chance.

    A standard normal is beyond 4.5 once in 150,000 times: of hundreds of components, once in a thousand runs.
    """
    error = (one[1] ** 2 + other[1] ** 2).sqrt()
    off = (one[0] - other[0]).abs()
    scale = torch.maximum(one[0].abs(), other[0].abs())
    assert (off <= sigmas * error + 1e-9 * scale + 1e-12).all(), f"off by {(off / error).max():.1f} standard errors"
