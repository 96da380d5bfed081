"""Squared errors of a + b + A . B summed over every cell of a batch, where cells that are not stored are zeros.

With extended vectors u = (A, a, 1) of rows and z = (B, 1, b) of columns the form is u . z, so that over all cells

    sum E[form]   = <sum_i E[u_i], sum_j E[z_j]>
    sum E[form^2] = <sum_i E[u_i u_i'], sum_j E[z_j z_j']>

and with y = 0 where nothing is stored, a sum over the stored entries does for the rest: O(e r + (b + n_cols) r^2)
operations for a batch of b rows and e entries, whatever its number of cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..data.batches import RowBatch
from .bilinear import Block, expected_form


def expected_squared_error_of_cells(
    batch: RowBatch, centre: Float[Tensor, ""], user: Block, item: Block
) -> Float[Tensor, ""]:
    """Sum over all cells of a batch of E[(y - centre - a_i - b_j - A_i . B_j)^2], y = 0 where nothing is stored.

    Args:
        batch: The stored entries.
        centre: What is taken from every y: near the mean of the form's other parts, it keeps the terms small.
        user: Blocks (A_i, a_i) of the batch's rows, (b, r + 1).
        item: Blocks (B_j, b_j) of all columns, (n_cols, r + 1).
    """
    n_stored, n_cells = len(batch.value), len(batch.rows) * batch.n_cols
    targets = (batch.value - centre).square().sum() + (n_cells - n_stored) * centre.square()
    stored = (batch.value * expected_form(batch, user, item)).sum()
    forms, squares = _summed_forms(user, item)
    return targets - 2 * (stored - centre * forms) + squares


def _summed_forms(user: Block, item: Block) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Sums over all pairs of blocks of E[form] and E[form^2]."""
    u, z = _second_with_one(user), _second_with_one(item)
    d = len(u)
    swapped = [*range(d - 2), d - 1, d - 2]  # (B, b, 1) to (B, 1, b)
    return u[-1] @ z[-1, swapped], (u * z[swapped][:, swapped]).sum()


def _second_with_one(block: Block) -> Float[Tensor, "d_plus_1 d_plus_1"]:
    """Sum over blocks of E[x1 x1'] for x1 = (x, 1); its last row is the sum of E[x1]."""
    mean = F.pad(block.mean, (0, 1), value=1.0)
    cov = block.cov.sum(0)
    return mean.mT @ mean + F.pad(torch.diag(cov) if block.factorised else cov, (0, 1, 0, 1))
