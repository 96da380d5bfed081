"""Sums and posteriors of ranges of rows in batches of tensors, float64: the path of GPUs, and the kernel's reference.

The same numbers as `row_kernel`, by a sparse product with a table of what each column adds, and batches of Cholesky
factorisations.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..data.parallel import Scratch
from ..data.sparse import csr_tensor
from .entries import Entries
from .moments import Moments, pack, packed_size, slices, unpack


class BatchedRows:
    """The table of what each column adds to its rows, and sums over it.

    Args:
        columns: Moments of the columns' blocks.
    """

    def __init__(self, columns: Moments) -> None:
        n, self.d = columns.mean.shape
        self.p = packed_size(self.d)
        self.table = columns.mean.new_empty(n, self.p + self.d, dtype=torch.float64)
        for at in slices(n, self.d):
            self.table[at] = _added(columns.mean[at].double(), columns.cov[at].double(), columns.factorised)

    @property
    def bytes_per_row(self) -> int:
        """Memory that sums of one row take, and its unpacked precision, factor, inverse and covariance."""
        return 8 * (self.p + 2 * self.d + 5 * self.d**2)

    def weigh(self, weight: Tensor) -> None:
        """Multiply what each column adds by its weight (m,), in place."""
        self.table.mul_(weight[:, None])

    def sums(self, entries: Entries, first: int, last: int, scratch: Scratch | None = None) -> tuple[Tensor, Tensor]:
        """Sums over the columns of rows `first` to `last`: E[x x'] packed (n, p), E[x (y - b)] (n, d)."""
        start, stop = entries.indptr[first].item(), entries.indptr[last].item()
        crow, col = entries.indptr[first : last + 1] - start, entries.col[start:stop].long()
        value = entries.value[start:stop].double()
        shape = (last - first, len(self.table))
        ones, values = (csr_tensor(crow, col, x, shape) for x in (torch.ones_like(value), value))
        plain = ones @ self.table
        x = self.table[:, self.p - self.d : self.p].contiguous()
        return plain[:, : self.p], values @ x - plain[:, self.p :]


def _added(mean: Tensor, cov: Tensor, factorised: bool) -> Tensor:
    """E[x x'] packed and E[x b] of each column, where x is its factors and one."""
    d = mean.shape[-1]
    full = torch.diag_embed(cov) if factorised else unpack(cov, d)
    x = torch.cat([mean[:, :-1], torch.ones_like(mean[:, -1:])], 1)
    bias = x * mean[:, -1:]
    bias[:, :-1] += full[:, :-1, -1]
    full[:, -1, :], full[:, :, -1] = 0, 0
    return torch.cat([pack(torch.baddbmm(full, x[:, :, None], x[:, None, :])), bias], 1)


def solve_batched(
    gram: Tensor,
    rhs: Tensor,
    prior: Tensor,
    pull: Tensor,
    tau: float,
    mu: float,
    mean: Tensor,
    cov: Tensor,
    factorised: bool,
) -> Tensor:
    """Write rows' posteriors into `mean` and `cov`; return their sums (see `row_solver.solve`)."""
    d = rhs.shape[-1]
    full = unpack(gram, d)
    around = rhs - mu * full[:, -1]
    precision = tau * full + prior
    lower = _factor(precision, torch.finfo(mean.dtype).eps)
    inverse = torch.linalg.solve_triangular(lower, torch.eye(d).to(lower).expand_as(lower), upper=False)
    sigma = inverse.mT @ inverse
    found = (inverse.mT @ (inverse @ (tau * around + pull)[:, :, None]))[:, :, 0]
    if factorised:
        sigma = torch.diag_embed(1 / precision.diagonal(dim1=1, dim2=2))
        logdet = sigma.diagonal(dim1=1, dim2=2).log().sum()
    else:
        logdet = -2 * lower.diagonal(dim1=1, dim2=2).log().sum()
    mean.copy_(found)
    cov.copy_(sigma.diagonal(dim1=1, dim2=2) if factorised else pack(sigma))
    second = torch.baddbmm(sigma, found[:, :, None], found[:, None, :])
    error = (full * second).sum() - 2 * (rhs * found).sum()
    last = torch.stack([logdet, error, (full[:, -1] * found).sum()])
    return torch.cat([pack(second.sum(0, keepdim=True))[0], found.sum(0), last])


def _factor(precision: Tensor, tiny: float) -> Tensor:
    """Cholesky factors; of matrices that rounding left indefinite, after a nudge of their diagonals."""
    lower, info = torch.linalg.cholesky_ex(precision)
    if (bad := info > 0).any():
        nudged = precision[bad] + torch.diag_embed(8 * tiny * precision[bad].diagonal(dim1=1, dim2=2))
        lower[bad] = torch.linalg.cholesky(nudged)
    return lower
