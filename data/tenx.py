"""10x Genomics' formats: a folder of Matrix Market and names, or one .h5; as Cell Ranger 2 and 3 onwards write them."""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pandas as pd
import scipy.io
import scipy.sparse as sp

from .counts import Counts, checked_counts, numbered
from .errors import PlatewiseError
from .places import DAMAGED, file_at

GenesIn = Literal["rows", "columns"]

MATRICES = ("matrix.mtx", "matrix.mtx.gz")
_CHUNK = 1 << 19
_GENE_COLUMNS = ("gene_ids", "name", "feature_types")

logger = logging.getLogger("platewise")


def find_matrix(folder: Path) -> Path | None:
    """The matrix of a 10x folder, or of the one folder within it that is one; None if there is none.

    Files may have a prefix, as repositories add one: ``GSM123_matrix.mtx.gz`` beside ``GSM123_barcodes.tsv.gz``.

    Raises:
        PlatewiseError: There are several.
    """
    for pattern in ("*", "*/*"):
        found = sorted(p for p in folder.glob(pattern) if p.name.endswith(MATRICES) and p.is_file())
        matrices = list({str(path).removesuffix(".gz"): path for path in reversed(found)}.values())
        if len(matrices) > 1:
            names = ", ".join(str(path.relative_to(folder)) for path in sorted(matrices))
            raise PlatewiseError(f"Expected one matrix in {folder}, got {names}. Name the one you want, or a list.")
        if matrices:
            return matrices[0]
    return None


def read_mtx(path: Path, genes_in: GenesIn = "rows", feature_type: str | None = "Gene Expression") -> Counts:
    """Counts in a Matrix Market file, with the names that lie beside it, if any do.

    Args:
        path: The ``.mtx`` or ``.mtx.gz``. Names are looked for in ``barcodes.tsv`` and ``features.tsv`` (version 3) or
            ``genes.tsv`` (version 2) with the same prefix, plain or gzipped; without them names are 0, 1, ...
        genes_in: Whether genes are its rows, as 10x has it, or its columns.
        feature_type: Which features to keep where their types are known; all if None.

    Raises:
        PlatewiseError: A file is missing, damaged or of another length than the matrix, or these are no raw counts.
    """
    x = _read_matrix(path, genes_in)
    barcodes, features = _beside(path, "barcodes"), _beside(path, "features") or _beside(path, "genes")
    obs = numbered(x.shape[0]) if barcodes is None else _table(barcodes, ()).set_index(0)
    var = numbered(x.shape[1]) if features is None else _genes(_table(features, _GENE_COLUMNS))
    _require_lengths(x, obs, var, path, genes_in)
    obs.index.name = None
    kinds: dict[str, Any] = {"row_ids": "str" if barcodes else "int", "col_ids": "str" if features else "int"}
    counts = Counts(checked_counts(x, obs, var, str(path)), obs, var, **kinds)
    return _of_type(counts, feature_type, str(path))


def _read_matrix(path: Path, genes_in: GenesIn) -> sp.csr_matrix:
    source = require_content(path)
    try:
        with source.open() as stream:
            matrix = scipy.io.mmread(stream, spmatrix=True)
    except (ValueError, TypeError, OverflowError, *DAMAGED) as error:
        raise PlatewiseError(
            f"Expected a whole Matrix Market file, got {' '.join(str(error).split())!r}: {path}. Make it again."
        ) from error
    sparse: bool = sp.issparse(matrix)
    if not sparse or matrix.dtype.kind == "c":
        raise PlatewiseError(f"Expected a Matrix Market file of coordinates and real numbers, got another: {path}. "
                             "Write the matrix as a sparse one.")  # fmt: skip
    matrix.data = matrix.data.astype(np.float32)
    return sp.csr_matrix((matrix.T if genes_in == "rows" else matrix).tocsr())


def require_content(path: Path) -> Any:
    """A file that is there and not empty."""
    if path.is_file() and path.stat().st_size == 0:
        raise PlatewiseError(f"Expected counts, got an empty file: {path}. Was it written or copied whole?")
    return file_at(path)


def _beside(path: Path, what: str) -> Path | None:
    """The file of names that belongs to a matrix."""
    name = path.name.removesuffix(".gz").removesuffix(".mtx")
    prefix = name.removesuffix("matrix") if name.endswith("matrix") else f"{name}_"
    found = [path.with_name(f"{prefix}{what}.tsv{suffix}") for suffix in ("", ".gz")]
    return next((file for file in found if file.is_file()), None)


def _table(path: Path, names: tuple[str, ...]) -> pd.DataFrame:
    """A table without header, all text: a gene may be called NA."""
    try:
        with require_content(path).open() as stream:
            table = pd.read_csv(stream, sep="\t", header=None, dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)
    except (ValueError, *DAMAGED) as error:
        raise PlatewiseError(
            f"Expected a table of names, got {' '.join(str(error).split())!r}: {path}. Make it again."
        ) from error
    table = table.iloc[:, : max(len(names), 1)]
    return table.set_axis(list(names[: table.shape[1]]), axis=1) if names else table


def _genes(table: pd.DataFrame) -> pd.DataFrame:
    """Genes by symbol; by id where a file has nothing else."""
    if "name" not in table:
        return table.set_index("gene_ids").rename_axis(None)
    return table.set_index("name").rename_axis(None)


def _require_lengths(x: sp.csr_matrix, obs: pd.DataFrame, var: pd.DataFrame, path: Path, genes_in: GenesIn) -> None:
    named = (len(obs), len(var))
    if x.shape == named:
        return
    other = "columns" if genes_in == "rows" else "rows"
    remedy = f'Say genes_in="{other}" (--genes-in {other}).' if x.shape == named[::-1] else "Are they of one sample?"
    raise PlatewiseError(
        f"Expected names of {x.shape[0]} cells and {x.shape[1]} genes for {path}, got {named[0]} and {named[1]}. "
        f"{remedy}"
    )


def read_tenx_h5(path: Path, feature_type: str | None = "Gene Expression") -> Counts:
    """Counts in 10x's .h5, of Cell Ranger 2 (a group per genome) or 3 onwards (the group ``matrix``).

    Its columns are cells, compressed: read by blocks, they are the rows wanted, at 8 bytes per stored entry.

    Raises:
        PlatewiseError: The file is missing, damaged, another kind of HDF5, of several genomes in the layout of
            version 2, has no feature of the type wanted, or holds no raw counts.
    """
    require_content(path)
    try:
        with h5py.File(path, "r") as file:
            group = _group(file, path)
            obs = pd.DataFrame(index=_texts(group["barcodes"]))
            var = _features(group)
            x = _by_cells(group)
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        if isinstance(error, PlatewiseError):
            raise
        raise PlatewiseError(
            f"Expected a whole .h5 file of 10x, got a truncated or damaged one: {path}. Make or download it again."
        ) from error
    _require_lengths(x, obs, var, path, "rows")
    return _of_type(Counts(checked_counts(x, obs, var, str(path)), obs, var), feature_type, str(path))


def _group(file: h5py.File, path: Path) -> h5py.Group:
    if "matrix" in file:
        return file["matrix"]
    genomes = [name for name, group in file.items() if isinstance(group, h5py.Group) and "barcodes" in group]
    if len(genomes) == 1:
        return file[genomes[0]]
    if genomes:
        raise PlatewiseError(
            f"Expected one genome in {path}, got {', '.join(genomes)}. Read the folder of one of them instead, "
            "as filtered_gene_bc_matrices has it."
        )
    raise PlatewiseError(
        f"Expected the .h5 of 10x, got another kind of HDF5: {path}. If it is an .h5ad, give it that suffix."
    )


def _features(group: h5py.Group) -> pd.DataFrame:
    if "features" not in group:
        return pd.DataFrame({"gene_ids": _texts(group["genes"])}, index=_texts(group["gene_names"]))
    features = group["features"]
    columns = {"gene_ids": "id", "feature_types": "feature_type", "genome": "genome"}
    table = {column: _texts(features[name]) for column, name in columns.items() if name in features}
    return pd.DataFrame(table, index=_texts(features["name"]))


def _texts(dataset: h5py.Dataset) -> pd.Index:
    return pd.Index([text.decode() for text in dataset[:].astype("S").tolist()], dtype=object)


def _by_cells(group: h5py.Group) -> sp.csr_matrix:
    n_genes, n_cells = (int(n) for n in group["shape"][:])
    arrays = (_read(group["data"], np.float32), _read(group["indices"], np.int32), group["indptr"][:])
    x = sp.csr_matrix(arrays, shape=(n_cells, n_genes), copy=False)
    x.check_format(full_check=True)
    return x


def _read(dataset: h5py.Dataset, dtype: Any) -> np.ndarray:
    """An array converted block by block: Cell Ranger's own types take twice the memory."""
    array = np.empty(dataset.shape, dtype)
    for start in range(0, len(array), _CHUNK):
        array[start : start + _CHUNK] = dataset[start : start + _CHUNK]
    return array


def _of_type(counts: Counts, feature_type: str | None, label: str) -> Counts:
    """Features of one type: antibodies and guides are counted too, and are no genes."""
    types = counts.var.get("feature_types")
    if feature_type is None or types is None or (types == feature_type).all():
        return counts
    wanted = (types == feature_type).to_numpy()
    if not wanted.any():
        raise PlatewiseError(
            f"Expected features of type {feature_type!r} in {label}, got {', '.join(sorted(set(types)))}. "
            "Name one of these (--feature-type)."
        )
    logger.info("%s: %d features of other types than %s left out", label, int((~wanted).sum()), feature_type)
    return Counts(sp.csr_matrix(counts.x[:, wanted]), counts.obs, counts.var[wanted], row_ids=counts.row_ids)
