"""Text files of ratings (CSV, TSV, ``::``), streamed through pyarrow in blocks of a few megabytes.

Ids are read as a dictionary per block and never as one string per rating, so that memory grows with the
result only. Where pyarrow gives up, the file is gone through once more, slowly, to name the line.
"""

import io
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from .columns import Columns, Wanted, choose_columns
from .errors import PlatewiseError
from .layout import NUMBER, sniff, unreadable
from .places import DAMAGED, File
from .separator import UNIT_SEPARATOR, SingleByteSeparator

_BLOCK = 4 << 20
_NO_RATING = ("", "na", "nan", "null", "n/a", "#n/a", "none")


class TextTable:
    """A text file of ratings as a stream of record batches.

    Args:
        source: The file.
        wanted: The columns asked for.

    Raises:
        PlatewiseError: It has no ratings, or not the columns asked for.
    """

    from_text = True

    def __init__(self, source: File, wanted: Wanted) -> None:
        self.label = source.label
        self._source = source
        self._layout = sniff(source, wanted)
        self.columns: Columns = choose_columns(self._layout.names, wanted, source.label)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Record batches with the columns user, item, rating and, where there is one, timestamp.

        Raises:
            PlatewiseError: A line has too few or too many fields, a rating or a timestamp is text.
        """
        roles = self.columns.roles()
        try:
            with self._source.open() as stream, self._reader(stream) as reader:
                for batch in reader:
                    columns = [batch.column(name) for name in roles.values()]
                    yield pa.RecordBatch.from_arrays(columns, names=list(roles))
        except (pa.ArrowException, *DAMAGED) as error:
            raise self._explain(error) from error

    def _reader(self, stream: Any) -> Any:
        layout = self._layout
        if layout.delimiter == "::":
            stream = pa.PythonFile(io.BufferedReader(SingleByteSeparator(stream)), mode="r")
        separator = UNIT_SEPARATOR if layout.delimiter == "::" else layout.delimiter
        return pa_csv.open_csv(
            stream,
            read_options=pa_csv.ReadOptions(column_names=list(layout.names), skip_rows=layout.skip, block_size=_BLOCK),
            parse_options=pa_csv.ParseOptions(
                delimiter=separator, quote_char=False if layout.delimiter == "::" else '"'
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types=self._types(), include_columns=list(self.columns.roles().values())
            ),
        )

    def _types(self) -> dict[str, pa.DataType]:
        ids = pa.dictionary(pa.int32(), pa.string())
        types = {self.columns.user: ids, self.columns.item: ids, self.columns.rating: pa.float64()}
        if self.columns.timestamp is not None:
            types[self.columns.timestamp] = _time_type(self._sample(self.columns.timestamp))
        return types

    def _sample(self, column: str) -> str:
        position = self._layout.names.index(column)
        fields = self._layout.sample or ()
        return fields[position].strip() if position < len(fields) else ""

    def where(self, row: int) -> str:
        """The place of a row of data (0 the first), for an error: its line number."""
        for seen, (number, _) in enumerate(self._data_lines()):
            if seen == row:
                return f"line {number}"
        return f"row {row + 1}"

    def _data_lines(self) -> Iterator[tuple[int, str]]:
        with self._source.text(strict=False) as text:
            for number, line in enumerate(text, start=1):
                if number > self._layout.skip and line.strip("\r\n"):
                    yield number, line

    def _explain(self, error: Exception) -> PlatewiseError:
        if "UTF8" in str(error) or not isinstance(error, pa.ArrowInvalid):
            return unreadable(self._source, error)
        for number, line in self._data_lines():
            problem = self._problem(self._layout.fields(line))
            if problem is not None:
                return PlatewiseError(f"{problem[0]} in line {number} of {self.label}. {problem[1]}")
        return unreadable(self._source, error)

    def _problem(self, fields: list[str]) -> tuple[str, str] | None:
        names = self._layout.names
        if len(fields) != len(names):
            return f"Expected {len(names)} fields, got {len(fields)}", "Was the file cut short?"
        rating = fields[names.index(self.columns.rating)].strip()
        if rating.lower() not in _NO_RATING and not _is_float(rating):
            return f"Expected a rating that is a number, got {rating!r}", "Correct it, or name the column."
        if self.columns.timestamp is not None:
            time = fields[names.index(self.columns.timestamp)].strip()
            if not _fits(time, _time_type(self._sample(self.columns.timestamp))):
                return (
                    f"Expected a timestamp like the first one, got {time!r}",
                    "Correct it, or read without (timestamp=False).",
                )
        return None


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _time_type(sample: str) -> pa.DataType:
    if re.fullmatch(r"-?\d+", sample):
        return pa.int64()
    if NUMBER.fullmatch(sample):
        return pa.float64()
    zoned = re.search(r"\d[T ].*(Z|[-+]\d\d:?(\d\d)?)$", sample)
    return pa.timestamp("us", tz="UTC" if zoned else None)


def _fits(text: str, type_: pa.DataType) -> bool:
    try:
        pa.array([text]).cast(type_)
    except pa.ArrowException:
        return False
    return True
