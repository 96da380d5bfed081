"""Ratings drawn from a model itself, with activity and popularity as skewed as MovieLens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch
from pyro import poutine
from torch import Tensor

from .batches import RowBatch
from .container import make_ratings
from .errors import PlatewiseError
from .seeds import require_seed
from .sites import deterministic_sites, latent_sites, plate_of, sample_sites

CHUNK_ENTRIES = 2_000_000  # entries drawn at once: bounds memory at any number of ratings


def simulate_ratings(
    model: Any,
    n_users: int = 6040,
    n_items: int = 3706,
    n_ratings: int = 1_000_000,
    *,
    given: Mapping[str, float | Tensor] | None = None,
    seed: int = 0,
) -> tuple[ad.AnnData, dict[str, np.ndarray]]:
    """Draw latents and ratings from a model's own prior.

    Which cells are rated is drawn first: a user's activity is log-normal (sd 1.1 of the log), an item's popularity
    falls with its rank r as exp(-r / (0.17 n_items)); both fit MovieLens 1M. Then the model is run forwards.

    Args:
        model: A model that follows the contract, called as `model(batch)`.
        n_users: Number of users, 2 or more; each has at least one rating.
        n_items: Number of items, 2 or more.
        n_ratings: Number of stored entries, exactly.
        given: Values of latent sites to hold fixed, say `{"mu": 3.5}`.
        seed: Seed of all draws, 0 or more.

    Returns:
        The ratings, and the truth: the value of every latent and deterministic site.

    Raises:
        PlatewiseError: If the model takes entries not stored as zeros, there is one user or item only, the ratings do
            not fit into half of the matrix or do not give each user one, the seed is negative, or `given` names a site
            that is not latent.
    """
    require_seed(seed)
    _require_entries(model)
    if min(n_users, n_items) < 2:
        raise PlatewiseError(f"Expected 2 users and 2 items at least, got {n_users} and {n_items}. Simulate more.")
    if not n_users <= n_ratings <= n_users * n_items // 2:
        raise PlatewiseError(
            f"Expected between {n_users} (one a user) and {n_users * n_items // 2} ratings (half of the cells), "
            f"got {n_ratings}. Change the number of ratings, users or items."
        )
    rng = np.random.default_rng(seed)
    pattern = _pattern(rng, n_users, n_items, n_ratings)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        truth, row_sites = _draw_latents(model, _batch(pattern, 0, n_users, empty=True), dict(given or {}))
        pattern.data = np.concatenate(list(_draw_values(model, pattern, truth, row_sites)))
    ids = np.arange(1, n_users + 1), np.arange(1, n_items + 1)
    return make_ratings(pattern, *ids), {name: x.numpy() for name, x in truth.items()}


def _require_entries(model: Any) -> None:
    if getattr(model, "unstored", "missing") == "zero":
        raise PlatewiseError(
            f'Expected a model of ratings, got a {type(model).__name__} with unstored="zero", which has a value in '
            'every cell. Make it with unstored="missing".'
        )


def _pattern(rng: np.random.Generator, n_users: int, n_items: int, n_ratings: int) -> sp.csr_matrix:
    """Positions of `n_ratings` distinct cells, drawn with skewed activity and popularity."""
    activity = rng.lognormal(sigma=1.1, size=n_users)
    popularity = rng.permutation(np.exp(-np.arange(n_items) / (0.17 * n_items)) + 1e-3)
    cells = np.arange(n_users) * n_items + rng.choice(n_items, n_users, p=popularity / popularity.sum())
    while len(cells) < n_ratings:
        missing = n_ratings - len(cells)
        users = rng.choice(n_users, missing + missing // 4, p=activity / activity.sum())
        items = rng.choice(n_items, len(users), p=popularity / popularity.sum())
        fresh = np.setdiff1d(users * n_items + items, cells)
        cells = np.concatenate([cells, rng.permutation(fresh)[:missing]])
    values = np.zeros(n_ratings, np.float32)
    return sp.csr_matrix((values, np.divmod(cells, n_items)), shape=(n_users, n_items))


def _batch(pattern: sp.csr_matrix, start: int, stop: int, empty: bool = False) -> RowBatch:
    """Rows `start` to `stop` as a batch, with their cells or with none."""
    part = pattern[start:stop]
    crow = torch.from_numpy(part.indptr.astype(np.int64) * (not empty))
    n_entries = 0 if empty else part.nnz
    col = torch.from_numpy(part.indices[:n_entries].astype(np.int64))
    return RowBatch(torch.arange(start, stop), crow, col, torch.zeros(n_entries), *pattern.shape)


def _draw_latents(
    model: Any, batch: RowBatch, given: Mapping[str, float | Tensor]
) -> tuple[dict[str, Tensor], set[str]]:
    """Values of the latent and deterministic sites, and the names of those in the plate of rows."""
    fixed = {name: torch.as_tensor(value) for name, value in given.items()}
    trace = poutine.trace(poutine.condition(model, data=fixed)).get_trace(batch)
    places = {name: plate_of(site, trace, batch) for name, site in sample_sites(trace).items()}
    drawn = {name for name, place in places.items() if place != "entries"} - set(deterministic_sites(trace))
    if unknown := set(fixed) - drawn:
        raise PlatewiseError(f"Expected given sites among {sorted(drawn)}, got {sorted(unknown)}. Check the spelling.")
    values = {name: trace.nodes[name]["value"] for name, place in places.items() if place != "entries"}
    return values, {name for name, place in places.items() if place == "rows"}


def _draw_values(
    model: Any, pattern: sp.csr_matrix, latents: Mapping[str, Tensor], row_sites: set[str]
) -> Iterator[np.ndarray]:
    """Values of the entries, in the order of `pattern`, some rows at a time."""
    bounds = np.searchsorted(pattern.indptr, np.arange(0, pattern.nnz, CHUNK_ENTRIES), side="right") - 1
    bounds = np.unique([*bounds, pattern.shape[0]])
    for start, stop in pairwise(bounds.tolist()):
        batch = _batch(pattern, start, stop)
        fixed = {name: x[start:stop] if name in row_sites else x for name, x in latents.items()}
        trace = poutine.trace(poutine.condition(poutine.uncondition(model), data=fixed)).get_trace(batch)
        drawn = [s for s in latent_sites(trace).values() if plate_of(s, trace, batch) == "entries"]
        entries = [s for s in drawn if not s["infer"].get("_deterministic")]
        if len(entries) != 1:
            raise PlatewiseError(
                f"Expected a model with one site in its plate of entries, got {len(entries)}. Simulate it by itself."
            )
        yield entries[0]["value"].numpy().astype(np.float32)
