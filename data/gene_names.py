"""Names that occur twice: genes that share a symbol, cells that share a barcode."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .counts import Counts
from .errors import PlatewiseError

DuplicateGenes = Literal["error", "unique", "sum"]


def check_choice(name: str, given: str, choices: object, option: str) -> None:
    """Check that an option is one of those there are.

    Raises:
        PlatewiseError: It is none of them.
    """
    if given not in get_args(choices):
        words = ", ".join(f'"{choice}"' for choice in get_args(choices))
        raise PlatewiseError(f"Expected {name} to be one of {words}, got {given!r}. Choose one ({option}).")


def unique_names(names: Iterable[str]) -> pd.Index:
    """The second of a name becomes ``name-1``, the third ``name-2``, as scanpy has it; taken names are passed over."""
    given = [str(name) for name in names]
    taken, result = set(given), []
    used: dict[str, int] = {}
    for name in given:
        k = used[name] = used.get(name, -1) + 1
        while k and f"{name}-{k}" in taken:
            k = used[name] = k + 1
        result.append(f"{name}-{k}" if k else name)
        taken.add(result[-1])
    return pd.Index(result, dtype=object)


def with_unique_genes(counts: Counts, rule: str) -> tuple[Counts, int]:
    """The counts with every gene name once.

    Args:
        counts: Names may repeat.
        rule: ``"unique"`` appends numbers, ``"sum"`` adds up the columns of one name (the side columns of the first are
            kept), ``"error"`` refuses.

    Returns:
        The counts, and the number of columns whose name was another's before.

    Raises:
        PlatewiseError: The rule is ``"error"`` and a name repeats.
    """
    names = counts.var.index
    repeats = np.asarray(names.duplicated())
    n = int(repeats.sum())
    if n and rule == "error":
        raise PlatewiseError(
            f"Expected gene names that are unique, got {n} that repeat another, the first {names[repeats][0]!r}. "
            'Say duplicates="unique" or "sum" (--duplicate-genes).'
        )
    if n and rule == "sum":
        var = counts.var[~repeats]
        return replace(counts, x=_summed(counts.x, var.index.get_indexer(names), len(var)), var=var), n
    return replace(counts, var=counts.var.set_axis(unique_names(names), axis=0)), n


def _summed(x: sp.csr_matrix, column: np.ndarray, n_cols: int) -> sp.csr_matrix:
    """Columns added up where they go to the same place."""
    moved = sp.csr_matrix((x.data, column[x.indices], x.indptr), shape=(x.shape[0], n_cols))
    moved.sum_duplicates()
    return moved


def with_unique_cells(counts: Counts) -> tuple[Counts, int]:
    """The counts with every cell name once, and the number of names that were another's before."""
    names = counts.obs.index
    n = int(np.asarray(names.duplicated()).sum())
    kind = "str" if n else counts.row_ids
    return replace(counts, obs=counts.obs.set_axis(unique_names(names), axis=0), row_ids=kind), n
