"""The exact posterior of rows from their entries, the columns' blocks and the scales held fixed: rows need no table.

References:
    Hoffman, Blei, Wang and Paisley (2013), Stochastic variational inference (the local step).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..data.batches import RowBatch
from .entries import Entries, entries_of_batch
from .factor_modules import precision_sites, read_blocks, read_precisions, scales_of
from .full_update import update_full
from .log_precisions import LogPrecisions, Precisions, weights
from .moments import Moments, unpack
from .row_update import Given, Half, table_of, update_rows
from .weighted_rows import update_weighted_rows

TURNS = 200  # at most; some ten are usual
AT_REST = 1e-7  # change of a log precision


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
    blocks, _ = _folded(model, guide, batch)
    return blocks


@torch.no_grad()
def fold_sites(model: Any, guide: Any, batch: RowBatch) -> dict[str, tuple[Tensor, Tensor]]:
    """The same by site: of the blocks and, where each row has a noise of its own, of its log precision.

    The two depend on each other: they are updated in turn until neither moves.
    """
    blocks, own = _folded(model, guide, batch)
    sites = {model.factor_sites[1]: blocks}
    name, _ = precision_sites(model)
    return sites if name is None or own is None else sites | {name: (own.mean[:, None], own.variance[:, None])}


def _folded(model: Any, guide: Any, batch: RowBatch) -> tuple[tuple[Tensor, Tensor], LogPrecisions | None]:
    """Blocks of a batch's rows, and their log precisions where they have them."""
    name_mu, _, name_item = model.factor_sites
    scales, mu = scales_of(model), [float(x) for x in guide.blocks(name_mu)]
    precision, pull = (x.to(batch.value.device) for x in ((1 / scales.user).diag(), torch.zeros_like(scales.user)))
    given, own = Given(precision, pull, 1 / scales.noise, mu[0]), None
    if model.unstored == "zero":
        items = read_blocks(guide, name_item, slice(0, batch.n_cols))
        half = update_full(entries_of_batch(batch), items, given, guide.factorised)
    else:
        used, place = batch.col.unique(return_inverse=True)
        entries = entries_of_batch(batch, place, max(len(used), 1))
        at = used if len(used) else slice(0, 1)
        items = read_blocks(guide, name_item, at)
        if any(precision_sites(model)):
            half, own = _by_turns(entries, items, given, mu[1], read_precisions(model, guide, at, len(batch.rows)))
        else:
            half = update_rows(entries, table_of(items), given, items.mean, guide.factorised)
    mean, cov = half.moments.mean, half.moments.cov
    return (mean, cov if guide.factorised else unpack(cov, mean.shape[1])), own


def _by_turns(
    entries: Entries, items: Moments, given: Given, variance: float, precisions: Precisions
) -> tuple[Half, LogPrecisions | None]:
    """Blocks and log precisions of rows, one given the other, until the latter rest.

    Args:
        entries: The rows' entries.
        items: Blocks of their columns.
        given: What is held fixed, the grand mean's mean in it.
        variance: The grand mean's variance.
        precisions: Log precisions of the rows before their entries, where there are any, and of the columns.
    """
    own, of_cols = precisions.users, weights(precisions.items, items.bias)
    for _ in range(TURNS):
        by_row = weights(own, entries.count)
        half, lines = update_weighted_rows(entries, items, given, by_row, of_cols, items.factorised)
        if own is None:
            break
        before, own = own, own.updated(entries.count, given.tau * lines.errors(given.mu, variance))
        if float((own.mean - before.mean).abs().max()) < AT_REST:
            break
    return half, own
