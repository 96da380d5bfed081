"""Factorised normal: q(site) = prod_k Normal(m_k, s_k^2) for each element, every component on its own.

The smallest and fastest family: 2 d numbers a block of d dimensions. It cannot say that two components of a block
are uncertain together, so intervals of their sums come out too narrow where the data leave them entangled.
"""

from __future__ import annotations

import pyro.distributions as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from .normal import INITIAL_SCALE, NormalGuide


class MeanFieldNormal(NormalGuide):
    """A normal for every component of every latent site, all independent."""

    def width(self, d: int) -> int:
        """Numbers that describe a block: d locations, then d logarithms of scales."""
        return 2 * d

    def block(
        self, raw: Float[Tensor, "*n width"], loc: Float[Tensor, "*#n d"], unit: Float[Tensor, "*#n d"]
    ) -> Distribution:
        """Independent normals over vectors (..., d)."""
        d = loc.shape[-1]
        scale = INITIAL_SCALE * unit * raw[..., d:].exp()
        return dist.Normal(loc + unit * raw[..., :d], scale).to_event(1)
