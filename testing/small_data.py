"""A small matrix to test a model on, the same at every call: ratings, counts or answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import anndata as ad
import numpy as np
import scipy.sparse as sp

from ..data.container import make_ratings
from ..data.errors import PlatewiseError
from ..data.meaning import Unstored, mark

Values = Literal["ratings", "counts", "binary"]

N_ROWS, N_COLS, N_ENTRIES = 40, 15, 200

DRAW: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "ratings": lambda rng, n: rng.integers(1, 6, n),
    "counts": lambda rng, n: rng.negative_binomial(1, 0.3, n),
    "binary": lambda rng, n: rng.integers(0, 2, n),
}


def small_data(values: Values | str = "ratings", unstored: Unstored | str = "missing") -> ad.AnnData:
    """A matrix of 40 rows by 15 columns.

    Args:
        values: "ratings" from 1 to 5, "counts", or "binary": 0 and 1.
        unstored: What an entry that is not stored means. If "missing", 200 entries are stored, some of them zeros
            unless they are ratings. If "zero", rows are whole: of counts or of 0 and 1 (ratings have no zero, and
            become counts), those that are not zero stored.

    Raises:
        PlatewiseError: If there are no such values.
    """
    if values not in get_args(Values):
        raise PlatewiseError(f"Expected values among {', '.join(get_args(Values))}, got {values!r}. Choose one.")
    rng = np.random.default_rng(0)
    if unstored == "zero":
        x = DRAW["counts" if values == "ratings" else values](rng, N_ROWS * N_COLS)
        return mark(_named(sp.csr_matrix(x.reshape(N_ROWS, N_COLS).astype(np.float32))), unstored=unstored)
    row, col = np.divmod(np.sort(rng.choice(N_ROWS * N_COLS, N_ENTRIES, replace=False)), N_COLS)
    x = DRAW[values](rng, N_ENTRIES).astype(np.float32)
    entries = sp.csr_matrix((x, (row, col)), shape=(N_ROWS, N_COLS))  # zeros that are stored stay stored
    return make_ratings(entries, np.arange(N_ROWS), np.arange(N_COLS))


def _named(x: sp.csr_matrix) -> ad.AnnData:
    adata = ad.AnnData(x)
    adata.obs_names, adata.var_names = ([f"{side}{k}" for k in range(n)] for side, n in zip("rc", x.shape, strict=True))
    return adata
