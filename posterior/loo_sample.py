"""Which entries are left out one by one, and the surrogate densities of all of which they are a sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from ..data.source import COUNT
from .blocks import Request
from .loo_draws import LooDraws, draws_of_entries, draws_of_rows, observes_rows, surrogate_of_rows
from .loo_surrogate import DRAWS, Surrogate, surrogate_of_entries
from .reader import Reader
from .training_entries import some_trained_rows, training_request

MAX_CELLS = 1 << 20  # of rows, where entries not stored are zeros
OF_ROW = 20  # entries of a row that is run whole


@dataclass(frozen=True, eq=False)
class LooSample:
    """Sampled entries, (e,), in ascending order of the training entries of their row.

    Attributes:
        row: Positions of their rows in the fit.
        col: Positions of their columns.
        value: What is there.
        at: Their places among all entries.
        group: Which were sampled together, from 0; None if one by one.
        surrogate: Approximate log densities of all entries.
        draws: Draws of the latents at the sampled entries.
        corrected: Whether they are weighed to the posterior.
    """

    row: Int[np.ndarray, " e"]
    col: Int[np.ndarray, " e"]
    value: Float[np.ndarray, " e"]
    at: Int[np.ndarray, " e"]
    group: Int[np.ndarray, " e"] | None
    surrogate: Surrogate
    draws: LooDraws
    corrected: bool


def sampled(reader: Reader, n: int, draws: int, seed: int) -> LooSample:
    """Sample n entries of the training data, at most, and draw latents at them."""
    rng = np.random.default_rng(seed)
    return _of_rows(reader, n, draws, rng) if observes_rows(reader) else _of_entries(reader, n, draws, rng)


def _of_entries(reader: Reader, n: int, draws: int, rng: np.random.Generator) -> LooSample:
    """A simple random sample of what the model observes entry by entry."""
    every = reader.fitted.meaning["unstored"] == "zero"
    rows = some_trained_rows(reader.fitted, _most(reader) if every else reader.fitted.n_rows, rng)
    request = training_request(reader.fitted, _training(reader), rows, every)
    surrogate = surrogate_of_entries(reader, request)
    at = _by_activity(reader, rng.choice(len(request), min(n, len(request)), replace=False), request.rows.code)
    some = Request(request.rows.take(at), request.cols.take(at), request.value[at])
    drawn = draws_of_entries(reader, some, draws)
    return LooSample(some.rows.code, some.cols.code, some.value, at, None, surrogate, drawn, False)


def _of_rows(reader: Reader, n: int, draws: int, rng: np.random.Generator) -> LooSample:
    """Some cells of each of some rows, at random."""
    rows, n_cols = some_trained_rows(reader.fitted, _most(reader), rng), reader.fitted.n_cols
    density = surrogate_of_rows(reader, rows, DRAWS)
    surrogate = Surrogate(density, np.zeros_like(density))
    of_row = min(OF_ROW, n_cols)
    some = np.sort(rng.choice(len(rows), min(max(n // of_row, 1), len(rows)), replace=False))
    col = np.stack([rng.choice(n_cols, of_row, replace=False) for _ in some])
    local = np.repeat(np.arange(len(some)), of_row)
    order = _by_activity(reader, np.arange(len(local)), rows[some][local])
    local, col = local[order], col.ravel()[order]
    value = np.asarray(_training(reader)[rows[some]].todense())[local, col].astype(np.float64)
    drawn = draws_of_rows(reader, rows[some], local * n_cols + col, value, draws)
    corrected = set(reader.places.values()) == {"rows"}
    return LooSample(rows[some][local], col, value, some[local] * n_cols + col, local, surrogate, drawn, corrected)


def _training(reader: Reader) -> sp.csr_matrix:
    """The training entries, which leave-one-out is never asked for without."""
    assert reader.training is not None
    return reader.training


def _most(reader: Reader) -> int:
    """Rows, at most, whose cells all count."""
    return MAX_CELLS // reader.fitted.n_cols


def _by_activity(reader: Reader, chosen: Int[np.ndarray, " e"], row: Int[np.ndarray, " n"]) -> Int[np.ndarray, " e"]:
    """Chosen places in ascending order of the training entries of their row, `row` being that of every place."""
    counts = reader.fitted.obs[COUNT].to_numpy()
    return chosen[np.lexsort((chosen, row[chosen], counts[row[chosen]]))]
