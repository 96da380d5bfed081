"""Held-out rows of counts judged entry by entry: one half of their molecules predicted from the other.

A row's latents given the row itself have seen what they would be judged by. So the guide reads one half of each row's
counts, drawn molecule by molecule, and what is judged is the other half (`thinned`), given its total. This is a test of
all that makes the interval: encoder, decoder and likelihood. It is one at half the depth: latents of whole rows are
surer, and an encoder that reads counts as they are, and not relative to the row's total, sees smaller ones than it was
trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..inference.fitted import Fitted
from .columns import on_columns_of
from .covariates import Covariates
from .decoded import decoded, expectation, has_totals
from .guide_draws import guide_draws
from .reader import running
from .row_references import some_rows
from .rows import rows_of
from .thinned import Rest, halves, refuse_what_is_no_count, rest_given_seen

MAX_ROWS = 512  # of more, some at random
MAX_ENTRIES = 1 << 16  # of all rows together, as many of each, at random
DRAWS = 100  # of each row's latents: their spread adds little to that of counts

Numbers = Float[np.ndarray, " e"]


@dataclass(frozen=True, eq=False)
class Places:
    """Where entries lie in their predictive distributions.

    Attributes:
        row: Row of each, among those judged.
        col: Its column, in the fit's order.
        steps: Probability of less than the entry, and of no more.
        pit: A place between these at random.
        mean: Its predictive mean.
        size: What its row's seen half adds up to.
    """

    row: Int[np.ndarray, " e"]
    col: Int[np.ndarray, " e"]
    steps: Float[np.ndarray, "e 2"]
    pit: Numbers
    mean: Numbers
    size: Numbers


def places_in_rows(
    fitted: Fitted, test: ad.AnnData, covariates: Covariates | None, *, draws: int = DRAWS, seed: int = 0
) -> Places:
    """PITs of entries of held-out rows of counts, each given a random half of its row.

    Args:
        fitted: A fit whose latents are all of rows: a VAE.
        test: The rows, on the columns of the fit by name, of which 512 at random are judged.
        covariates: Those of the fit, for the rows of `test`; where they are given, all rows are judged.
        draws: Draws of each row's latents.
        seed: Seed of the halves, the entries and the draws.

    Raises:
        PlatewiseError: If entries are no counts, no row has any in both halves, or the rows do not fit the fit.
    """
    reads_totals = _reads_totals(fitted)
    rng = np.random.default_rng(seed)
    placed = on_columns_of(fitted, some_rows(test, covariates, MAX_ROWS, seed))
    placed.X, rest = halves(placed.X, rng)
    unshown = _Unshown(rest, min(max(MAX_ENTRIES // placed.n_obs, 1), fitted.n_cols), reads_totals, rng)
    with rows_of(fitted, placed, covariates, seed) as loader:
        parts = [_places(fitted, batch, unshown, draws) for batch in loader.in_order()]
    found = Places(*(np.concatenate([getattr(part, name) for part in parts]) for name in Places.__annotations__))
    if not len(found.pit):
        raise PlatewiseError("Expected rows of at least 2 counts, to judge one half by the other, got none.")
    return found


def _reads_totals(fitted: Fitted) -> bool:
    """Whether expectations go by a row's total, and not by latents alone; refuses what are no counts."""
    batch = fitted.blank_batch()
    with running(fitted):
        (latents,) = guide_draws(fitted.guide, batch, 1)
        likelihoods = [decoded(fitted.model, x, latents) for x in (batch, replace(batch, value=2 * batch.value))]
        if not has_totals(likelihoods[0]):
            raise refuse_what_is_no_count(likelihoods[0])
        once, twice = (float(expectation(x).double().sum()) for x in likelihoods)
    return math.isclose(twice, 2 * once, rel_tol=1e-3)


@dataclass(frozen=True, eq=False)
class _Unshown:
    """The halves that the guide does not see, and how they are judged: `n_each` entries a row, at random."""

    counts: sp.csr_matrix
    n_each: int
    reads_totals: bool
    rng: np.random.Generator

    def of(self, batch: RowBatch) -> Rest:
        """Some entries of the other half of a batch's rows."""
        dense = self.counts[batch.rows.cpu().numpy()].toarray().astype(np.float64)
        col = np.sort(np.argpartition(self.rng.random(dense.shape), self.n_each - 1, axis=1)[:, : self.n_each], axis=1)
        total, seen_total = dense.sum(1, keepdims=True), _numpy(batch.totals())[:, None]
        ratio = np.maximum(total, 1) / np.maximum(seen_total, 1) if self.reads_totals else np.ones_like(total)
        at = torch.from_numpy(col).to(batch.value.device)
        seen, value = _numpy(batch.dense().gather(1, at)), np.take_along_axis(dense, col, 1)
        return Rest(at, seen, value, total, np.log(ratio))


def _places(fitted: Fitted, batch: RowBatch, unshown: _Unshown, draws: int) -> Places:
    """Places of entries of the rows that have counts in both halves."""
    rest = unshown.of(batch)
    below, at, mean = (np.zeros(rest.value.shape) for _ in range(3))
    for latents in guide_draws(fitted.guide, batch, draws):
        tails, expected = rest_given_seen(decoded(fitted.model, batch, latents), rest)
        below += np.exp(tails.below) / draws
        at += np.exp(tails.at) / draws
        mean += expected / draws
    pit = np.clip(below + unshown.rng.random(at.shape) * at, 0, 1)
    size = np.broadcast_to(_numpy(batch.totals())[:, None], pit.shape)
    row, col = np.broadcast_to(batch.rows.cpu().numpy()[:, None], pit.shape), rest.col.cpu().numpy()
    judged = (size > 0) & (rest.total > 0)
    steps = np.stack([below, np.minimum(below + at, 1)], -1)
    return Places(*(x[judged] for x in (row, col, steps, pit, mean, size)))


def _numpy(x: torch.Tensor) -> np.ndarray:
    return x.double().cpu().numpy()
