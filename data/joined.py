"""Counts of several sources under one another, each cell labelled with its source."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from pathlib import PurePath
from typing import Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .counts import Counts
from .errors import PlatewiseError

Join = Literal["inner", "outer"]

_SUFFIXES = (".gz", ".bz2", ".zst", ".h5ad", ".h5", ".mtx", ".npz", ".csv", ".tsv", ".txt")


def joined(parts: Sequence[Counts], names: Sequence[str], batch_key: str, join: str) -> tuple[Counts, int]:
    """Cells of all sources, with the genes of all (inner) or of any (outer).

    With ``"outer"``, genes that a source lacks are zeros in its cells, although nobody looked for them.

    Args:
        parts: Counts of each source; gene names unique within it.
        names: Labels of the sources.
        batch_key: Column of ``obs`` for the labels.
        join: ``"inner"`` or ``"outer"``.

    Returns:
        The counts (genes in the order of the first source, cell names with ``-label`` where sources share one, ``obsm``
        left out), and the number of genes that fell out.

    Raises:
        PlatewiseError: A source has this column already, or the sources share no gene.
    """
    _require_no_column(parts, batch_key)
    genes = _genes(parts, join)
    x = sp.csr_matrix(sp.vstack([_at(part, genes) for part in parts], format="csr"))
    var = pd.concat([part.var for part in parts], join="inner" if join == "inner" else "outer")
    var = _writable(var[~var.index.duplicated()].reindex(genes))
    every = reduce(pd.Index.union, (part.var.index for part in parts))
    said = "; ".join(sorted({part.counts_from for part in parts}))
    return Counts(x, _obs(parts, names, batch_key), var, counts_from=said), len(every) - len(genes)


def _require_no_column(parts: Sequence[Counts], batch_key: str) -> None:
    if any(batch_key in part.obs for part in parts):
        raise PlatewiseError(
            f"Expected cells without a column {batch_key!r}, where the names of sources go, got one. "
            "Name another (--batch-key)."
        )


def _genes(parts: Sequence[Counts], join: str) -> pd.Index:
    indices = [part.var.index for part in parts]
    combine = pd.Index.intersection if join == "inner" else pd.Index.union
    genes = reduce(lambda a, b: combine(a, b, sort=False), indices)
    if not len(genes):
        raise PlatewiseError(
            f"Expected sources that share genes, got {indices[0][0]!r} in one and {indices[1][0]!r} in another. "
            "Do both name genes by symbol, or both by id?"
        )
    return genes


def _at(part: Counts, genes: pd.Index) -> sp.csr_matrix:
    """The counts with their columns where `genes` has them."""
    position = genes.get_indexer(part.var.index)
    here = position >= 0
    x = part.x if here.all() else sp.csr_matrix(part.x[:, here])
    moved = sp.csr_matrix((x.data, position[here][x.indices], x.indptr), shape=(x.shape[0], len(genes)))
    moved.sort_indices()
    return moved


def _obs(parts: Sequence[Counts], names: Sequence[str], batch_key: str) -> pd.DataFrame:
    obs = pd.concat([part.obs for part in parts])
    labels: Any = np.repeat(np.array(names, dtype=object), [len(part.obs) for part in parts])
    if not obs.index.is_unique:
        obs.index = pd.Index([f"{cell}-{label}" for cell, label in zip(obs.index, labels, strict=True)], dtype=object)
    return _writable(obs).assign(**{batch_key: pd.Categorical(labels, categories=list(names))})


def _writable(table: pd.DataFrame) -> pd.DataFrame:
    """Texts that some sources lack, as categories: HDF5 has no column of text with gaps."""
    gaps = [name for name, column in table.items() if column.dtype == object and column.isna().any()]
    return table.astype(dict.fromkeys(gaps, "category"))


def labels_of(sources: Sequence[Any]) -> list[str]:
    """Short names of paths: what is left of each without the end that all share, and without suffixes.

    ``a/outs/filtered`` and ``b/outs/filtered`` are ``a`` and ``b``; ``x/ctrl.h5`` and ``x/stim.h5`` are ``ctrl`` and
    ``stim``. What is no path is called by its position.

    Raises:
        PlatewiseError: A path is given twice.
    """
    if not all(isinstance(source, str | PurePath) for source in sources):
        return [str(k) for k in range(len(sources))]
    paths = [PurePath(source).parts for source in sources]
    if len(set(paths)) < len(paths):
        raise PlatewiseError("Expected every source once, got one twice. Leave it out, or its cells count twice.")
    shared = 0
    while all(len(path) > shared + 1 for path in paths) and len({path[-1 - shared] for path in paths}) == 1:
        shared += 1
    names = [_plain(path[-1 - shared]) for path in paths]
    return names if len(set(names)) == len(names) else ["/".join(path) for path in paths]


def _plain(name: str) -> str:
    while name.endswith(_SUFFIXES) and PurePath(name).stem:
        name = PurePath(name).stem
    return name
