"""Factorised normal: q(site) = prod_k Normal(m_k, s_k^2) for each element, every component on its own.

The smallest and fastest family: 2 d numbers a block of d dimensions. It cannot say that two components of a block
are uncertain together, so intervals of their sums come out too narrow where the data leave them entangled.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from .normal import NormalGuide, normals, raw_of_normals


class MeanFieldNormal(NormalGuide):
    """A normal for every component of every latent site, all independent."""

    factorised = True

    def width(self, d: int) -> int:
        """Numbers that describe a block: d locations, then d logarithms of scales."""
        return 2 * d

    def block(
        self, raw: Float[Tensor, "*n width"], loc: Float[Tensor, "*#n d"], unit: Float[Tensor, "*#n d"]
    ) -> Distribution:
        """Independent normals over vectors (..., d)."""
        return normals(raw, loc, unit)

    def raw_of(
        self,
        mean: Float[Tensor, "k d"],
        cov: Float[Tensor, "k d"],
        loc: Float[Tensor, "#k d"],
        unit: Float[Tensor, "#k d"],
    ) -> Float[Tensor, "k width"]:
        """The numbers of blocks with these means and variances."""
        return raw_of_normals(mean, cov, loc, unit)
