"""What an .h5ad says of itself, without its entries: checked before anything is read or computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CHUNK = 1 << 20  # entries read at once


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


def said_by(path: Path) -> str:
    """What a file says of entries not stored: "missing" or "zero".

    Raises:
        PlatewiseError: If it does not say, is missing, or is no whole .h5ad.
    """
    from ..data.errors import PlatewiseError
    from ..data.meaning import INGEST

    if not (said := recorded_in(path)):
        raise PlatewiseError(
            f"Expected a file that says what entries not stored mean, got one that does not: {path}. Say "
            f"`{INGEST.format('missing|zero').replace('FILE', str(path))}`: missing for ratings, zero for counts (of "
            "cells, --cells in its place finds those kept in a layer, too)."
        )
    return said


def recorded_in(path: Path) -> str:
    """What a file says of entries not stored: "missing", "zero", or "" if nothing.

    Raises:
        PlatewiseError: If it is missing, or no whole .h5ad.
    """
    return _looked_up(path)[2]


def how_to_get_counts(path: Path) -> str:
    """What to say where a file of cells should hold raw counts as its entries, and does not do so or not say so."""
    import h5py

    with h5py.File(path, "r") as file:
        keeps = "layers/counts" in file or "raw/X" in file
    if keeps or holds_counts(path):
        return f"Take what `platewise ingest {path} --cells -o COUNTS.h5ad` writes, its raw counts"
    return (
        "It keeps no raw counts in layers['counts'] or raw either: take those it was made from (`platewise ingest "
        "SOURCE --cells -o COUNTS.h5ad`)"
    )


def require_kind(path: Path, about: Mapping[str, Any], needed_by: str) -> None:
    """Check that an .h5ad holds what a fit was made on: ratings, or counts and what is made from them.

    Args:
        path: The file.
        about: The fit's `meaning`.
        needed_by: Who needs it, for the message.

    Raises:
        PlatewiseError: If it is missing, no whole .h5ad, or of another kind.
    """
    from ..data.errors import PlatewiseError
    from ..data.meaning import WORDS
    from ..data.normalise import NORMALISED
    from ..data.preparation import is_expression

    if not is_expression(about):
        require_ratings(path, needed_by)
    elif (said := said_by(path)) != "zero":
        raise PlatewiseError(
            f"Expected {WORDS['zero']} for {needed_by}, as in the fit, got {WORDS[said]}: {path}. Check the file."
        )
    elif NORMALISED not in about and not holds_counts(path):
        raise PlatewiseError(
            f"Expected counts for {needed_by}, as in the fit, got other values: {path}. {how_to_get_counts(path)}."
        )


def require_streamable(path: Path, unstored: str) -> None:
    """Check that a file can be streamed as it is, without a step that needs all of it.

    Raises:
        PlatewiseError: If it holds counts, or entries not stored are to be taken as it does not say.
    """
    from ..data.errors import PlatewiseError

    said = said_by(path)
    if said != unstored:
        raise PlatewiseError(
            f"Expected --unstored {said}, as {path} says, with --from-disk, got {unstored}. Leave one of the two out."
        )
    if said == "zero" and holds_counts(path):
        raise PlatewiseError(
            f"Expected log-normalised entries to stream from disk, got counts: {path}. Leave --from-disk out, or "
            "normalise them with platewise.data.log_normalise and write that."
        )


def holds_counts(path: Path) -> bool:
    """Whether all stored entries are whole numbers from 0 on; looks no further than the first that is not."""
    return _all_entries(path, lambda x: bool(((x >= 0) & (x % 1 == 0)).all()))


def holds_ones(path: Path) -> bool:
    """Whether all stored entries are 0 or 1; looks no further than the first that is not."""
    return _all_entries(path, lambda x: bool(((x == 0) | (x == 1)).all()))


def _all_entries(path: Path, keeps_to: Callable[[Any], bool]) -> bool:
    import h5py

    with h5py.File(path, "r") as file:
        values = file["X"]["data"] if "data" in getattr(file["X"], "keys", tuple)() else file["X"]
        return all(keeps_to(values[start : start + CHUNK]) for start in range(0, len(values), CHUNK))


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
