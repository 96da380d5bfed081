"""The .h5ad behind a command: its shape without its entries, and where a run's training data are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import anndata as ad

    from ..inference import Fitted

T = TypeVar("T")


def shape_of(path: Path) -> tuple[int, int]:
    """Rows and columns of the matrix in an .h5ad.

    Raises:
        PlatewiseError: If it is missing, or no whole .h5ad.
    """
    import h5py

    from ..data.errors import PlatewiseError

    if not path.is_file() or not h5py.is_hdf5(path):
        got = "something else" if path.is_file() else "a folder" if path.is_dir() else "no such file"
        raise PlatewiseError(f"Expected an .h5ad file, got {got}: {path}. Make one with `platewise ingest`.")
    try:
        with h5py.File(path, "r") as file:
            return tuple(len(file[side][file[side].attrs["_index"]]) for side in ("obs", "var"))  # type: ignore[return-value]
    except (OSError, KeyError) as error:
        raise PlatewiseError(
            f"Expected a whole .h5ad file, got a truncated or damaged one: {path}. Make it again."
        ) from error


def training_data_of(run: Path, fitted: Fitted) -> ad.AnnData | None:
    """The training data that a run remembers; None if they are gone or have changed since."""
    from ..data.storage import fingerprint, read_h5ad
    from ..inference.run_directory import training_file

    file = training_file(run)
    adata = None if file is None else read_h5ad(file)
    return adata if adata is not None and fingerprint(adata) == fitted.fingerprint else None


def require_training(found: T | None, run: Path, needed: str, option: str) -> T:
    """Check that a run's training data were found.

    Args:
        found: What was found.
        run: The run directory.
        needed: What for, in words.
        option: How a person names them.

    Returns:
        What was found.

    Raises:
        PlatewiseError: If nothing was found.
    """
    from ..data.errors import PlatewiseError
    from ..inference.run_directory import read_config

    if found is None:
        file = read_config(run)["data"]["file"]
        got = "no path remembered" if file is None else f"{file} gone or changed"
        raise PlatewiseError(f"Expected the training data of {run} {needed}, got {got}. Name them: {option}.")
    return found
