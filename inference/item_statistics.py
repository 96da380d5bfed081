"""What rows' blocks say of columns and globals, summed up while blocks of rows stream by.

A column's natural parameters are those of its prior and tau times two sums over its entries: of E[u u'] and of
E[u (y - a)]. The sums are kept without tau, so that scales can change between looks at the data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from .bound import Residual, residual_of
from .entries import Matrix
from .moments import Moments, Sums, packed_size
from .row_update import Given, Half, add_sums, solve_rows, table_of


@dataclass
class Tally:
    """Weighted sums over rows seen.

    Attributes:
        gram: Over each column's entries of E[u u'], packed, (m, p), float64.
        rhs: Over each column's entries of E[u (y - a)], (m, d), float64.
        count: Over each column's entries of 1, (m,), float64.
        first: Over rows of E[u], (d,).
        second: Over rows of E[u u'], (d, d).
        numbers: Over rows of 1 and of the log determinants; over entries of 1, of E[(y - f)^2] and E[y - f] under the
            columns that the rows were updated by, and of E[(y - a)^2] and E[y - a]; (7,).
    """

    gram: Tensor
    rhs: Tensor
    count: Tensor
    first: Tensor
    second: Tensor
    numbers: Tensor

    @classmethod
    def empty(cls, m: int, d: int, device: torch.device | str) -> Tally:
        """Nothing seen yet, of `m` columns with blocks of `d` dimensions."""
        on_device, on_host = ((m, packed_size(d)), (m, d), (m,)), ((d,), (d, d), (7,))
        large = (torch.zeros(size, dtype=torch.float64, device=device) for size in on_device)
        small = (torch.zeros(size, dtype=torch.float64) for size in on_host)
        return cls(*large, *small)

    def decay(self, keep: float) -> None:
        """Weigh all that was seen by `keep`."""
        for x in vars(self).values():
            x.mul_(keep)

    def add(self, matrix: Matrix, users: Moments, residual: Residual, weight: float = 1.0) -> None:
        """Add some rows.

        Args:
            matrix: Their entries.
            users: Their blocks.
            residual: What remains of their entries under the columns that they were updated by.
            weight: What they count.
        """
        add_sums(matrix.cols, table_of(users), self.gram, self.rhs, weight)
        self.count += weight * matrix.cols.count
        self.first += weight * users.sums.first
        self.second += weight * users.sums.second
        biases = residual_of(matrix, matrix.rows, users, Half(users, 0.0, 0.0))
        found = (users.sums.n, users.sums.logdet, residual.n, residual.square, residual.total)
        self.numbers += weight * torch.tensor([*found, biases.square, biases.total], dtype=torch.float64)

    def users(self, n: int) -> Sums:
        """Sums over the blocks of all `n` rows, estimated from those seen."""
        scale = n / float(self.numbers[0])
        return Sums(n, scale * self.first, scale * self.second, scale * float(self.numbers[1]))

    def residual(self, n: int) -> Residual:
        """What remains of all `n` entries under the columns that rows were updated by, estimated from those seen."""
        seen, square, total = self.numbers[2:5].tolist()
        return Residual(n, n / seen * square, n / seen * total)

    def residual_under(self, items: Half) -> Residual:
        """What remains of the entries seen under the columns' blocks that they led to; where all have weight 1."""
        n, (square, total) = round(float(self.numbers[2])), self.numbers[5:].tolist()
        return Residual(n, square + items.error, total - items.total)

    def items(self, count: Float[Tensor, " m"], given: Given, like: Tensor, factorised: bool) -> Half:
        """The columns' blocks for `count` entries a column, each like those seen; the prior's where none was.

        The ratio of a column's own numbers of entries, and not that of rows, makes the estimate's noise that of an
        average: random rows hold few or no entries of a rare column.
        """
        scale = torch.where(self.count > 0, count / self.count, 0.0)[:, None]
        return solve_rows(self.gram * scale, self.rhs * scale, given, like, factorised)
