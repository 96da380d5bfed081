"""Counts made comparable between rows: each row scaled to one total, then log(1 + x).

Depth (how many molecules of a cell were sequenced) says little of what the cell is. Scaled to one total, entries are
comparable between cells, and the logarithm makes their spread about the same at every level, as a Gaussian likelihood
takes it to be. Zeros stay zeros, so that nothing but the stored entries changes.

References:
    Luecken and Theis (2019), Current best practices in single-cell RNA-seq analysis: a tutorial (normalisation).
"""

from __future__ import annotations

import math
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp

from .counts import are_counts
from .errors import PlatewiseError
from .matrix import by_rows
from .meaning import meaning, require_unstored

TARGET = 1e4
NORMALISED = "normalised"  # in uns["platewise"]: the total that rows were scaled to, or ELSEWHERE
ELSEWHERE = "elsewhere"  # entries that are no counts and do not say how they were made from some


def log_normalise(adata: ad.AnnData, target: float = TARGET) -> ad.AnnData:
    """Scale each row of a count matrix to one total, and take log(1 + x).

    Args:
        adata: Counts (entries not stored are observed zeros), one row a cell; left as it is.
        target: The total of every row after scaling, above 0.

    Returns:
        A new container with log1p(target * x / total) as `X`, float32 and on the same structure, the counts in
        `layers["counts"]`, and `target` in `uns["platewise"]["normalised"]`.

    Raises:
        PlatewiseError: If the matrix is no count matrix, is normalised already, has rows without a count, or the target
            is not positive and finite.
    """
    if not (math.isfinite(target) and target > 0):
        raise PlatewiseError(f"Expected a target above 0, got {target}. 10000 is usual.")
    require_unstored(adata, "zero", needed_by="normalising")
    if NORMALISED in meaning(adata):
        raise PlatewiseError(
            f"Expected counts, got {said_of(meaning(adata)[NORMALISED])}. Take them as they are, or normalise the "
            "counts that they were made from."
        )
    adata = by_rows(adata)
    _require_counts(adata)
    return _with_values(adata, _logs(adata.X, _totals(adata), target), target)


def is_counts(adata: ad.AnnData) -> bool:
    """Whether all stored entries are whole numbers from 0 on."""
    x: Any = adata.X
    return are_counts(x.data if sp.issparse(x) else np.asarray(x).ravel())


def said_of(normalised: float | str | None) -> str:
    """What a matrix holds, by its `uns["platewise"]["normalised"]`, in words."""
    if normalised is None:
        return "counts"
    if normalised == ELSEWHERE:
        return "entries normalised elsewhere"
    return f"counts log-normalised to {float(normalised):,.10g} a row"


def _require_counts(adata: ad.AnnData) -> None:
    if not is_counts(adata):
        raise PlatewiseError(
            "Expected counts, whole numbers from 0 on, got others. Take the raw counts; entries that are normalised "
            "already need no more."
        )


def _totals(adata: ad.AnnData) -> np.ndarray:
    """Sum of each row, (n_rows,) float64.

    Raises:
        PlatewiseError: If one is zero.
    """
    totals = np.asarray(adata.X.sum(axis=1, dtype=np.float64)).ravel()
    if len(empty := np.flatnonzero(totals == 0)):
        of = meaning(adata)["row_name"]
        raise PlatewiseError(
            f"Expected {of}s with counts, got {len(empty)} of {len(totals)} without any, the first "
            f"{adata.obs_names[empty[0]]!r}. Leave them out."
        )
    return totals


def _logs(counts: sp.csr_matrix, totals: np.ndarray, target: float) -> sp.csr_matrix:
    """log1p of the scaled entries, on the structure of the counts."""
    scale = np.repeat(target / totals, np.diff(counts.indptr))
    values = np.log1p(counts.data * scale).astype(np.float32)
    return sp.csr_matrix((values, counts.indices, counts.indptr), shape=counts.shape, copy=False)


def _with_values(adata: ad.AnnData, x: sp.csr_matrix, target: float) -> ad.AnnData:
    """The same container with other entries, and the counts as a layer."""
    kept = {name: dict(getattr(adata, name)) for name in ("obsm", "varm", "obsp", "varp")}
    uns = dict(adata.uns) | {"platewise": meaning(adata) | {NORMALISED: float(target)}}
    layers = dict(adata.layers) | {"counts": adata.X}
    return ad.AnnData(x, obs=adata.obs.copy(), var=adata.var.copy(), uns=uns, layers=layers, **kept)
