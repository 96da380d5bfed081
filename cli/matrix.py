"""What an .h5ad says of itself, without its entries: checked before anything is read or computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def size_of(path: Path) -> tuple[tuple[int, int], int]:
    """Rows and columns of the matrix in an .h5ad, and its stored entries.

    Raises:
        PlatewiseError: If it is missing, or no whole .h5ad.
    """
    shape, n_entries, _ = _looked_up(path)
    return shape, n_entries


def require_ratings(path: Path, needed_by: str) -> None:
    """Check that an .h5ad holds ratings, and say what to type if not.

    Args:
        path: The file.
        needed_by: Who needs ratings, for the message.

    Raises:
        PlatewiseError: If it is missing, no whole .h5ad, holds counts, or does not say what it holds.
    """
    from ..data.errors import PlatewiseError
    from ..data.meaning import WORDS

    unstored = _looked_up(path)[2]
    if unstored == "missing":
        return
    got = WORDS.get(unstored, "a file that does not say what entries not stored mean")
    source = "SOURCE" if unstored else path  # what says counts already is not made ratings by saying so
    raise PlatewiseError(
        f"Expected {WORDS['missing']} for {needed_by}, got {got}: {path}. If they are ratings, say "
        f"`platewise ingest {source} --unstored missing -o RATINGS.h5ad`, and take that file."
    )


def _looked_up(path: Path) -> tuple[tuple[int, int], int, str]:
    """Shape, stored entries, and what entries not stored mean ("" where that is not recorded)."""
    import h5py

    from ..data.errors import PlatewiseError
    from ..data.storage import require_h5ad

    require_h5ad(path)
    try:
        with h5py.File(path, "r") as file:
            n_rows, n_cols = (len(file[side][file[side].attrs["_index"]]) for side in ("obs", "var"))
            return (n_rows, n_cols), _stored(file["X"]), _recorded(file)
    except (OSError, KeyError, RuntimeError) as error:
        raise PlatewiseError(
            f"Expected a whole .h5ad file, got a truncated or damaged one: {path}. Make it again."
        ) from error


def _stored(x: Any) -> int:
    """Entries of a matrix, sparse or dense."""
    return len(x["data"]) if "data" in getattr(x, "keys", tuple)() else int(x.size)


def _recorded(file: Any) -> str:
    if "uns/platewise/unstored" not in file:
        return ""
    value = file["uns/platewise/unstored"][()]
    return value.decode() if isinstance(value, bytes) else str(value)
