"""Starting values of a VAE from some rows, by moments: what its genes and its cells' totals look like without z."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..data.batches import RowBatch

FEWEST_ROWS = 16  # of a level, to start from its own moments and not from those of all rows
SMALLEST_SD = 0.01  # of log totals: cells may all have been given the same one


def log_shares(batch: RowBatch) -> Float[Tensor, " n_cols"]:
    """Log of each column's share of all counts; a quarter of a count more each, so that none is impossible."""
    return torch.log_softmax((_column_sums(batch) + 0.25).log(), -1)


def logits(batch: RowBatch) -> Float[Tensor, " n_cols"]:
    """Log-odds of a 1 in each column, a quarter of a row added to either side."""
    return ((_column_sums(batch) + 0.25) / (len(batch.rows) + 0.5)).logit()


def means_and_sds(batch: RowBatch) -> tuple[Float[Tensor, " n_cols"], Float[Tensor, " n_cols"]]:
    """Mean and standard deviation of each column, zeros included; a thousandth of the largest at least."""
    mean = _column_sums(batch) / len(batch.rows)
    squares = torch.zeros_like(mean).index_add(0, batch.col, batch.value.square()) / len(batch.rows)
    spread = (squares - mean.square()).clamp_min(0).sqrt()
    return mean, spread.clamp_min(1e-3 * spread.max().clamp_min(1e-6))


def log_inverse_dispersions(
    batch: RowBatch, code: Int[Tensor, " b"], n_levels: int
) -> Float[Tensor, "n_levels n_cols"]:
    """Log inverse dispersion of each column within each level; levels of few rows get that of all rows."""
    overall = _log_inverse_dispersions(batch, torch.zeros_like(code), 1)
    within = _log_inverse_dispersions(batch, code, n_levels)
    return torch.where(torch.bincount(code, minlength=n_levels)[:, None] < FEWEST_ROWS, overall, within)


def _log_inverse_dispersions(
    batch: RowBatch, code: Int[Tensor, " b"], n_levels: int
) -> Float[Tensor, "n_levels n_cols"]:
    """By moments: the counts' squared deviations beyond Poisson's, over the squared means; theta from 0.01 to 100."""
    totals, place = batch.totals(), code[batch.row] * batch.n_cols + batch.col
    zeros = totals.new_zeros(n_levels * batch.n_cols)
    counts = zeros.index_add(0, place, batch.value).view(n_levels, -1) + 0.25
    share = counts / counts.sum(-1, keepdim=True)
    level_sums = totals.new_zeros(n_levels, 2).index_add(0, code, torch.stack([totals, totals.square()], -1))
    squared_means = level_sums[:, 1:] * share.square()
    own = totals[batch.row] * share.view(-1)[place]
    deviations = zeros.index_add(0, place, (batch.value - own).square() - own.square()).view(n_levels, -1)
    excess = deviations + squared_means - level_sums[:, :1] * share
    return (squared_means / excess.clamp_min(1e-12)).clamp(1e-2, 1e2).log()


def log_total_moments(
    batch: RowBatch, code: Int[Tensor, " b"], n_levels: int
) -> tuple[Float[Tensor, " n_levels"], Float[Tensor, " n_levels"]]:
    """Mean and standard deviation of the log totals within each level; levels of few rows get those of all rows."""
    log_totals = batch.log_totals()
    n = torch.bincount(code, minlength=n_levels)
    sums = log_totals.new_zeros(n_levels).index_add(0, code, log_totals)
    mean = torch.where(n < FEWEST_ROWS, log_totals.mean(), sums / n.clamp_min(1))
    squares = log_totals.new_zeros(n_levels).index_add(0, code, (log_totals - mean[code]).square())
    sd = torch.where(n < FEWEST_ROWS, log_totals.std(correction=0), (squares / n.clamp_min(1)).sqrt())
    return mean, sd.clamp_min(SMALLEST_SD)


def _column_sums(batch: RowBatch) -> Float[Tensor, " n_cols"]:
    return batch.value.new_zeros(batch.n_cols).index_add(0, batch.col, batch.value)
