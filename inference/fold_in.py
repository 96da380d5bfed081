"""The exact posterior of rows from their entries, the columns' blocks and the scales held fixed: rows need no table.

References:
    Hoffman, Blei, Wang and Paisley (2013), Stochastic variational inference (the local step).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..data.batches import RowBatch
from .entries import entries_of_batch
from .factor_modules import read_blocks, scales_of
from .full_update import update_full
from .moments import unpack
from .row_update import Given, table_of, update_rows


@torch.no_grad()
def fold_rows(model: Any, guide: Any, batch: RowBatch) -> tuple[Tensor, Tensor]:
    """Posterior of a batch's rows given their entries.

    Args:
        model: A bilinear Gaussian model (`protocols.Bilinear`).
        guide: Its guide (`protocols.HoldsBlocks`), of which the columns and the grand mean are used.
        batch: The rows and their entries. Of a matrix with missing entries only the columns that have one are read.

    Returns:
        Means (b, d), and covariances (b, d, d), or variances (b, d) of factorised blocks.
    """
    name_mu, _, name_item = model.factor_sites
    scales, mu = scales_of(model), float(guide.blocks(name_mu)[0])
    given = Given((1 / scales.user).diag().to(batch.value.device), torch.zeros_like(scales.user), 1 / scales.noise, mu)
    given = given._replace(pull=given.pull.to(batch.value.device))
    if model.unstored == "zero":
        items = read_blocks(guide, name_item, slice(0, batch.n_cols))
        half = update_full(entries_of_batch(batch), items, given, guide.factorised)
    else:
        used, place = batch.col.unique(return_inverse=True)
        entries = entries_of_batch(batch, place, max(len(used), 1))
        items = read_blocks(guide, name_item, used if len(used) else slice(0, 1))
        half = update_rows(entries, table_of(items), given, items.mean, guide.factorised)
    mean, cov = half.moments.mean, half.moments.cov
    return mean, cov if guide.factorised else unpack(cov, mean.shape[1])
