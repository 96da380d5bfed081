"""Entries of a matrix with their predictive tail probabilities, block by block of rows.

Of a model whose latents are all of rows (a VAE) the predictive is the mixture of its likelihoods over draws of each
row's embedding; of a factor model it is the one in closed form, a normal or a mixture of normals.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import anndata as ad
import numpy as np
from torch import Tensor
from torch.distributions import constraints

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..inference.fitted import Fitted
from ..inference.protocols import has_closed_form
from ..models.likelihoods import BernoulliRows
from .blocks import Request
from .columns import on_columns_of
from .count_tails import Array, Tails
from .covariates import Covariates
from .decoded import decoded
from .guide_draws import guide_draws
from .held_out import held_out
from .names import Aligned, align_seen
from .predictive import closed_predictives, row_blocks
from .reader import Reader, reading, running
from .rows import rows_of
from .tails import as_array, given_not_zero, log_tail_probability, log_tails, pick

Entries = Literal["stored", "all"]
MAX_CELLS = 1 << 20  # of rows scored whole, in a block: some twenty arrays of as many float64


@dataclass(frozen=True, eq=False)
class Scored:
    """Some entries; all of shape (e,).

    Attributes:
        row: Name of the row.
        col: Name of the column.
        value: What is there.
        expected: Predictive mean.
        sd: Predictive standard deviation.
        log_p: Log of the tail probability.
        sign: 1 above the predictive median, -1 below.
    """

    row: np.ndarray
    col: np.ndarray
    value: Array
    expected: Array
    sd: Array
    log_p: Array
    sign: np.ndarray

    def take(self, at: np.ndarray) -> Scored:
        """Some of them."""
        return Scored(*(x[at] for x in vars(self).values()))

    def beside(self, other: Scored) -> Scored:
        """These, then others."""
        return Scored(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Scoring:
    """How entries are scored.

    Attributes:
        draws: Draws of each row's latents, where there is no closed form.
        tail: "two-sided", "upper" or "lower".
        entries: "stored", or "all": zeros that are not stored too.
        seed: Seed of the draws, and of what breaks ties between counts.
    """

    draws: int
    tail: str
    entries: str
    seed: int

    def probability(self, tails: Tails, block: int) -> tuple[Array, np.ndarray]:
        """Log tail probabilities and signs of the entries of a block, numbered so that its ties break the same way."""
        rng = np.random.default_rng([self.seed, block])
        return log_tail_probability(tails, rng.uniform(np.finfo(float).tiny, 1, tails.at.shape), self.tail)


def is_closed(fitted: Fitted) -> bool:
    """Whether predictive moments of this fit are known in closed form."""
    with running(fitted):
        return has_closed_form(fitted.model, fitted.guide, fitted.blank_batch())


def scored_by_moments(
    fitted: Fitted, data: ad.AnnData, covariates: Covariates | None, how: Scoring
) -> Iterator[Scored]:
    """Entries under the closed-form predictives of a factor model.

    Raises:
        PlatewiseError: If the data do not fit it, or entries are asked for that are missing.
    """
    if how.entries == "all" and fitted.meaning["unstored"] == "missing":
        raise PlatewiseError(
            'Expected entries="stored", because what is not stored is missing, got entries="all". Leave it out.'
        )
    block = 0
    with reading(fitted, how.seed, covariates) as reader:
        for request in [held_out(fitted, data)] if how.entries == "stored" else _whole_rows(fitted, data):
            for scored in _in_closed_form(reader, request, how, block):
                yield scored
                block += 1


def _whole_rows(fitted: Fitted, data: ad.AnnData) -> Iterator[Request]:
    """All cells of the rows, so many rows at a time that their cells are a block."""
    placed = on_columns_of(fitted, data)
    rows, cols = align_seen(placed.obs_names, fitted, "obs"), Aligned(np.arange(placed.n_vars), placed.n_vars, [])
    for at in row_blocks(*placed.shape):
        yield Request.of_cells(rows.take(at), cols, placed.X[at].toarray())


def _in_closed_form(reader: Reader, request: Request, how: Scoring, first: int) -> Iterator[Scored]:
    rows = np.append(reader.fitted.obs.index.to_numpy(object), request.rows.new)
    cols = np.append(reader.fitted.var.index.to_numpy(object), request.cols.new)
    for k, (block, predictive) in enumerate(closed_predictives(reader, request)):
        x, mean, sd = request.value[block.at], predictive.mean, predictive.sd
        log_p, sign = how.probability(predictive.tails(x), first + k)
        names = rows[request.rows.code[block.at]], cols[request.cols.code[block.at]]
        yield Scored(*names, x, mean, sd, log_p, sign)


def scored_by_draws(fitted: Fitted, data: ad.AnnData, covariates: Covariates | None, how: Scoring) -> Iterator[Scored]:
    """Entries under mixtures of a model's likelihoods of rows, over draws of the rows' latents.

    Raises:
        PlatewiseError: If the fit has no such likelihood, or the data do not fit it.
    """
    rows, cols = data.obs_names.to_numpy(object), fitted.var.index.to_numpy(object)
    with rows_of(fitted, data, covariates, how.seed) as loader:
        if how.entries == "all":
            loader = replace(loader, batch_rows=max(min(loader.batch_rows, MAX_CELLS // fitted.n_cols), 1))
        for block, batch in enumerate(loader.in_order()):
            values = batch.value if how.entries == "stored" else batch.dense()
            found = _Mixture(values)
            for latents in guide_draws(fitted.guide, batch, how.draws):
                likelihood = decoded(fitted.model, batch, latents)
                _require_scorable(likelihood, values, how)
                found.add(likelihood)
            yield _under_mixture(found, batch, (rows, cols), how, block)


class _Mixture:
    """The even mixture of likelihoods at some values: tails and moments of each entry."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.n = values, 0
        self.mean, self.square = np.zeros(values.shape), np.zeros(values.shape)
        self._sums = Tails(*(np.full(values.shape, -np.inf) for _ in Tails._fields))
        self.is_of_counts = True

    def add(self, likelihood: Any) -> None:
        """Take one more."""
        self.is_of_counts = likelihood.entry is not constraints.real
        mean, variance = (pick(likelihood, x, self.values) for x in (likelihood.mean, likelihood.variance))
        self.mean += mean
        self.square += variance + mean**2
        found = log_tails(likelihood, self.values)
        self._sums = Tails(*(np.logaddexp(a, b) for a, b in zip(self._sums, found, strict=True)))
        self.n += 1

    @property
    def tails(self) -> Tails:
        return Tails(*(x - np.log(self.n) for x in self._sums))

    @property
    def moments(self) -> tuple[Array, Array]:
        """Mean and standard deviation."""
        mean = self.mean / self.n
        return mean, np.sqrt(np.maximum(self.square / self.n - mean**2, 0))


def _under_mixture(
    found: _Mixture, batch: RowBatch, names: tuple[np.ndarray, np.ndarray], how: Scoring, block: int
) -> Scored:
    x, tails, (rows, cols) = as_array(found.values), found.tails, names
    at = batch.rows.cpu().numpy()
    if how.entries == "all":
        row, col = np.repeat(at, batch.n_cols), np.tile(np.arange(batch.n_cols), len(at))
    else:
        row, col = at[batch.row.cpu().numpy()], batch.col.cpu().numpy()
    truncated = how.entries == "stored" and found.is_of_counts
    log_p, sign = how.probability(given_not_zero(tails, x) if truncated else tails, block)
    numbers = (part.ravel() for part in (x, *found.moments, log_p, sign))
    scored = Scored(rows[row], cols[col], *numbers)
    return scored.take(scored.value != 0) if truncated else scored


def _require_scorable(likelihood: Any, values: Tensor, how: Scoring) -> None:
    """Check that there are tails of these values."""
    if how.entries == "stored" and isinstance(likelihood, BernoulliRows):
        raise PlatewiseError(
            'Expected entries="all" for a Bernoulli likelihood, because stored entries are all 1, got '
            'entries="stored". Ask for all.'
        )
    valid = likelihood.entry.check(values)
    if not valid.all():
        raise PlatewiseError(
            f"Expected {likelihood.entry_is}, got {values[~valid][0].item():g}. Give the values as the fit took them."
        )
