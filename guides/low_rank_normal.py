"""Low-rank normal: q(globals) = Normal_d(m, W W' + diag s^2), W of d x k.

Keeps the k directions of strongest dependence; d (k + 2) numbers for d of them, and O(d k^2) a step. With k = 0 it
would be factorised, with k = d full.

References:
    Ong, Nott and Smith (2018), Gaussian variational approximation with a factor covariance structure.
"""

from __future__ import annotations

from collections.abc import Collection

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from ..data.errors import PlatewiseError
from .joint import JointGuide, Numbers
from .normal import INITIAL_SCALE

START_SHARE = 0.1  # of the initial scale, in all columns of W together: at zero they would not learn


class LowRankNormal(JointGuide):
    """A normal of low-rank plus diagonal covariance; further arguments as for `JointGuide`.

    Args:
        rank: Columns k of W; as many as there are numbers at most.

    Raises:
        PlatewiseError: If the rank is below 1.
    """

    def __init__(self, rank: int = 2, local: nn.Module | None = None, *, sites: Collection[str] | None = None) -> None:
        super().__init__(local, sites=sites)
        if rank < 1:
            raise PlatewiseError(f"Expected a rank of at least 1, got {rank}. 2 to 10 are usual.")
        self.rank = rank
        self.config |= {"rank": rank}

    def allocate(self, start: Float[Tensor, " d"]) -> dict[str, Tensor]:
        """Locations, logarithms of scales, and W in units of the initial scale."""
        d, k = len(start), min(self.rank, len(start))
        return {"loc": start, "log_scale": torch.zeros(d), "factor": START_SHARE * torch.randn(d * k) / k**0.5}

    def distribution(self, numbers: Numbers, loc: Float[Tensor, " d"], unit: Float[Tensor, " d"]) -> Distribution:
        """The normal."""
        scale, factor = INITIAL_SCALE * unit, numbers["factor"].reshape(len(loc), -1)
        variance = (scale * numbers["log_scale"].exp()).square()
        return dist.LowRankMultivariateNormal(loc + unit * numbers["loc"], scale[:, None] * factor, variance)
