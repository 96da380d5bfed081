"""Means and covariances of many normal blocks of one size, and the sums over them that a bound needs.

Covariances are packed: the lower triangle row by row, element (k, l), l <= k, at k (k + 1) / 2 + l. Factorised blocks
keep variances alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

BYTES_AT_ONCE = 1 << 27  # of unpacked covariances, while blocks are read, written or mapped


class Sums(NamedTuple):
    """Sums over `n` blocks of `d` dimensions, in float64 on the host.

    Attributes:
        n: Number of blocks.
        first: Sum of E[x], (d,).
        second: Sum of E[x x'], (d, d).
        logdet: Sum of the log determinants of their covariances.
    """

    n: int
    first: Float[Tensor, " d"]
    second: Float[Tensor, "d d"]
    logdet: float


class Moments(NamedTuple):
    """Blocks with their sums.

    Attributes:
        mean: Means, (n, d).
        cov: Packed covariances (n, d (d + 1) / 2), or variances (n, d) of factorised blocks.
        sums: Sums over the blocks.
        factorised: Whether the components of a block are independent.
    """

    mean: Tensor
    cov: Tensor
    sums: Sums
    factorised: bool

    def with_mean(self, mean: Float[Tensor, "n d"]) -> Moments:
        """The same blocks around other means."""
        old, new = self.mean.double(), mean.double()
        second = self.sums.second + (new.T @ new - old.T @ old).cpu()
        return self._replace(mean=mean, sums=self.sums._replace(first=new.sum(0).cpu(), second=second))

    @property
    def bias(self) -> Float[Tensor, " n"]:
        """Mean of each block's last component, float64."""
        return self.mean[:, -1].double()

    @property
    def bias_square(self) -> Float[Tensor, " n"]:
        """E[x^2] of each block's last component, float64."""
        return self.bias**2 + self.cov[:, -1].double()


def packed_size(d: int) -> int:
    """Numbers in a packed covariance of `d` dimensions."""
    return d * (d + 1) // 2


def pack(full: Float[Tensor, "n d d"]) -> Float[Tensor, "n p"]:
    """Lower triangles of symmetric matrices, row by row."""
    row, col = torch.tril_indices(full.shape[-1], full.shape[-1], device=full.device)
    return full[:, row, col]


def unpack(packed: Float[Tensor, "n p"], d: int) -> Float[Tensor, "n d d"]:
    """Symmetric matrices from their lower triangles."""
    k = torch.arange(d, device=packed.device)
    high, low = torch.maximum(k[:, None], k), torch.minimum(k[:, None], k)
    return packed[:, (high * (high + 1) // 2 + low).flatten()].unflatten(1, (d, d))


def slices(n: int, d: int) -> Iterator[slice]:
    """Ranges of blocks whose unpacked covariances, in float64, stay below `BYTES_AT_ONCE`."""
    step = max(BYTES_AT_ONCE // (8 * d * d), 1)
    return (slice(first, min(first + step, n)) for first in range(0, n, step))


def sums_of(mean: Float[Tensor, "n d"], cov: Float[Tensor, "n _"], factorised: bool) -> Sums:
    """Sums over blocks, read slice by slice."""
    n, d = mean.shape
    first, second, logdet = mean.double().sum(0).cpu(), torch.zeros(d, d, dtype=torch.float64), 0.0
    for at in slices(n, d):
        m, c = mean[at].double(), cov[at].double()
        spread = c.sum(0).diag() if factorised else unpack(c.sum(0, keepdim=True), d)[0]
        second += (m.T @ m + spread).cpu()
        logdet += float(c.log().sum() if factorised else torch.linalg.slogdet(unpack(c, d)).logabsdet.sum())
    return Sums(n, first, second, logdet)
