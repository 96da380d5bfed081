"""Ratings split into a training and a test part that share users, items and meaning."""

import copy
from typing import Literal, get_args

import anndata as ad
import numpy as np
import scipy.sparse as sp

from .errors import PlatewiseError
from .matrix import require_csr
from .meaning import require_unstored
from .seeds import require_seed

By = Literal["random", "user", "last", "time"]


def split_entries(
    adata: ad.AnnData, test: float = 0.1, *, seed: int = 0, by: By | str = "random", k: int = 1
) -> tuple[ad.AnnData, ad.AnnData]:
    """Split the stored entries in two; both parts have all users, all items and their side columns.

    Args:
        adata: Ratings.
        test: Share of the entries in the test part, between 0 and 1. Not used by ``"last"``.
        seed: Of the random choices; with times, of the order of equal ones.
        by: How the test part is chosen:

            - ``"random"``: a share of all entries, whoever's they are (a user with few of them may have
              all in the test part);
            - ``"user"``: a share of each user's entries, rounded up or down at random so that the whole
              share is right on average; a user keeps one entry for training at least;
            - ``"last"``: each user's last ``k`` entries by time; a user keeps one for training at least;
            - ``"time"``: the latest share of all entries, over all users (so that training never sees
              what came after the cut).
        k: Entries per user for ``"last"``.

    Returns:
        The training part and the test part, with timestamps where there are some.

    Raises:
        PlatewiseError: The matrix holds no ratings or is not CSR, ``by`` needs times and there are none, an option is
            out of range, or a part would be empty.
    """
    require_unstored(adata, "missing", needed_by="splitting by entries")
    _check_options(test, by, k, seed)
    _check_matrix(adata, by)
    in_test = _chosen(adata, test, np.random.default_rng(seed), by, k)
    n_test = int(np.count_nonzero(in_test))
    if n_test in (0, len(in_test)):
        raise PlatewiseError(
            f"Expected two parts with entries, got {n_test} of {len(in_test)} in the test part. Change its share."
        )
    return _part(adata, ~in_test), _part(adata, in_test)


def _check_options(test: float, by: str, k: int, seed: int) -> None:
    if by not in get_args(By):
        raise PlatewiseError(f"Expected by= one of {', '.join(get_args(By))}, got {by!r}. Choose one.")
    if not 0.0 < test < 1.0:
        raise PlatewiseError(f"Expected a test share between 0 and 1, got {test}. 0.1 is a tenth.")
    if k < 1:
        raise PlatewiseError(f"Expected k of 1 at least, got {k}. 1 holds out each user's last entry.")
    require_seed(seed)


def _check_matrix(adata: ad.AnnData, by: str) -> None:
    require_csr(adata.X)
    times = adata.layers.get("timestamp")
    if times is not None:
        require_csr(times, "the timestamps")
        if not _same_structure(adata.X, times):
            raise PlatewiseError("Expected a timestamp for each entry of X, got others. Read the ratings again.")
    elif by in ("last", "time"):
        raise PlatewiseError(f'Expected timestamps for by="{by}", got none. Use by="random" or by="user".')


def _same_structure(x: sp.csr_matrix, times: sp.csr_matrix) -> bool:
    return np.array_equal(x.indptr, times.indptr) and np.array_equal(x.indices, times.indices)


def _chosen(adata: ad.AnnData, test: float, rng: np.random.Generator, by: str, k: int) -> np.ndarray:
    x = adata.X
    if by == "random":
        return _random(x.nnz, round(test * x.nnz), rng)
    if by == "time":
        return _latest(adata.layers["timestamp"].data, round(test * x.nnz), rng)
    counts = np.diff(x.indptr)
    if by == "user":
        wanted = np.floor(test * counts + rng.random(len(counts))).astype(np.int64)
        order = _within_rows(x, rng)
    else:
        wanted = np.full(len(counts), k)
        order = _within_rows(x, rng, adata.layers["timestamp"].data)
    return _last_of_each_row(x, order, np.minimum(wanted, np.maximum(counts - 1, 0)))


def _random(n: int, n_test: int, rng: np.random.Generator) -> np.ndarray:
    chosen = np.zeros(n, dtype=bool)
    chosen[rng.choice(n, n_test, replace=False, shuffle=False)] = True
    return chosen


def _latest(time: np.ndarray, n_test: int, rng: np.random.Generator) -> np.ndarray:
    """The latest entries; of those at the very cut, some at random."""
    if n_test == 0:
        return np.zeros(len(time), dtype=bool)
    cut = np.partition(time, len(time) - n_test)[len(time) - n_test]
    chosen = time > cut
    tied = np.flatnonzero(time == cut)
    chosen[rng.choice(tied, n_test - np.count_nonzero(chosen), replace=False)] = True
    return chosen


def _within_rows(x: sp.csr_matrix, rng: np.random.Generator, time: np.ndarray | None = None) -> np.ndarray:
    """Positions of the entries, row by row; within a row by time, equal times (or all) at random."""
    row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    # The entries are in order of their rows already: a stable sort is several times faster for it.
    order = np.argsort(row + rng.random(x.nnz), kind="stable")
    if time is None:
        return order
    if (int(time.max()) - int(time.min()) + 1) * x.shape[0] >= 2**63:
        time = np.unique(time, return_inverse=True)[1]
    key = row * (time.max() - time.min() + 1) + (time - time.min())
    return order[np.argsort(key[order], kind="stable")]


def _last_of_each_row(x: sp.csr_matrix, order: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    rank_from_end = np.repeat(x.indptr[1:], np.diff(x.indptr)) - np.arange(x.nnz)
    chosen = np.zeros(x.nnz, dtype=bool)
    chosen[order[rank_from_end <= np.repeat(wanted, np.diff(x.indptr))]] = True
    return chosen


def _part(adata: ad.AnnData, keep: np.ndarray) -> ad.AnnData:
    x = adata.X
    indptr = np.insert(np.cumsum(keep), 0, 0)[x.indptr].astype(x.indptr.dtype)
    indices = x.indices[keep]
    part = ad.AnnData(
        sp.csr_matrix((x.data[keep], indices, indptr), shape=x.shape, copy=False),
        obs=adata.obs.copy(),
        var=adata.var.copy(),
        uns=copy.deepcopy(dict(adata.uns)),
    )
    if "timestamp" in adata.layers:
        times = adata.layers["timestamp"].data[keep]
        part.layers["timestamp"] = sp.csr_matrix((times, indices, indptr), shape=x.shape, copy=False)
    return part
