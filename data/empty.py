"""Cells and genes without a single count: dropped, kept or refused, and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .counts import Counts
from .errors import PlatewiseError

Empty = Literal["drop", "keep", "error"]

_CHUNK = 1 << 20


def without_empty_cells(counts: Counts, rule: str) -> tuple[Counts, int]:
    """The counts without their empty cells, and how many were dropped.

    Raises:
        PlatewiseError: The rule is ``"error"`` and a cell is empty.
    """
    per_cell = np.diff(counts.x.indptr)
    n = _dropped(per_cell, counts.obs, rule, "cell")
    if not n:
        return counts, 0
    kept = per_cell > 0
    # An empty row has no entries: the arrays stay as they are, and shared.
    indptr = np.concatenate([[0], counts.x.indptr[1:][kept]])
    x = sp.csr_matrix((counts.x.data, counts.x.indices, indptr), shape=(int(kept.sum()), counts.x.shape[1]), copy=False)
    return replace(counts, x=x, obs=counts.obs[kept], obsm=_rows(counts.obsm, kept)), n


def without_empty_genes(counts: Counts, rule: str) -> tuple[Counts, int]:
    """The counts without their empty genes, and how many were dropped.

    Raises:
        PlatewiseError: The rule is ``"error"`` and a gene is empty.
    """
    x = counts.x
    per_gene = np.zeros(x.shape[1], np.int64)
    for start in range(0, x.nnz, _CHUNK):
        per_gene += np.bincount(x.indices[start : start + _CHUNK], minlength=x.shape[1])
    n = _dropped(per_gene, counts.var, rule, "gene")
    if not n:
        return counts, 0
    kept = per_gene > 0
    indices = (np.cumsum(kept) - 1).astype(x.indices.dtype)[x.indices]
    moved = sp.csr_matrix((x.data, indices, x.indptr), shape=(x.shape[0], int(kept.sum())), copy=False)
    return replace(counts, x=moved, var=counts.var[kept]), n


def _rows(obsm: Mapping[str, Any], kept: np.ndarray) -> dict[str, Any]:
    return {name: array[kept] for name, array in obsm.items()}


def _dropped(entries: np.ndarray, table: pd.DataFrame, rule: str, of: str) -> int:
    """How many to drop."""
    empty = entries == 0
    n = int(empty.sum())
    if n and rule == "error":
        raise PlatewiseError(
            f"Expected a count in every {of}, got {n} {of}{'' if n == 1 else 's'} without any, the first "
            f'{table.index[empty][0]!r}. Say empty_{of}s="drop" or "keep" (--empty-{of}s).'
        )
    return n if rule == "drop" else 0
