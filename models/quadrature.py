"""The divergence of one density on the line from another, by quadrature: no draws, no noise.

    D[q || p] = integral of q(x) log(q(x) / p(x)) dx

Source:
    Kullback and Leibler (1951), On information and sufficiency.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

REACH = 1e6  # half width of a grid, in scales; a Student-t of 3 degrees has a share of 1e-18 beyond


def real_line(loc: float = 0.0, scale: float = 1.0, n: int = 200_001) -> Float[Tensor, " n"]:
    """A grid on the line, fine around `loc` and ever coarser away from it, out to a million scales.

    Args:
        loc: Where it is finest.
        scale: Unit of its fineness.
        n: Number of points.

    Returns:
        loc + scale sinh(u) for equidistant u, in float64.
    """
    most = math.asinh(REACH)
    return loc + scale * torch.linspace(-most, most, n, dtype=torch.float64).sinh()


def divergence_integrand(q_log_prob: Float[Tensor, " n"], p_log_prob: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """What D[q || p] is the integral of, q log(q / p), from log densities at some points; 0 where q is 0."""
    q = q_log_prob.double().exp()
    return torch.where(q > 0, q * (q_log_prob.double() - p_log_prob.double()), 0.0)


def divergence(
    q_log_prob: Float[Tensor, " n"], p_log_prob: Float[Tensor, " n"], grid: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """D[q || p] in nats, by the trapezoidal rule in float64.

    Args:
        q_log_prob: Log density of q at the grid's points.
        p_log_prob: The same of p.
        grid: The points, ascending, as far as q has mass that counts.
    """
    return torch.trapezoid(divergence_integrand(q_log_prob, p_log_prob), grid.double())
