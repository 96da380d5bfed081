"""The number of factors that a person asks for, or leaves to the data."""

from __future__ import annotations

from typing import Any

AUTO = "auto"
WIDEST = 64
NARROWEST = 4
AUTO_OPTIONS: dict[str, dict[str, Any]] = {  # what pruning takes: sweeps past those that predictions gain from
    "coordinate-ascent": {"sweeps": 300, "tolerance": 1e-5},
    "natural-gradient": {"passes": 50},
}


def rank_of(asked: str, shape: tuple[int, int], n_entries: int) -> int:
    """The number of factors to fit.

    Args:
        asked: A number, or "auto".
        shape: Rows and columns of the matrix.
        n_entries: Its stored entries.

    Raises:
        PlatewiseError: If it is neither, or more than the smaller side.
    """
    from ..data.errors import PlatewiseError

    if asked == AUTO:
        return start_rank(shape, n_entries)
    if not asked.lstrip("-").isdecimal():
        raise PlatewiseError(f"Expected --rank as a whole number or {AUTO}, got {asked!r}. Choose, say, 16.")
    if int(asked) > min(shape):
        raise PlatewiseError(
            f"Expected a rank of at most {min(shape)}, the smaller side of a {shape[0]} x {shape[1]} matrix, got "
            f"{asked}. Choose, say, {min(16, max(min(shape) // 4, 1))}."
        )
    return int(asked)


def start_rank(shape: tuple[int, int], n_entries: int) -> int:
    """Where to begin when the data are to choose: wider than they will support, but not by far.

    A quarter of the mean number of entries of a row or of a column, whichever is less, from 4 to 64. Relevance
    determination that starts too wide prunes factors that the data do support: in ratings drawn from the model, 17 to
    50 a user, starts with as many factors as that lost some and ended at a lower bound, starts with a quarter did not.
    """
    most = min(*shape, WIDEST)
    return min(max(n_entries // (4 * max(shape)), NARROWEST), most)


def require_prunes(algorithm: str) -> None:
    """Check that an algorithm can leave the rank to the data.

    Raises:
        PlatewiseError: If it does not prune factors.
    """
    from ..data.errors import PlatewiseError

    if algorithm not in AUTO_OPTIONS:
        raise PlatewiseError(
            f"Expected a number for --rank with --algorithm {algorithm}, which does not prune factors, got {AUTO}. "
            f"Choose, say, --rank 16, or say --algorithm {' or '.join(AUTO_OPTIONS)}."
        )
