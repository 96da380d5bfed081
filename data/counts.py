"""Raw counts: what they must be, and how a matrix that is something else is told.

Models of counts have likelihoods of whole numbers. Normalised or corrected values fit them badly and silently, so they
are refused here, by the first cell and gene, before anything is fitted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .errors import PlatewiseError
from .ids import IdKind

_CHUNK = 1 << 20  # entries looked at once
_ROWS = 2000  # cells whose sums tell that a matrix was normalised
_LARGEST_LOG = 20.0  # log1p of a count of 5e8
_EQUAL = 0.01  # relative spread of sums that are meant to be equal

_FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "NaN or infinite": lambda values: ~np.isfinite(values),
    "negative": lambda values: values < 0,
    "not whole numbers": lambda values: values != np.floor(values),
}


@dataclass(frozen=True)
class Counts:
    """Counts of one source: checked, names as the source has them.

    Attributes:
        x: CSR float32 (n_cells, n_genes): sorted indices, no stored zeros.
        obs: Cells, by name, with their side columns.
        var: Genes likewise; names may repeat.
        obsm: Arrays with one row per cell, where the source has any.
        counts_from: Which part of the source they were.
        row_ids: What the names of cells were before they became names.
        col_ids: Likewise for genes.
    """

    x: sp.csr_matrix
    obs: pd.DataFrame
    var: pd.DataFrame
    obsm: Mapping[str, Any] = field(default_factory=dict)
    counts_from: str = "X"
    row_ids: IdKind = "str"
    col_ids: IdKind = "str"


def numbered(n: int) -> pd.DataFrame:
    """A side table without columns for rows or columns without names: 0, 1, ..."""
    return pd.DataFrame(index=pd.Index([str(k) for k in range(n)], dtype=object))


def checked_counts(x: sp.csr_matrix, obs: pd.DataFrame, var: pd.DataFrame, label: str) -> sp.csr_matrix:
    """Raw counts in the form that `Counts` holds.

    Args:
        x: Of any numeric type. Its arrays may be changed or taken over.
        obs: Cells, for the names in errors.
        var: Genes.
        label: What to call the source in an error.

    Raises:
        PlatewiseError: Entries are not finite, negative or not whole.
    """
    fault = fault_of(x, obs, var)
    if fault is not None:
        raise PlatewiseError(f"Expected raw counts in {label}, got {fault}. {REMEDY}")
    return settled(x)


REMEDY = "Take them from before normalisation or correction; an .h5ad may keep them in layers['counts'] or raw."


def fault_of(x: sp.csr_matrix, obs: pd.DataFrame, var: pd.DataFrame) -> str | None:
    """What keeps a matrix from being raw counts, in words with the first cell and gene; None if nothing does."""
    for words, is_bad in _FAULTS.items():
        n_bad, first = _count(x.data, is_bad)
        if n_bad:
            if words == "not whole numbers" and (normalised := _normalised(x)):
                return normalised
            cell = obs.index[int(np.searchsorted(x.indptr, first, side="right")) - 1]
            where = f"cell {cell!r}, gene {var.index[x.indices[first]]!r}: {x.data[first]:g}"
            return f"{n_bad:,} of {x.nnz:,} entries that are {words} (first: {where})"
    return None


def are_counts(values: np.ndarray) -> bool:
    """Whether all values (n,) are whole numbers from 0 on."""
    return all(_count(values, is_bad)[0] == 0 for is_bad in _FAULTS.values())


def _count(data: np.ndarray, is_bad: Callable[[np.ndarray], np.ndarray]) -> tuple[int, int]:
    """How many values are bad, and the position of the first."""
    n_bad, first = 0, -1
    for start in range(0, len(data), _CHUNK):
        bad = is_bad(data[start : start + _CHUNK])
        if first < 0 and bad.any():
            first = start + int(bad.argmax())
        n_bad += int(np.count_nonzero(bad))
    return n_bad, first


def _normalised(x: sp.csr_matrix) -> str | None:
    """Whether cells sum to one number, as they are or before a logarithm: in words, or None."""
    part = x[:_ROWS].astype(np.float64)
    largest = float(part.max())
    if (total := _common_sum(part)) is not None:
        return f"normalised values (each cell sums to {total:,.4g})"
    if largest < _LARGEST_LOG and (total := _common_sum(part.expm1())) is not None:
        return f"log-normalised values (the largest is {largest:.3g}, and expm1 of each cell sums to {total:,.0f})"
    return None


def _common_sum(x: sp.csr_matrix) -> float | None:
    sums = np.asarray(x.sum(axis=1)).ravel()
    sums = sums[sums > 0]
    equal = len(sums) > 1 and float(sums.std()) < _EQUAL * float(sums.mean())
    return float(np.median(sums)) if equal else None


def as_csr(matrix: Any) -> sp.csr_matrix:
    """A matrix by rows: sparse in any format, or dense (an array, or a dataset on disk) in blocks of rows.

    Raises:
        PlatewiseError: It does not hold numbers.
    """
    if matrix.dtype.kind not in "biuf":
        raise PlatewiseError(f"Expected a matrix of numbers, got type {matrix.dtype}. Convert it first.")
    sparse: bool = sp.issparse(matrix)
    if sparse:
        return sp.csr_matrix(matrix)
    n_rows, n_cols = matrix.shape
    step = max(_CHUNK // max(n_cols, 1), 1)
    blocks = [sp.csr_matrix(matrix[start : start + step]) for start in range(0, n_rows, step)]
    return sp.csr_matrix(sp.vstack(blocks, format="csr")) if blocks else sp.csr_matrix((n_rows, n_cols))


def settled(x: sp.csr_matrix) -> sp.csr_matrix:
    """CSR float32 with sorted indices, each entry once and none of them 0; the arrays of `x` are taken over."""
    settled = sp.csr_matrix((x.data.astype(np.float32, copy=False), x.indices, x.indptr), shape=x.shape, copy=False)
    if not settled.has_canonical_format:
        settled.sum_duplicates()
    if not settled.data.all():
        # In counts a stored zero and one that is not stored are the same zero.
        settled.eliminate_zeros()
    return settled
