"""Row-block normal: q(site) = Normal_d(m, L L') for each element, blocks independent of each other.

One full covariance per user (A_i, a_i) and per item (B_j, b_j): the components of a block may be uncertain together,
which is what makes intervals honest. d + d (d + 1) / 2 numbers a block of d dimensions.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from .normal import INITIAL_SCALE, NormalGuide


class RowBlockNormal(NormalGuide):
    """A multivariate normal for every element of every latent site."""

    def width(self, d: int) -> int:
        """Numbers that describe a block: d locations, d logarithms of scales, d (d - 1) / 2 below the diagonal."""
        return d + d * (d + 1) // 2

    def block(
        self, raw: Float[Tensor, "*n width"], loc: Float[Tensor, "*n d"], unit: Float[Tensor, "*n d"]
    ) -> Distribution:
        """Multivariate normals over vectors (..., d), with Cholesky factor L = diag(scale) (I + lower triangle)."""
        d = loc.shape[-1]
        scale = INITIAL_SCALE * unit * raw[..., d : 2 * d].exp()
        lower = _unit_lower(raw[..., 2 * d :], d)
        return dist.MultivariateNormal(loc + unit * raw[..., :d], scale_tril=scale[..., None] * lower)


def _unit_lower(below: Float[Tensor, "*n k"], d: int) -> Float[Tensor, "*n d d"]:
    """Lower-triangular matrices with ones on the diagonal, from their entries below it, row by row."""
    padded = torch.cat([torch.zeros_like(below[..., :1]), torch.ones_like(below[..., :1]), below], -1)
    return padded.index_select(-1, _places(d, below.device)).unflatten(-1, (d, d))


def _places(d: int, device: torch.device) -> Tensor:
    """Where each entry of the matrix stands in (0, 1, below the diagonal): a gather, whose gradient is cheap."""
    places = torch.zeros(d, d, dtype=torch.long)
    places.fill_diagonal_(1)
    row, col = torch.tril_indices(d, d, -1)
    places[row, col] = torch.arange(2, 2 + len(row))
    return places.flatten().to(device)
