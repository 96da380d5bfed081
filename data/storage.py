"""The container on disk: ``.h5ad`` written whole or not at all, read with clear errors, fingerprinted."""

import hashlib
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import numpy as np
import scipy.sparse as sp

from .errors import PlatewiseError
from .meaning import INGEST, Unstored, has_meaning, mark, meaning
from .writing import require_space, whole_file

_CHUNK = 1 << 20


def write_h5ad(adata: ad.AnnData, path: str | Path, *, force: bool = False) -> None:
    """Write a container as ``.h5ad``: the whole file appears under its name, or nothing does.

    Args:
        adata: The container.
        path: Where to.
        force: Replace a file that is there.

    Raises:
        PlatewiseError: The path exists and ``force`` is not set, its folder does not exist, or it cannot be
            written (a full disk, say).
    """
    with whole_file(path, force=force) as part:
        require_space(path, size_of(adata))
        try:
            adata.write_h5ad(part, convert_strings_to_categoricals=False)
        except RuntimeError as error:  # what h5py makes of some failures of the disk
            raise OSError(str(error)) from error


def size_of(adata: ad.AnnData) -> int:
    """Bytes of a container on disk, at the most."""
    matrices = sum(_bytes_of(matrix) for matrix in (adata.X, *adata.layers.values()))
    tables = sum(int(table.memory_usage(deep=True).sum()) for table in (adata.obs, adata.var))
    return matrices + tables


def _bytes_of(matrix: Any) -> int:
    """Of a dense array, or one in CSR or CSC: AnnData holds no other sparse format."""
    sparse: bool = sp.issparse(matrix)
    if not sparse:
        return int(getattr(matrix, "nbytes", 0))
    return sum(array.nbytes for array in (matrix.data, matrix.indices, matrix.indptr))


def read_h5ad(path: str | Path, *, unstored: Unstored | str | None = None) -> ad.AnnData:
    """Read a container from ``.h5ad``.

    Args:
        path: The file.
        unstored: What entries not stored mean, for a file from elsewhere that does not say so; of a file that does,
            what it must say.

    Returns:
        The container; ``layers["timestamp"]`` shares its structure with ``X`` where there is one.

    Raises:
        PlatewiseError: The file is missing, truncated or no ``.h5ad``, or it does not say what entries not
            stored mean and ``unstored`` does not either, or says another thing than ``unstored``.
    """
    path = Path(path)
    adata = _read(path)
    if not has_meaning(adata):
        _require_given(path, unstored)
        mark(adata, unstored=str(unstored))
    elif unstored not in (None, said := meaning(adata)["unstored"]):
        raise PlatewiseError(
            f'Expected {path} to say that entries not stored are "{unstored}", got "{said}". '
            "Leave unstored (--unstored) out; if the file is wrong, make it again from what it was made from."
        )
    share_structure(adata)
    return adata


def _require_given(path: Path, unstored: str | None) -> None:
    if unstored is None:
        raise PlatewiseError(
            f"Expected {path} to say what entries not stored mean, got a file that does not. "
            'Read it with read_h5ad(path, unstored="missing") for ratings, unstored="zero" for counts; '
            f"on the command line: {INGEST.format('missing|zero')}."
        )


def require_h5ad(path: str | Path) -> None:
    """Check that there is a file that may be an ``.h5ad``; whether it is whole shows when it is read.

    Raises:
        PlatewiseError: It is missing, a folder, or not HDF5.
    """
    path = Path(path)
    if not path.is_file() or not h5py.is_hdf5(path):
        got = "something else" if path.is_file() else "a folder" if path.is_dir() else "no such file"
        raise PlatewiseError(f"Expected an .h5ad file, got {got}: {path}. Make one with `platewise ingest`.")


def _read(path: Path) -> ad.AnnData:
    require_h5ad(path)
    try:
        return ad.read_h5ad(path)
    except Exception as error:  # anndata and h5py raise a dozen types on a damaged file
        raise PlatewiseError(
            f"Expected a whole .h5ad file, got a truncated or damaged one: {path}. Make it again."
        ) from error


def share_structure(adata: ad.AnnData) -> None:
    """Let the timestamps use the index arrays of ``X``: 4 bytes a rating less."""
    x: Any = adata.X
    stamps: Any = adata.layers.get("timestamp")
    if not all(isinstance(m, sp.csr_matrix | sp.csr_array) for m in (x, stamps)):
        return
    if np.array_equal(x.indptr, stamps.indptr) and np.array_equal(x.indices, stamps.indices):
        adata.layers["timestamp"] = sp.csr_matrix((stamps.data, x.indices, x.indptr), shape=x.shape, copy=False)


def fingerprint(adata: Any) -> str:
    """A digest of the entries and the names: equal for equal matrices, wherever they come from.

    Args:
        adata: A container with a CSR ``X`` (arrays, or h5py datasets on disk). Side columns and timestamps
            do not count.

    Returns:
        32 hexadecimal digits (BLAKE2b).
    """
    digest = hashlib.blake2b(digest_size=16)
    x = adata.X
    for array, dtype in ((x.indptr, np.int64), (x.indices, np.int64), (x.data, np.float32)):
        for start in range(0, len(array), _CHUNK):
            digest.update(np.ascontiguousarray(array[start : start + _CHUNK], dtype=dtype).data)
    for names in (adata.obs_names, adata.var_names):
        digest.update("\0".join(names).encode())
        digest.update(b"\1")
    return digest.hexdigest()
