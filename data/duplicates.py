"""Ratings in reading order made one CSR matrix, and what becomes of a user's second rating of an item."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import scipy.sparse as sp

from .entries import Entries
from .errors import PlatewiseError

Duplicates = Literal["last", "mean", "error"]


@dataclass(frozen=True)
class Assembled:
    """The matrix, and how it came about.

    Attributes:
        matrix: CSR (n_users, n_items), float32, sorted, each entry once; zeros are stored.
        time: Seconds since 1970 (n_entries,) in the order of ``matrix.data``, or None.
        n_duplicates: Ratings that gave way to, or were averaged into, another one.
    """

    matrix: sp.csr_matrix
    time: np.ndarray | None
    n_duplicates: int


def check_rule(duplicates: str) -> None:
    """Check the name of a rule.

    Raises:
        PlatewiseError: It is none of ``"last"``, ``"mean"``, ``"error"``.
    """
    if duplicates not in get_args(Duplicates):
        raise PlatewiseError(f'Expected duplicates="last", "mean" or "error", got {duplicates!r}. Choose one.')


def assemble(entries: Entries, shape: tuple[int, int], duplicates: Duplicates | str = "last") -> Assembled:
    """Sort entries into a CSR matrix and resolve duplicates.

    Memory: 24 bytes a rating beside the entries at the most; every array is let go of as the next is made.

    Args:
        entries: In reading order; emptied.
        shape: (n_users, n_items).
        duplicates: ``"last"`` keeps the rating of the latest timestamp (of equal ones, or without any, the
            one read last), ``"mean"`` their mean under the latest timestamp, ``"error"`` refuses.

    Raises:
        PlatewiseError: There are duplicates and the rule is ``"error"``.
    """
    check_rule(duplicates)
    ordered = _Ordered(entries, shape[1])
    n_duplicates = ordered.count_duplicates()
    if n_duplicates and duplicates == "error":
        raise PlatewiseError(
            f"Expected each user and item once, got {n_duplicates} duplicate ratings. "
            'Say duplicates="last" or "mean" (--duplicates).'
        )
    if n_duplicates:
        ordered.merge(mean=duplicates == "mean")
    return Assembled(ordered.to_csr(shape), ordered.time, n_duplicates)


class _Ordered:
    """Entries sorted by user, then item, then reading order; takes the arrays of ``entries`` over."""

    def __init__(self, entries: Entries, n_cols: int) -> None:
        self.key = entries.row.astype(np.int64)
        self.key *= n_cols
        self.key += entries.col
        self.value, self.time = entries.value, entries.time
        entries.row = entries.col = entries.value = np.empty(0, np.int32)
        entries.time = None
        if not np.all(self.key[1:] > self.key[:-1]):
            self._pick(np.argsort(self.key, kind="stable"))

    def _pick(self, which: np.ndarray) -> None:
        # One array after the other: never two copies of more than one of them.
        self.key = self.key[which]
        self.value = self.value[which]
        if self.time is not None:
            self.time = self.time[which]

    def count_duplicates(self) -> int:
        return int(np.count_nonzero(self.key[1:] == self.key[:-1]))

    def merge(self, *, mean: bool) -> None:
        """One entry per user and item: the last by time, or the mean under the latest time."""
        again = self.key[1:] == self.key[:-1]
        if self.time is not None:
            _sort_groups_by_time(self.key, self.value, self.time, again)
        last = np.append(~again, True)
        means = _group_means(self.value, np.insert(~again, 0, True)) if mean else None
        self._pick(last)
        if means is not None:
            self.value = means

    def to_csr(self, shape: tuple[int, int]) -> sp.csr_matrix:
        """The matrix; the keys become its column indices."""
        n_rows, n_cols = shape
        index = np.int32 if max(len(self.key), n_cols) < 2**31 else np.int64
        starts = np.arange(n_rows + 1, dtype=np.int64) * n_cols
        indptr: Any = np.searchsorted(self.key, starts).astype(index)
        self.key %= n_cols
        self.key = self.key.astype(index)
        matrix: Any = sp.csr_matrix((self.value, self.key, indptr), shape=shape, copy=False)
        matrix.has_canonical_format = True
        return matrix


def _group_means(value: np.ndarray, starts: np.ndarray) -> np.ndarray:
    first = np.flatnonzero(starts)
    sums = np.add.reduceat(value, first, dtype=np.float64)
    return (sums / np.diff(first, append=len(value))).astype(np.float32)


def _sort_groups_by_time(key: np.ndarray, value: np.ndarray, time: np.ndarray, again: np.ndarray) -> None:
    """Within each group of duplicates, in place; equal times keep their reading order."""
    grouped = np.flatnonzero(np.append(again, False) | np.insert(again, 0, False))
    order = grouped[np.lexsort((time[grouped], key[grouped]))]
    value[grouped], time[grouped] = value[order], time[order]
