"""Sums and posteriors of ranges of rows on the CPU: the kernel of `row_kernel`, on tensors that share its memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..data.parallel import Scratch, in_parallel, ranges
from . import row_kernel as kernel
from . import row_solver
from .entries import Entries
from .moments import Moments, packed_size

TABLE_ROWS = 512  # written by one thread at a time


class CompiledRows:
    """The table of what each column adds to its rows, and sums over it.

    Args:
        columns: Moments of the columns' blocks.
    """

    def __init__(self, columns: Moments) -> None:
        mean, cov = columns.mean.numpy(), columns.cov.numpy()
        n, self.d = mean.shape
        self.p = packed_size(self.d)
        self.table = np.empty((-(-(self.p + self.d) // kernel.WIDTH), n, kernel.WIDTH), mean.dtype)
        self.start, stop = (self.p - self.d) // kernel.WIDTH, -(-self.p // kernel.WIDTH)  # the panels that hold x
        self.widths = len(self.table) * kernel.WIDTH, (stop - self.start) * kernel.WIDTH
        in_parallel(
            lambda at: kernel.tabulate(mean, cov, columns.factorised, *at, self.table),
            ranges(n, TABLE_ROWS),
        )

    @property
    def bytes_per_row(self) -> int:
        """Memory that sums of one row take."""
        return 8 * sum(self.widths)

    def weigh(self, weight: Tensor) -> None:
        """Multiply what each column adds by its weight (m,), in place."""
        factor = weight.numpy().astype(self.table.dtype)[:, None]
        for panel in self.table:
            panel *= factor

    def sums(self, entries: Entries, first: int, last: int, scratch: Scratch | None = None) -> tuple[Tensor, Tensor]:
        """Sums over the columns of rows `first` to `last`: E[x x'] packed (n, p), E[x (y - b)] (n, d); float64.

        With `scratch` they last until the same thread's next call.
        """
        scratch = scratch or Scratch()
        arrays = (entries.indptr.numpy(), entries.col.numpy(), entries.value.numpy())
        out, weighted = (scratch.zeros(key, last - first, width) for key, width in enumerate(self.widths))
        kernel.accumulate(*arrays, self.table, self.start, first, last, out, weighted)
        plain, linear = torch.from_numpy(out), torch.from_numpy(weighted)
        x = self.p - self.d - self.start * kernel.WIDTH
        return plain[:, : self.p], linear[:, x : x + self.d] - plain[:, self.p : self.p + self.d]


def solve_compiled(
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
    d = rhs.shape[1]
    sums = np.zeros(packed_size(d) + d + 3)
    tiny = torch.finfo(mean.dtype).eps
    arrays = (x.numpy() for x in (gram, rhs, prior, pull))
    row_solver.solve(*arrays, tau, mu, tiny, factorised, mean.numpy(), cov.numpy(), sums)
    return torch.from_numpy(sums)
