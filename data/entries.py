"""From a stream of record batches to arrays of codes, ratings and times: 20 bytes a rating, no strings."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from .errors import PlatewiseError
from .ids import Codebook
from .tables import Table

_PIECE = 1 << 20


@dataclass
class Entries:
    """Ratings in the order they were read.

    Attributes:
        row: Index of the user (n_entries,), int32.
        col: Index of the item (n_entries,), int32.
        value: The rating (n_entries,), float32.
        time: Seconds since 1970 (n_entries,), int64, or None.
    """

    row: np.ndarray
    col: np.ndarray
    value: np.ndarray
    time: np.ndarray | None

    def __len__(self) -> int:
        return len(self.value)


def collect(table: Table) -> tuple[Entries, np.ndarray, np.ndarray]:
    """Read a table.

    Returns:
        The entries, the ids of the users and the ids of the items (sorted: integers numerically).

    Raises:
        PlatewiseError: There is no rating, an id is missing, or a rating is text, NaN or infinite.
    """
    reading = _Reading(table)
    for batch in table.batches():
        reading.add(batch)
    return reading.finish()


@dataclass
class _Reading:
    table: Table
    arrays: dict[str, "_Growing"] = field(default_factory=dict)
    n_rows: int = 0
    n_bad: int = 0
    first_bad: int = -1

    def __post_init__(self) -> None:
        self.users = Codebook("user ids", from_text=self.table.from_text)
        self.items = Codebook("item ids", from_text=self.table.from_text)

    def add(self, batch: pa.RecordBatch) -> None:
        """Take in one batch."""
        self._append("row", self.users.encode(self._complete(batch, "user")))
        self._append("col", self.items.encode(self._complete(batch, "item")))
        self._append("value", self._ratings(batch.column("rating")))
        if "timestamp" in batch.schema.names:
            self._append("time", self._seconds(self._complete(batch, "timestamp")))
        self.n_rows += batch.num_rows

    def _append(self, name: str, chunk: np.ndarray) -> None:
        self.arrays.setdefault(name, _Growing(chunk.dtype)).append(chunk)

    def _complete(self, batch: pa.RecordBatch, role: str) -> pa.Array:
        """The column, none of whose values may be missing (an empty field, in a text file)."""
        column = batch.column(role)
        missing = _missing(column)
        if missing is not None:
            raise PlatewiseError(
                f"Expected the {role} of every row, got none in {self.table.where(self.n_rows + missing)} "
                f"of {self.table.label}. Drop such rows" + self._or_without(role)
            )
        return column

    @staticmethod
    def _or_without(role: str) -> str:
        return ", or read without (timestamp=False)." if role == "timestamp" else "."

    def _ratings(self, column: pa.Array) -> np.ndarray:
        with np.errstate(over="ignore"):
            values = self._numbers(column).astype(np.float32)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            self.first_bad = self.n_rows + int(bad[0]) if self.n_bad == 0 else self.first_bad
            self.n_bad += len(bad)
        return values

    def _numbers(self, column: pa.Array) -> np.ndarray:
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        if _is_text(column.type):
            found = next((i for i, value in enumerate(column) if value.is_valid), 0)
            raise PlatewiseError(
                f"Expected ratings that are numbers, got {column[found].as_py()!r} in "
                f"{self.table.where(self.n_rows + found)} of {self.table.label}. Convert or name the column."
            )
        try:
            return pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowException as error:
            raise PlatewiseError(
                f"Expected ratings that are numbers, got {column.type} in {self.table.label}. Name them."
            ) from error

    def _seconds(self, column: pa.Array) -> np.ndarray:
        if isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        try:
            if _is_text(column.type) or pa.types.is_date(column.type):
                column = pc.cast(column, pa.timestamp("us"))
            if pa.types.is_timestamp(column.type):
                column = pc.cast(pc.cast(column, pa.timestamp("s", tz=column.type.tz), safe=False), pa.int64())
            return pc.cast(column, pa.int64(), safe=False).to_numpy(zero_copy_only=False)
        except pa.ArrowException as error:
            raise PlatewiseError(
                f"Expected timestamps that are numbers or dates, got {column.type} in {self.table.label}. "
                "Read without (timestamp=False)."
            ) from error

    def finish(self) -> tuple[Entries, np.ndarray, np.ndarray]:
        """All batches as arrays, codes in the order of the sorted ids."""
        if self.n_rows == 0:
            raise PlatewiseError(f"Expected ratings, got none: {self.table.label}. Was it written whole?")
        if self.n_bad:
            raise PlatewiseError(
                f"Expected finite ratings, got {self.n_bad} that are NaN, empty or infinite, the first in "
                f"{self.table.where(self.first_bad)} of {self.table.label}. Correct or drop them."
            )
        user_ids, row_of = self.users.finish()
        item_ids, col_of = self.items.finish()
        arrays = {name: array.finish() for name, array in self.arrays.items()}
        _translate(arrays["row"], row_of)
        _translate(arrays["col"], col_of)
        return Entries(arrays["row"], arrays["col"], arrays["value"], arrays.get("time")), user_ids, item_ids


class _Growing:
    """An array that grows in place: one large block, which the allocator moves without a second copy."""

    def __init__(self, dtype: np.dtype) -> None:
        self._buffer = np.empty(1 << 16, dtype=dtype)
        self._n = 0

    def append(self, chunk: np.ndarray) -> None:
        n = self._n + len(chunk)
        if n > len(self._buffer):
            self._buffer.resize(n + n // 8, refcheck=False)
        self._buffer[self._n : n] = chunk
        self._n = n

    def finish(self) -> np.ndarray:
        self._buffer.resize(self._n, refcheck=False)
        return self._buffer


def _translate(codes: np.ndarray, position: np.ndarray) -> None:
    """Replace codes by positions, in place and in pieces."""
    for start in range(0, len(codes), _PIECE):
        piece = codes[start : start + _PIECE]
        piece[:] = position[piece]


def _missing(column: pa.Array) -> int | None:
    """Position of the first null or empty text."""
    if column.null_count:
        return int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
    if isinstance(column, pa.DictionaryArray) and _is_text(column.dictionary.type):
        blank = pc.equal(pc.utf8_trim_whitespace(column.dictionary), "").to_numpy(zero_copy_only=False)
        if blank.any():
            hit = np.flatnonzero(blank.astype(bool)[column.indices.to_numpy(zero_copy_only=False)])
            return int(hit[0]) if len(hit) else None
    return None


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def entries_of(matrix: sp.coo_matrix) -> Entries:
    """The stored entries of a sparse matrix, zeros and duplicates included.

    Raises:
        PlatewiseError: A rating is NaN or infinite.
    """
    values = matrix.data.astype(np.float32)
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise PlatewiseError(f"Expected finite ratings, got {bad} that are NaN or infinite. Drop them.")
    return Entries(matrix.row.astype(np.int32), matrix.col.astype(np.int32), values, None)
