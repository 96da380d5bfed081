"""Amortised normal with full covariance: q(z_i | x_i) = Normal(m(x_i), L(x_i) L(x_i)').

    L = diag(s) (I + A),    A strictly lower triangular

The encoder says m, log s and A. Its weights for A start at zero: the guide starts as the diagonal one, and A is in
units of the scales. Of d dimensions it takes d (d + 3) / 2 numbers a row.

References:
    Kingma and Welling (2019), An introduction to variational autoencoders, section 2.5.1.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from . import kl as kl  # registers the divergence of a block from its prior
from .amortized import AmortizedGuide, RowSite, loc_and_scale


class AmortizedFullNormal(AmortizedGuide):
    """Components that may depend on each other given the row; arguments as for `AmortizedGuide`."""

    def width(self, d: int) -> int:
        """Locations, logarithms of scales, and the triangle A."""
        return 2 * d + d * (d - 1) // 2

    def distribution(self, site: RowSite, numbers: Float[Tensor, "b width"]) -> Distribution:
        """Multivariate normals."""
        loc, scale = loc_and_scale(numbers, site.d)
        row, col = torch.tril_indices(site.d, site.d, -1, device=numbers.device)
        unit = torch.diag_embed(torch.ones_like(scale))
        unit[..., row, col] = numbers[..., 2 * site.d :]
        return dist.MultivariateNormal(loc, scale_tril=scale[..., None] * unit)

    def start(self, site: RowSite, weight: Tensor, bias: Tensor) -> None:
        """Start with A = 0."""
        weight[2 * site.d :] = 0
        bias[2 * site.d :] = 0
