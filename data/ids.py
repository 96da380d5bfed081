"""Ids as the user wrote them, and the strings that AnnData knows them by.

AnnData's names are strings. An integer id is converted explicitly, the original kind is recorded beside
the names, and every read-out gives the user's own ids back.
"""

import numbers
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from .errors import PlatewiseError

IdKind = Literal["int", "str"]

_INTEGER = re.compile(r"(0|-?[1-9]\d{0,17})(\.0+)?")


def as_name(id: object) -> str:
    """The name of one id: ``42``, ``np.int64(42)``, ``"42"`` and ``42.0`` are all ``"42"``.

    Raises:
        PlatewiseError: The id is neither text nor a number, or is missing.
    """
    if isinstance(id, str):
        return id
    if isinstance(id, numbers.Integral) and not isinstance(id, bool):
        return str(int(id))
    if isinstance(id, numbers.Real) and not isinstance(id, bool) and np.isfinite(float(id)):
        value = float(id)
        return str(int(value)) if value.is_integer() else str(value)
    raise PlatewiseError(f"Expected an id that is an integer or text, got {id!r}. Drop or convert such ids.")


def original_ids(names: Iterable[str], kind: IdKind) -> np.ndarray:
    """The user's own ids behind names.

    Args:
        names: Names, as in ``adata.obs_names``.
        kind: ``"int"`` or ``"str"``, as recorded in ``adata.uns["platewise"]``.

    Returns:
        An int64 array, or an object array of str, of the same length.
    """
    texts = np.array(list(names), dtype=object)
    return texts.astype(np.int64) if kind == "int" else texts


def name_ids(ids: Iterable[object], of: str = "ids") -> tuple[np.ndarray, IdKind]:
    """Names for a sequence of ids, and the kind of ids they were.

    Args:
        ids: Integers (numbers that are whole count as such) or text, not both.
        of: What the ids are of, for the error.

    Returns:
        An object array of str, and the kind.

    Raises:
        PlatewiseError: Integers and text are mixed, or an id is missing or fractional.
    """
    values = list(ids)
    kinds = {_kind_of(value, of) for value in pd.unique(np.array([type(v) for v in values], dtype=object))}
    if len(kinds) > 1:
        raise mixed_ids(of)
    names = np.array([as_name(value) for value in values], dtype=object)
    if "int" in kinds and any("." in name for name in names):
        raise fractional_ids(of)
    return names, ("int" if "int" in kinds else "str")


def _kind_of(type_: type, of: str) -> IdKind:
    if issubclass(type_, str):
        return "str"
    if issubclass(type_, numbers.Real | np.number) and not issubclass(type_, bool | np.bool_):
        return "int"
    raise PlatewiseError(f"Expected {of} that are integers or text, got {type_.__name__}. Convert them first.")


def mixed_ids(of: str) -> PlatewiseError:
    """The error for integers and text in one column of ids."""
    return PlatewiseError(
        f"Expected {of} of one type, got integers and text mixed. Convert the column, e.g. with astype(str)."
    )


def fractional_ids(of: str) -> PlatewiseError:
    """The error for numbers that are no whole numbers in a column of ids."""
    return PlatewiseError(f"Expected {of} that are integers or text, got fractional numbers. Is it the right column?")


class Codebook:
    """Consecutive codes for ids that arrive in batches; memory grows with distinct ids only.

    Args:
        of: What the ids are of ("users"), for errors.
        from_text: Whether the ids were read from a text file, where ``42`` may be meant as an integer:
            they are integers if every one of them is written as one.
    """

    def __init__(self, of: str, *, from_text: bool) -> None:
        self._of = of
        self._from_text = from_text
        self._codes: dict[object, int] = {}
        self._kinds: set[IdKind] = set()

    def __len__(self) -> int:
        return len(self._codes)

    def encode(self, column: pa.Array) -> np.ndarray:
        """Codes (int32, one per entry) of a column; ids not seen before get the next free codes."""
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        if not isinstance(column, pa.DictionaryArray):
            column = column.dictionary_encode()
        self._kinds.add(self._kind(column.dictionary.type))
        if len(self._kinds) > 1:
            raise mixed_ids(self._of)
        indices = column.indices.to_numpy(zero_copy_only=False)
        # A category that no row uses is nobody's id.
        used = np.flatnonzero(np.bincount(indices, minlength=len(column.dictionary)))
        codes = self._codes
        known = np.empty(len(column.dictionary), dtype=np.int32)
        known[used] = [codes.setdefault(value, len(codes)) for value in column.dictionary.take(used).to_pylist()]
        return known[indices]

    def _kind(self, type_: pa.DataType) -> IdKind:
        if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
            return "str"
        if pa.types.is_integer(type_) or pa.types.is_floating(type_):
            return "int"
        raise PlatewiseError(f"Expected {self._of} that are integers or text, got {type_}. Convert them first.")

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Sorted ids, and where each code went.

        Returns:
            ids: int64 sorted numerically, or object (str) in sorted order.
            position: int32, one per code: the index of its id in ``ids``.
        """
        values = self._values()
        ids, position = np.unique(values, return_inverse=True)
        return ids, position.astype(np.int32).ravel()

    def _values(self) -> np.ndarray:
        keys: Sequence[object] = list(self._codes)
        if "int" in self._kinds:
            return self._integers(keys)
        texts = [str(key).strip() for key in keys] if self._from_text else [str(key) for key in keys]
        if self._from_text and all(_INTEGER.fullmatch(text) for text in texts):
            return np.array([int(text.split(".")[0]) for text in texts], dtype=np.int64)
        return np.array(texts, dtype=object)

    def _integers(self, keys: Sequence[object]) -> np.ndarray:
        numbers_ = np.array(keys)
        if numbers_.dtype.kind == "f" and not np.all(numbers_ == np.floor(numbers_)):
            raise fractional_ids(self._of)
        return numbers_.astype(np.int64)
