"""A small matrix to test a model on, the same at every call: ratings, counts or answers; and covariates of its rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import anndata as ad
import numpy as np
import scipy.sparse as sp

from ..data.container import make_ratings
from ..data.errors import PlatewiseError
from ..data.meaning import Unstored, mark
from ..inference.covariates import taken_by

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


def small_covariates(model: Any, n_rows: int) -> dict[str, np.ndarray]:
    """Covariates that a model says it takes, in its attribute `covariates`; none if it does not say.

    Args:
        model: The model; `{"categories": {"group": 3}, "continuous": {"age": 1}}` of it, say, has 3 groups and one age.
        n_rows: Rows to have them for.

    Returns:
        Of each category codes (n_rows,), all levels as often as each other, as far as rows go; of each continuous one
        standard normal numbers, (n_rows,) of width 1 and (n_rows, width) of others.
    """
    rng, said = np.random.default_rng(0), taken_by(model) or {"categories": {}, "continuous": {}}
    codes = {name: rng.permutation(n_rows) % levels for name, levels in said["categories"].items()}
    sizes = {name: (n_rows,) if width == 1 else (n_rows, width) for name, width in said["continuous"].items()}
    return codes | {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}


def _named(x: sp.csr_matrix) -> ad.AnnData:
    adata = ad.AnnData(x)
    adata.obs_names, adata.var_names = ([f"{side}{k}" for k in range(n)] for side, n in zip("rc", x.shape, strict=True))
    return adata
