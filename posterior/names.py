"""Ids that a person asks about, found by name among the rows or columns of a fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from ..data.errors import PlatewiseError
from ..data.ids import IdKind, as_name, original_ids
from ..data.source import COUNT
from ..inference.fitted import Fitted

Side = Literal["obs", "var"]


@dataclass(frozen=True)
class Aligned:
    """Names against those of one side of a fit.

    Attributes:
        code: Position of each name in the fit; `n + k` for the k-th distinct name that the fit does not know.
        n: Number of names in the fit.
        new: The names that the fit does not know, sorted.
    """

    code: Int[np.ndarray, " k"]
    n: int
    new: list[str]

    @property
    def known(self) -> Bool[np.ndarray, " k"]:
        """Whether the fit knows each name."""
        return self.code < self.n

    def take(self, at: np.ndarray) -> Aligned:
        """The same names, picked or repeated."""
        return Aligned(self.code[at], self.n, self.new)


def names_of(ids: object) -> np.ndarray:
    """Names (object array of str) of one id or of many; `42`, `"42"` and `np.int64(42)` are the same.

    Raises:
        PlatewiseError: If an id is neither text nor a number, or is missing.
    """
    values: Any = [ids] if is_single(ids) else ids
    if not hasattr(values, "dtype"):
        values = pd.Series(list(values), dtype=object)
    codes, unique = pd.factorize(values, use_na_sentinel=False)
    return np.array([as_name(value) for value in unique], dtype=object)[codes]


def is_single(ids: object) -> bool:
    """Whether this is one id and not a sequence of them."""
    return isinstance(ids, str | bytes) or not isinstance(ids, Iterable)


def align_seen(names: Sequence[str] | np.ndarray | pd.Index, fitted: Fitted, side: Side) -> Aligned:
    """Find names among those that a fit saw entries of: one that was listed but had none is new to it.

    Where entries not stored are observed zeros, all that were listed were seen.
    """
    table: pd.DataFrame = getattr(fitted, side)
    unseen = (table[COUNT].to_numpy() == 0) & (fitted.meaning["unstored"] == "missing")
    return align(names, table.index, unseen=unseen)


def align(
    names: Sequence[str] | np.ndarray | pd.Index, index: pd.Index, unseen: Bool[np.ndarray, " n"] | None = None
) -> Aligned:
    """Find names among those of a fit; the others get codes beyond it, one for each distinct name."""
    texts = np.asarray(names, dtype=object)
    code = index.get_indexer(pd.Index(texts)).astype(np.int64)
    if unseen is not None and len(unseen):
        code[(code >= 0) & unseen[code]] = -1
    new, rank = np.unique(texts[code < 0], return_inverse=True)
    code[code < 0] = len(index) + rank
    return Aligned(code, len(index), new.tolist())


def require_known(ids: object, index: pd.Index, of: str) -> Int[np.ndarray, " k"]:
    """Positions of ids in a fit.

    Args:
        ids: One id or many.
        index: The fit's names.
        of: What they are, in the singular ("user"), for the error.

    Raises:
        PlatewiseError: If the fit does not know one of them.
    """
    aligned = align(names_of(ids), index)
    if aligned.new:
        raise PlatewiseError(
            f"Expected {of}s that the fit knows, got {aligned.new[0]!r}. Leave it out, or ask predict, which answers "
            "with the prior predictive."
        )
    return aligned.code


def as_asked(names: np.ndarray, kind: IdKind) -> np.ndarray:
    """Ids of the original type behind names; an unknown name that was never an integer stays text."""
    if kind == "str":
        return original_ids(names, kind)
    integer = np.array([_is_integer(name) for name in names], dtype=bool)
    if integer.all():
        return original_ids(names, kind)
    ids = np.array(names, dtype=object)
    ids[integer] = [int(name) for name in names[integer]]
    return ids


def _is_integer(name: str) -> bool:
    return name.removeprefix("-").isdecimal() and str(int(name)) == name
