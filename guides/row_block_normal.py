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

    factorised = False

    def width(self, d: int) -> int:
        """Numbers that describe a block: d locations, d logarithms of scales, d (d - 1) / 2 below the diagonal."""
        return d + d * (d + 1) // 2

    def block(
        self, raw: Float[Tensor, "*n width"], loc: Float[Tensor, "*#n d"], unit: Float[Tensor, "*#n d"]
    ) -> Distribution:
        """Multivariate normals over vectors (..., d), with Cholesky factor L = diag(scale) (I + lower triangle)."""
        d = loc.shape[-1]
        scale = INITIAL_SCALE * unit * raw[..., d : 2 * d].exp()
        lower = unit_lower(raw[..., 2 * d :], d)
        return dist.MultivariateNormal(loc + unit * raw[..., :d], scale_tril=scale[..., None] * lower)

    def raw_of(
        self,
        mean: Float[Tensor, "k d"],
        cov: Float[Tensor, "k d d"],
        loc: Float[Tensor, "#k d"],
        unit: Float[Tensor, "#k d"],
    ) -> Float[Tensor, "k width"]:
        """The numbers of blocks with these means and covariances, by Cholesky factors."""
        cholesky, failed = torch.linalg.cholesky_ex(cov)
        scale = cholesky.diagonal(dim1=-2, dim2=-1)
        row, col = torch.tril_indices(cov.shape[-1], cov.shape[-1], -1, device=cov.device)
        below = cholesky[:, row, col] / scale[:, row]
        raw = torch.cat([(mean - loc) / unit, (scale / (INITIAL_SCALE * unit)).log(), below], -1)
        return raw.masked_fill(failed[:, None] != 0, torch.nan)


def unit_lower(below: Float[Tensor, "*n k"], d: int) -> Float[Tensor, "*n d d"]:
    """Lower-triangular matrices with ones on the diagonal, from their entries below it, row by row."""
    row, col = torch.tril_indices(d, d, -1, device=below.device)
    identity = torch.eye(d, device=below.device, dtype=below.dtype).flatten()
    filled = identity.repeat(*below.shape[:-1], 1)
    return filled.index_copy_(-1, row * d + col, below).unflatten(-1, (d, d))
