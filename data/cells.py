"""Single-cell counts from wherever they are, as the one container."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import scipy.sparse as sp

from .annotated import counts_of_anndata, counts_of_h5ad, recorded_unstored
from .count_table import read_count_table
from .counts import Counts, as_csr, checked_counts, numbered
from .empty import Empty, without_empty_cells, without_empty_genes
from .errors import PlatewiseError
from .gene_names import DuplicateGenes, check_choice, with_unique_cells, with_unique_genes
from .joined import Join, joined, labels_of
from .matrix import entries_by_column
from .meaning import mark
from .tenx import GenesIn, find_matrix, read_mtx, read_tenx_h5, require_content

logger = logging.getLogger("platewise")

_HDF5 = (".h5", ".hdf5")
_MTX = (".mtx", ".mtx.gz")
_TEXT = tuple(f".{kind}{packed}" for kind in ("csv", "tsv", "txt") for packed in ("", ".gz", ".bz2", ".zst"))


def read_cells(
    source: Any,
    *,
    genes_in: GenesIn | str | None = None,
    feature_type: str | None = "Gene Expression",
    duplicates: DuplicateGenes | str = "unique",
    empty_cells: Empty | str = "drop",
    empty_genes: Empty | str = "keep",
    join: Join | str = "inner",
    batch_key: str = "batch",
) -> ad.AnnData:
    """Read raw counts into a container: cells x genes, entries not stored are observed zeros.

    ``X`` takes 8 bytes per stored entry (a float32 and its column). Reading 10x's ``.h5`` takes no more at its peak but
    some 70 MB for blocks (11 bytes per entry measured at 24 million entries, 40,000 x 2,000); other files take 16 to 24
    bytes per entry while they are converted, and several sources twice their sum.

    Args:
        source: A path to a 10x folder (``matrix.mtx``, ``barcodes.tsv`` and ``features.tsv`` or ``genes.tsv``, plain or
            gzipped), 10x's ``.h5``, an ``.mtx``, a scipy ``.npz``, an ``.h5ad``, or a table of text with a header (CSV,
            TSV); an AnnData, which is left as it is; a list of these, or a mapping of names to these.
        genes_in: Whether genes are ``"rows"`` or ``"columns"`` of an ``.mtx`` (rows if not given), ``.npz`` or table
            (columns if not given).
        feature_type: Features of 10x to keep, where types are known; all if None.
        duplicates: What becomes of genes that share a name: ``"unique"`` appends numbers, ``"sum"`` adds them up,
            ``"error"`` refuses.
        empty_cells: What becomes of cells without counts: ``"drop"``, ``"keep"`` or ``"error"``.
        empty_genes: What becomes of genes without counts.
        join: Of several sources: the genes of all (``"inner"``) or of any (``"outer"``; those that a
            source lacks are zeros).
        batch_key: Of several sources: the column of ``obs`` for their names.

    Returns:
        The container: ``X`` CSR float32 (counts above 2^24 are rounded), ``obs``, ``var`` and ``obsm`` as the source
        has them; other layers, ``uns`` and graphs are left out. ``uns["platewise"]`` holds, beside the meaning,
        ``counts_from``, ``duplicate_genes``, ``duplicate_cells``, ``empty_cells_dropped``, ``empty_genes_dropped`` and,
        of several sources, ``genes_left_out`` and ``batch_key``.

    Raises:
        PlatewiseError: A source is missing, damaged, of no known kind, or holds no raw counts: some are NaN, negative
            or not whole (log-normalised values are told as such); or an option is none that there is.
    """
    _check(genes_in, duplicates, empty_cells, empty_genes, join)
    said: dict[str, Any] = {}
    if isinstance(source, Mapping | Sequence) and not isinstance(source, str):
        names = [str(name) for name in source] if isinstance(source, Mapping) else labels_of(source)
        sources = list(source.values()) if isinstance(source, Mapping) else list(source)
        read = [_unique(_read(one, genes_in, feature_type), duplicates, said) for one in sources]
        counts = _joined(read, names, batch_key, join, said)
    else:
        counts = _unique(_read(source, genes_in, feature_type), duplicates, said)
    counts, said["empty_cells_dropped"] = without_empty_cells(counts, empty_cells)
    counts, said["empty_genes_dropped"] = without_empty_genes(counts, empty_genes)
    return _container(counts, said)


def _check(genes_in: str | None, duplicates: str, empty_cells: str, empty_genes: str, join: str) -> None:
    check_choice("genes_in", genes_in or "rows", GenesIn, "--genes-in")
    check_choice("duplicates", duplicates, DuplicateGenes, "--duplicate-genes")
    check_choice("empty_cells", empty_cells, Empty, "--empty-cells")
    check_choice("empty_genes", empty_genes, Empty, "--empty-genes")
    check_choice("join", join, Join, "--join")


def holds_counts(path: str | Path) -> bool:
    """Whether a path is known to be counts: a 10x folder, ``.h5``, ``.mtx``, ``.npz``, an ``.h5ad`` that says so."""
    path = Path(path)
    if _name(path).endswith(".h5ad"):
        return recorded_unstored(path) == "zero"
    return find_matrix(path) is not None if path.is_dir() else _name(path).endswith((*_HDF5, *_MTX, ".npz"))


def _name(path: Path) -> str:
    return path.name.lower()


def _read(source: Any, genes_in: Any, feature_type: str | None) -> Counts:
    if isinstance(source, ad.AnnData):
        _refuse_genes_in(genes_in, "an AnnData")
        return counts_of_anndata(source)
    if not isinstance(source, str | os.PathLike):
        raise PlatewiseError(
            f"Expected a path or an AnnData of counts, got {type(source).__name__}. Convert it to one of these."
        )
    path = Path(source)
    if path.is_dir():
        return read_mtx(_matrix_in(path), genes_in or "rows", feature_type)
    return _read_file(path, genes_in, feature_type)


def _read_file(path: Path, genes_in: Any, feature_type: str | None) -> Counts:
    name = _name(path)
    if name.endswith(_MTX):
        return read_mtx(path, genes_in or "rows", feature_type)
    if name.endswith(".npz"):
        return _read_npz(path, genes_in or "columns")
    if name.endswith(_TEXT):
        return read_count_table(path, genes_in or "columns")
    if name.endswith((".h5ad", *_HDF5)):
        _refuse_genes_in(genes_in, str(path))
        return counts_of_h5ad(path) if name.endswith(".h5ad") else read_tenx_h5(path, feature_type)
    require_content(path)
    raise PlatewiseError(
        f"Expected a 10x folder, an .h5ad, .h5, .mtx, .npz, .csv or .tsv of counts, got {path}. "
        "Give it the suffix of what it is, or convert it."
    )


def _refuse_genes_in(genes_in: str | None, of: str) -> None:
    if genes_in is not None:
        raise PlatewiseError(
            f"Expected no genes_in for {of}, got {genes_in!r}. Leave it out (--genes-in): it says so itself."
        )


def _matrix_in(folder: Path) -> Path:
    matrix = find_matrix(folder)
    if matrix is None:
        raise PlatewiseError(
            f"Expected a 10x folder with matrix.mtx or matrix.mtx.gz, got one without: {folder}. Name the folder "
            "of the matrix, e.g. filtered_feature_bc_matrix."
        )
    return matrix


def _read_npz(path: Path, genes_in: str) -> Counts:
    require_content(path)
    try:
        with path.open("rb") as stream:  # numpy leaves a file open that it cannot read
            x = as_csr(sp.load_npz(stream))
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise PlatewiseError(
            f"Expected a matrix saved with scipy.sparse.save_npz, got another file: {path}. Save it so."
        ) from error
    x = sp.csr_matrix(x.T.tocsr()) if genes_in == "rows" else x
    obs, var = (numbered(n) for n in x.shape)
    return Counts(checked_counts(x, obs, var, str(path)), obs, var, row_ids="int", col_ids="int")


def _unique(counts: Counts, duplicates: str, said: dict[str, Any]) -> Counts:
    counts, n_genes = with_unique_genes(counts, duplicates)
    counts, n_cells = with_unique_cells(counts)
    for name, n in (("duplicate_genes", n_genes), ("duplicate_cells", n_cells)):
        said[name] = said.get(name, 0) + n
    return counts


def _joined(parts: list[Counts], names: list[str], batch_key: str, join: str, said: dict[str, Any]) -> Counts:
    if not parts:
        raise PlatewiseError("Expected one source at least, got none. Name one.")
    counts, said["genes_left_out"] = joined(parts, names, batch_key, join)
    said["batch_key"] = batch_key
    return counts


def _container(counts: Counts, said: dict[str, Any]) -> ad.AnnData:
    entries_by_column(counts.x, counts.x.shape)
    adata = ad.AnnData(counts.x, obs=counts.obs.copy(), var=counts.var.copy(), obsm=dict(counts.obsm))
    mark(adata, unstored="zero", row_ids=counts.row_ids, col_ids=counts.col_ids)
    adata.uns["platewise"] |= {"counts_from": counts.counts_from, **said}
    _tell(adata.uns["platewise"])
    return adata


_TOLD = {
    "duplicate_genes": "genes shared the name of another",
    "duplicate_cells": "cells shared the name of another: renamed",
    "empty_cells_dropped": "cells without counts dropped",
    "empty_genes_dropped": "genes without counts dropped",
    "genes_left_out": "genes left out that not all sources have",
}


def _tell(said: Mapping[str, Any]) -> None:
    if said["counts_from"] != "X":
        logger.info("counts taken from %s", said["counts_from"])
    for name, words in _TOLD.items():
        if said.get(name):
            logger.info("%d %s", said[name], words)
