"""A Student-t distribution as a model without data: what a family makes of a known target.

Story:

    x ~ StudentT(df, loc, scale)

Sites:

| symbol | site | shape | meaning             |
|--------|------|-------|---------------------|
| x      | `x`  | ()    | the latent variable |

Nothing is observed: the posterior is the prior, its log evidence is 0, and the bound of a guide q is -D[q || p].
`svi.fit(StudentT(), guide, None)` finds the member of the guide's family with the least divergence, which is narrower
than the target: q pays for mass where p has little. The other divergence, D[p || q], is least where moments match, at
the target's own standard deviation.

References:
    Bishop (2006), Pattern recognition and machine learning, section 10.1.2 (the two divergences).
    Minka (2005), Divergence measures and message passing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError


class StudentT(nn.Module):
    """One latent variable with a Student-t prior, and no data; see the module's docstring.

    Args:
        df: Degrees of freedom.
        loc: Location.
        scale: Scale; the standard deviation is sqrt(df / (df - 2)) times as much.

    Raises:
        PlatewiseError: If the degrees of freedom or the scale are not positive, or one of the three is not finite.
    """

    recommended: ClassVar[Mapping[str, Any]] = {"min_steps": 1000, "learning_rate": 0.1, "particles": 256}

    def __init__(self, df: float = 3.0, loc: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        self.config = {"df": df, "loc": loc, "scale": scale}
        if not (all(map(math.isfinite, (df, loc, scale))) and df > 0 and scale > 0):
            raise PlatewiseError(
                f"Expected finite numbers, df and scale positive, got df={df}, loc={loc}, scale={scale}. Leave them "
                "out for 3, 1 and 1."
            )
        self.df, self.loc, self.scale = (nn.Buffer(torch.tensor(float(x))) for x in (df, loc, scale))

    def forward(self, batch: RowBatch) -> Tensor:
        """Run the generative program; nothing of the batch is read."""
        x: Tensor = pyro.sample("x", self.target)
        return x

    @property
    def target(self) -> Distribution:
        """The distribution of `x`."""
        return dist.StudentT(self.df, self.loc, self.scale)

    def log_prob(self, x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
        """Log density of the target at some points."""
        log_prob: Tensor = self.target.log_prob(x)
        return log_prob

    def matched_normal(self) -> Normal:
        """The normal of the target's mean and variance: of all normals q the one with the least D[p || q].

        Raises:
            PlatewiseError: If the target has no variance: two degrees of freedom or fewer.
        """
        if self.df <= 2:
            raise PlatewiseError(
                f"Expected df above 2, where a Student-t has a variance, got {self.config['df']}. Raise df, or fit "
                "D[q || p] by svi.fit."
            )
        return Normal(self.loc, self.scale * (self.df / (self.df - 2)).sqrt())
