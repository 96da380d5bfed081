"""Whether iterates of a stochastic algorithm wander about one place, and how well their average is known.

Iterates of a fixed step size are draws of a Markov chain: what is asked of draws of MCMC can be asked of them. Split
R-hat compares the two halves of a window; the effective size and the Monte Carlo error are those of the mean over it.

References:
    Vehtari, Gelman, Simpson, Carpenter and Buerkner (2021), Rank-normalization, folding, and localization: an improved
        R-hat for assessing convergence of MCMC.
    Dhaka, Catalina, Andersen, Magnusson, Huggins and Vehtari (2020), Robust, accurate stochastic optimization for
        variational inference.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

FEWEST = 4  # draws that halves with a variance can be made of


def split_r_hat(draws: Float[Tensor, "t k"]) -> Float[Tensor, " k"]:
    """R-hat of one chain split into halves: 1 where they agree; 1 of a number that never moved.

    Args:
        draws: Consecutive iterates of k numbers, 4 or more; of an odd number the middle one is left out.

    Raises:
        ValueError: If there are fewer than four draws.
    """
    halves = _halves(draws)
    n = halves.shape[1]
    within, between = halves.var(1).mean(0), halves.mean(1).var(0)
    ratio = ((n - 1) / n + between / within).sqrt()
    return torch.where((within == 0) & (between == 0), 1.0, ratio)


def effective_size(draws: Float[Tensor, "t k"]) -> Float[Tensor, " k"]:
    """Number of independent draws whose mean is known as well, by autocorrelations of both halves.

    They are summed in pairs as long as these are positive, each at most the one before (Geyer 1992). A number that
    never moved counts as all draws.

    Args:
        draws: Consecutive iterates of k numbers, 4 or more.

    Raises:
        ValueError: If there are fewer than four draws.
    """
    halves = _halves(draws)
    n, total = halves.shape[1], 2 * halves.shape[1]
    covariance = _autocovariance(halves).mean(0)
    within = covariance[0] * n / (n - 1)
    variance = covariance[0] + halves.mean(1).var(0)
    rho = 1 - (within - covariance) / variance
    rho[0] = 1.0
    even = rho[: max((n - 1) // 2, 1) * 2 : 2]
    pairs = even + rho[1 : len(even) * 2 : 2]
    last = (pairs > 0).long().cumprod(0)[:-1].sum(0)  # the first pair that is not positive, or the last of all
    before = torch.arange(len(pairs), device=pairs.device)[:, None] < last
    time = -1 + 2 * (pairs.cummin(0).values * before).sum(0) + even.gather(0, last[None])[0].clamp_min(0)
    size = total / time.clamp_min(1 / math.log10(total))
    return torch.where(variance == 0, float(total), size)


def mc_error(draws: Float[Tensor, "t k"]) -> Float[Tensor, " k"]:
    """Standard error of the mean of consecutive iterates, in their units."""
    return draws.double().std(0) / effective_size(draws).sqrt()


def _halves(draws: Tensor) -> Float[Tensor, "2 n k"]:
    if len(draws) < FEWEST:
        raise ValueError(f"Expected {FEWEST} draws or more, got {len(draws)}. Take a longer window.")
    n = len(draws) // 2
    return torch.stack([draws[:n], draws[-n:]]).double()


def _autocovariance(chains: Float[Tensor, "c n k"]) -> Float[Tensor, "c n k"]:
    """By fast Fourier transform, biased: each lag divided by n."""
    n = chains.shape[1]
    spectrum = torch.fft.rfft(chains - chains.mean(1, keepdim=True), 2 * n, dim=1)
    power = spectrum.real**2 + spectrum.imag**2
    return torch.fft.irfft(power, 2 * n, dim=1)[:, :n] / n
