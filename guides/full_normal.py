"""Full normal: q(globals) = Normal_d(m, L L'), every global number correlated with every other.

Exact where the posterior of the globals is normal; d + d (d + 1) / 2 numbers for d of them, and O(d^2) a step.

References:
    Kucukelbir, Tran, Ranganath, Gelman and Blei (2017), Automatic differentiation variational inference (full rank).
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from ..data.errors import PlatewiseError
from .joint import JointGuide, Numbers
from .normal import INITIAL_SCALE
from .row_block_normal import unit_lower

MAX_DIMENSIONS = 2000  # two million numbers, and as many again for each of Adam's moments


class FullNormal(JointGuide):
    """A multivariate normal for all globals together; arguments as for `JointGuide`."""

    def allocate(self, start: Float[Tensor, " d"]) -> dict[str, Tensor]:
        """Locations, logarithms of scales, and the triangle below the diagonal."""
        refuse_too_wide(start, type(self).__name__)
        return {"normal": standing_at(start)}

    def distribution(self, numbers: Numbers, loc: Float[Tensor, " d"], unit: Float[Tensor, " d"]) -> Distribution:
        """The multivariate normal."""
        return regressed_normals(numbers["normal"], loc, unit)


def standing_at(start: Float[Tensor, " d"]) -> Float[Tensor, " width"]:
    """The numbers of a multivariate normal about a place, its components independent."""
    d = len(start)
    return torch.cat([start, start.new_zeros(d * (d + 1) // 2)])


def regressed_normals(
    raw: Float[Tensor, "*n width"], loc: Float[Tensor, " d"], unit: Float[Tensor, " d"]
) -> Distribution:
    """Multivariate normals from d locations, d logarithms of conditional scales, and coefficients.

    Each number is one of the normal's own noise plus a linear function of the noise of those before it, with
    coefficients that stay moderate where two numbers are known by their sum alone: L = (I + coefficients) diag(scales).
    """
    d = len(loc)
    scale = INITIAL_SCALE * raw[..., d : 2 * d].exp()
    scale_tril = unit[:, None] * unit_lower(raw[..., 2 * d :], d) * scale[..., None, :]
    return dist.MultivariateNormal(loc + unit * raw[..., :d], scale_tril=scale_tril)


def refuse_too_wide(start: Float[Tensor, " d"], family: str) -> None:
    """Check that a full covariance of so many numbers can be held.

    Raises:
        PlatewiseError: If it cannot.
    """
    if len(start) > MAX_DIMENSIONS:
        raise PlatewiseError(
            f"Expected at most {MAX_DIMENSIONS:,} numbers in the global sites for {family}, got {len(start):,}. Use "
            "LowRankNormal, put large sites into a plate of rows or columns, or name a few with sites=."
        )
