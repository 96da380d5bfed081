"""Full normal: q(globals) = Normal_d(m, L L'), every global number correlated with every other.

Exact where the posterior of the globals is normal; d + d (d + 1) / 2 numbers for d of them, and O(d^2) a step.

References:
    Kucukelbir, Tran, Ranganath, Gelman and Blei (2017), Automatic differentiation variational inference (full rank).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from ..data.errors import PlatewiseError
from .joint import JointGuide
from .row_block_normal import cholesky_normals, cholesky_width

MAX_DIMENSIONS = 2000  # two million numbers, and as many again for each of Adam's moments


class FullNormal(JointGuide):
    """A multivariate normal for all globals together; arguments as for `JointGuide`."""

    def allocate(self, start: Float[Tensor, " d"]) -> None:
        """Make locations, logarithms of scales, and the triangle below the diagonal."""
        refuse_too_wide(start, type(self).__name__)
        self.raw = nn.Parameter(torch.cat([start, torch.zeros(cholesky_width(len(start)) - len(start))]))

    def distribution(self, loc: Float[Tensor, " d"], unit: Float[Tensor, " d"]) -> Distribution:
        """The multivariate normal."""
        return cholesky_normals(self.raw, loc, unit)


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
