"""Log importance weights of rows, columns, globals, and pairs of a row and a column."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ..data.batches import RowBatch
from ..data.sites import Plate, latent_sites, observed_sites
from .conditional_weights import AT_ONCE, Conditionals, Question, place_of

OTHERS: frozenset[Plate] = frozenset({"global", "cols"})


def weights_of_rows(c: Conditionals, rows: Int[np.ndarray, " k"]) -> Float[np.ndarray, "draws k"]:
    """Of each row, whose positions ascend, against its prior and its entries."""
    batch = c.reader.batch(rows)
    question = Question(batch, batch, {"rows": None}, OTHERS, c.held)
    return _by_element(c, question, "rows").numpy()


def weights_of_columns(c: Conditionals, cols: Int[np.ndarray, " k"]) -> Float[np.ndarray, "draws k"]:
    """Of each column against its prior and its entries; of a model that observes entry by entry."""
    batch = _rows_with(c, np.isin(_training(c).indices, cols))
    held = {**c.held, **c.rows_held(batch.rows.cpu().numpy())}
    question = Question(batch, c.reader.any_row(), {"cols": None}, frozenset({"global"}), held)
    return _by_element(c, question, "cols")[:, cols].numpy()


def weights_of_pairs(
    c: Conditionals, rows: Int[np.ndarray, " k"], cols: Int[np.ndarray, " k"]
) -> Float[np.ndarray, "draws k"]:
    """Of rows and columns, one of either drawn together, against their priors and the entries of either."""
    distinct, place = np.unique(rows, return_inverse=True)
    known = c.reader.batch(distinct)
    questions = [_about_pair(c, known, *pair) for pair in np.stack([rows, cols, place], 1).tolist()]
    given = {name: x for name, x in c.held.items() if c.places[name] == "global"}
    found = []
    for n in min((c.block_sizes(batch, c.draws) for batch in (known, *(x.batch for x in questions))), key=max):
        with c.particles(n):
            q = c.guide_trace(known, c.spread(given, n))
            log_q = [c.by_element(q, known, plate, latent_sites(q), n) for plate in ("rows", "cols")]
            log_p = [_of_pair(c, question, q, n) for question in questions]
        found.append(torch.stack(log_p, 1) - log_q[0][:, place] - log_q[1][:, cols])
    return torch.cat(found).cpu().numpy()


def _about_pair(c: Conditionals, known: RowBatch, row: int, col: int, place: int) -> Question:
    x = _training(c)
    chosen = x.indices == col
    chosen[x.indptr[row] : x.indptr[row + 1]] = True
    batch = _rows_with(c, chosen)
    at = int((batch.rows == row).nonzero()[0])
    drawn: dict[Plate, tuple[int, int] | None] = {"rows": (at, place), "cols": (col, col)}
    return Question(batch, known, drawn, frozenset({"global"}), {**c.held, **c.rows_held(batch.rows.cpu().numpy())})


def _of_pair(c: Conditionals, question: Question, q: Trace, n: int) -> Float[Tensor, " n"]:
    p = c.model_trace(question.batch, c.merged(question, q, n))
    log_p = c.in_total(p, question.batch, [*_sites(c, "rows"), *_data(c, p)], n)  # of rows that are held: a constant
    (col, _) = question.drawn["cols"] or (0, 0)
    return log_p + c.by_element(p, question.batch, "cols", _sites(c, "cols"), n)[:, col]


def weights_of_globals(c: Conditionals, rows: Int[np.ndarray, " k"], draws: int) -> Float[np.ndarray, "draws 1"]:
    """Of all globals together against every prior and entry; rows some at a time."""
    parts = [c.reader.batch(some) for some in np.array_split(rows, -(-len(rows) // AT_ONCE))]
    known = c.reader.any_row()
    questions = [_about_globals(c, batch, known) for batch in parts]
    found = []
    for n in min((c.block_sizes(batch, draws) for batch in parts), key=max):
        with c.particles(n):
            q = c.guide_trace(known, {})
            total = -c.in_total(q, known, _in_plate(q, known, "global"), n)
            for k, question in enumerate(questions):
                p = c.model_trace(question.batch, c.merged(question, q, n))
                once = [] if k else [*_sites(c, "global"), *_sites(c, "cols")]
                total = total + c.in_total(p, question.batch, [*once, *_sites(c, "rows"), *_data(c, p)], n)
        found.append(total)
    return torch.cat(found)[:, None].cpu().numpy()


def _about_globals(c: Conditionals, batch: RowBatch, known: RowBatch) -> Question:
    held = {**c.held, **c.rows_held(batch.rows.cpu().numpy())}
    return Question(batch, known, {"global": None}, frozenset(), held)


def _by_element(c: Conditionals, question: Question, plate: Plate) -> Tensor:
    """Log weights (draws, elements of the plate), on the host."""
    found = []
    for n, q, p in c.blocks(question):
        log_p = c.by_element(p, question.batch, plate, [*_sites(c, plate), *_data(c, p)], n)
        found.append(log_p - c.by_element(q, question.known, plate, latent_sites(q), n))
    return torch.cat(found).cpu()


def _sites(c: Conditionals, plate: Plate) -> list[str]:
    """Latent sites of the model in a plate."""
    return [name for name, place in c.places.items() if place == plate]


def _data(c: Conditionals, p: Trace) -> list[str]:
    """Sites that hold data; latents that are given look as if they did."""
    return [name for name in observed_sites(p) if name not in c.places]


def _in_plate(q: Trace, batch: RowBatch, plate: Plate) -> list[str]:
    return [name for name, site in latent_sites(q).items() if place_of(site, q, batch) == plate]


def _rows_with(c: Conditionals, chosen: Bool[np.ndarray, " nnz"]) -> RowBatch:
    """The rows that have one of the chosen training entries, with these entries alone."""
    x, at = _training(c), np.flatnonzero(chosen)
    row = np.searchsorted(x.indptr, at, side="right") - 1
    rows, crow = np.unique(row, return_index=True)
    names = c.reader.fitted.obs.index.to_numpy()[rows]
    entries = np.append(crow, len(at)), x.indices[at], x.data[at]
    return c.reader.assemble(rows, names, *entries, *x.shape)


def _training(c: Conditionals) -> Any:
    """The training entries, which a reader of a fit's weights has."""
    return c.reader.training
