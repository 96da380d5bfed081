"""Tables that know their types: Parquet files and pandas DataFrames, streamed as record batches."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .columns import Columns, Wanted, choose_columns
from .errors import PlatewiseError
from .places import DAMAGED, File

_ROWS = 1 << 20


@runtime_checkable
class Table(Protocol):
    """Ratings as a stream of record batches.

    Attributes:
        label: What to call it in an error.
        from_text: Whether ids are text that may be meant as integers.
        columns: The columns chosen.
    """

    label: str
    from_text: bool
    columns: Columns

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Batches with the columns user, item, rating and, where there is one, timestamp."""
        ...

    def where(self, row: int) -> str:
        """The place of a row (0 the first), for an error."""
        ...


class ParquetTable:
    """A Parquet file of ratings.

    Args:
        source: The file, stored plain.
        wanted: The columns asked for.

    Raises:
        PlatewiseError: It is damaged, has no rows, or not the columns asked for.
    """

    from_text = False

    def __init__(self, source: File, wanted: Wanted) -> None:
        self.label = source.label
        self._source = source
        with self._opened() as file:
            names, n_rows = file.schema_arrow.names, file.metadata.num_rows
        self.columns: Columns = choose_columns(names, wanted, source.label)
        if n_rows == 0:
            raise PlatewiseError(f"Expected ratings, got a table without rows: {source.label}. Check how it was made.")

    @contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        try:
            with self._source.open() as stream:
                yield pq.ParquetFile(stream)
        except (pa.ArrowException, *DAMAGED) as error:
            raise PlatewiseError(
                f"Expected a whole Parquet file, got a damaged one: {self.label}. Write it again."
            ) from error

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Batches of the file, under the names of the roles."""
        roles = self.columns.roles()
        with self._opened() as file:
            for batch in file.iter_batches(_ROWS, columns=list(roles.values())):
                columns = [batch.column(name) for name in roles.values()]
                yield pa.RecordBatch.from_arrays(columns, names=list(roles))

    def where(self, row: int) -> str:
        """The row, counted from 1."""
        return f"row {row + 1}"


class FrameTable:
    """A DataFrame of ratings.

    Args:
        frame: The table; its index is not used.
        wanted: The columns asked for.

    Raises:
        PlatewiseError: It has no rows, or not the columns asked for.
    """

    from_text = False

    def __init__(self, frame: pd.DataFrame, wanted: Wanted) -> None:
        self.label = "the DataFrame"
        self._frame = frame.set_axis([str(column) for column in frame.columns], axis=1)
        self.columns: Columns = choose_columns(list(self._frame.columns), wanted, self.label)
        if len(frame) == 0:
            raise PlatewiseError("Expected ratings, got a DataFrame without rows. Check how it was made.")

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Slices of the frame, under the names of the roles."""
        roles = self.columns.roles()
        for start in range(0, len(self._frame), _ROWS):
            part = self._frame.iloc[start : start + _ROWS]
            arrays = [self._array(part[column], role) for role, column in roles.items()]
            yield pa.RecordBatch.from_arrays(arrays, names=list(roles))

    def _array(self, column: pd.Series, role: str) -> pa.Array:
        try:
            array = pa.array(column, from_pandas=True)
        except (pa.ArrowException, TypeError) as error:
            raise PlatewiseError(
                f"Expected {role}s of one type, got values of several in column {column.name!r}. "
                "Convert the column, e.g. with astype(str)."
            ) from error
        return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array

    def where(self, row: int) -> str:
        """The position of the row, counted from 0 as ``iloc`` does."""
        return f"row {row} (iloc)"
