"""The exact update of every row's block where all entries are observed: one Gram matrix, one covariance for all rows.

A half sweep costs O(e r + (n + m) r^2) for e stored entries, the others being zeros; nothing is densified.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .entries import Entries
from .moments import Moments, Sums, pack
from .row_update import Given, Half


def update_full(entries: Entries, columns: Moments, given: Given, factorised: bool) -> Half:
    """Blocks of all rows of a matrix whose entries that are not stored are zeros.

    Args:
        entries: The stored entries by rows.
        columns: Blocks of the columns, bias last.
        given: What is held fixed.
        factorised: Whether blocks are factorised.
    """
    n, device = entries.n_rows, columns.mean.device
    gram, bias = (x.to(device) for x in _shared(columns.sums))
    rhs = _sparse_sums(entries, columns.mean) - bias
    precision = given.tau * gram + given.precision
    lower = torch.linalg.cholesky(precision)
    mean = torch.cholesky_solve((given.tau * (rhs - given.mu * gram[-1]) + given.pull).T, lower).T
    if factorised:
        cov, logdet = (1 / precision.diagonal()).diag(), -precision.diagonal().log().sum()
    else:
        cov, logdet = torch.cholesky_inverse(lower), -2 * lower.diagonal().log().sum()
    sums = Sums(n, mean.sum(0).cpu(), (mean.T @ mean + n * cov).cpu(), n * float(logdet))
    error = float((gram.cpu() * sums.second).sum() - 2 * (rhs * mean).sum())
    one = cov.diagonal()[None] if factorised else pack(cov[None])
    kept = Moments(mean.to(columns.mean.dtype), one.to(columns.mean.dtype).expand(n, -1), sums, factorised)
    return Half(kept, error, float(gram[-1].cpu() @ sums.first))


def _shared(columns: Sums) -> tuple[Tensor, Tensor]:
    """Sum over columns of E[x x'] (d, d) and of E[x b] (d,), where x is a column's factors and one, b its bias."""
    gram, bias = columns.second.clone(), columns.second[-1].clone()
    gram[-1, :-1], gram[:-1, -1], gram[-1, -1] = columns.first[:-1], columns.first[:-1], columns.n
    bias[-1] = columns.first[-1]
    return gram, bias


def _sparse_sums(entries: Entries, mean: Tensor) -> Tensor:
    """Sum over each row's stored entries of y E[x], float64."""
    x = torch.cat([mean[:, :-1], torch.ones_like(mean[:, -1:])], 1)
    return (entries.sparse() @ x).double()
