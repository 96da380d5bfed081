"""An ``.h5ad`` written block by block: more rows than fit into memory, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import scipy.sparse as sp

from .storage import size_of
from .writing import require_space, whole_file

_CHUNK = 1 << 16  # entries


def write_rows(
    frame: ad.AnnData, blocks: Iterable[sp.csr_matrix], path: Path | str, *, n_entries: int, force: bool = False
) -> None:
    """Write a container whose rows come in blocks.

    Args:
        frame: Everything but the entries: its ``X`` is a CSR matrix without any.
        blocks: Its rows, in order, float32.
        path: Where to.
        n_entries: About how many entries there will be, to see that there is room.
        force: Replace a file that is there.

    Raises:
        PlatewiseError: The path exists and ``force`` is not set, its folder does not exist, or it cannot be written.
    """
    with whole_file(path, force=force) as part:
        embeddings = sum(np.asarray(x).nbytes for x in (*frame.obsm.values(), *frame.varm.values()))
        require_space(path, size_of(frame) + embeddings + round(8.4 * n_entries))
        try:
            frame.write_h5ad(part, convert_strings_to_categoricals=False)
            with h5py.File(part, "r+") as file:
                _append(file["X"], blocks)
        except RuntimeError as error:  # what h5py makes of some failures of the disk
            raise OSError(str(error)) from error


def _append(group: h5py.Group, blocks: Iterable[sp.csr_matrix]) -> None:
    for name, dtype in (("data", np.float32), ("indices", np.int32)):
        del group[name]
        group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(_CHUNK,))
    n_stored = [np.zeros(1, np.int64)]
    for block in blocks:
        n = group["data"].shape[0]
        for name in ("data", "indices"):
            group[name].resize((n + block.nnz,))
            group[name][n:] = getattr(block, name)
        n_stored.append(np.diff(block.indptr).astype(np.int64))
    del group["indptr"]
    group["indptr"] = np.cumsum(np.concatenate(n_stored))
