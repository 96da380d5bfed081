"""How a text file of ratings is laid out: its delimiter, whether it has a header, its columns."""

import csv
import re
from dataclasses import dataclass

from .columns import Wanted
from .errors import PlatewiseError
from .places import DAMAGED, File

_DELIMITERS = ("::", "\t", ",", ";", "|")
_POSITIONAL = ("user", "item", "rating", "timestamp")
NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")


@dataclass(frozen=True)
class Layout:
    """How a text file is laid out.

    Attributes:
        delimiter: Between fields; may be ``"::"``.
        names: Of the columns; made up where there is no header.
        header: Whether the first line that is not blank holds the names.
        skip: Lines before the data, blank ones included.
        sample: Fields of the first line of data, or None if there is none.
    """

    delimiter: str
    names: tuple[str, ...]
    header: bool
    skip: int
    sample: tuple[str, ...] | None

    def fields(self, line: str) -> list[str]:
        """Split one line."""
        if self.delimiter == "::":
            return line.rstrip("\r\n").split("::")
        return next(csv.reader([line], delimiter=self.delimiter), [])


def sniff(source: File, wanted: Wanted) -> Layout:
    """Find out delimiter and header from the first lines of a file.

    A first line without any number is a header, and so is one that holds a name the caller asked for.

    Raises:
        PlatewiseError: The file holds a header only, nothing but blank lines, or no text.
    """
    lines = _first_lines(source)
    if not lines:
        raise PlatewiseError(f"Expected ratings, got a file of blank lines: {source.label}. Was it written whole?")
    delimiter = _delimiter([line for _, line in lines])
    split = Layout(delimiter, (), False, 0, None).fields
    first = [field.strip() for field in split(lines[0][1])]
    header = not any(map(NUMBER.fullmatch, first)) or bool(set(wanted.names()) & set(first))
    if header and len(lines) == 1:
        raise PlatewiseError(f"Expected ratings, got a header only: {source.label}. Was it written whole?")
    sample = tuple(split(lines[1 if header else 0][1]))
    names = _unique(first) if header else _made_up(len(first))
    return Layout(delimiter, names, header, lines[0][0] + 1 if header else 0, sample)


def _first_lines(source: File, n: int = 5) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    try:
        with source.text() as text:
            for number, line in enumerate(text):
                if line.strip():
                    found.append((number, line))
                if len(found) == n:
                    break
    except (UnicodeDecodeError, *DAMAGED) as error:
        raise unreadable(source, error) from error
    return found


def unreadable(source: File, error: Exception) -> PlatewiseError:
    """The error for a file whose bytes cannot be read as text."""
    if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
        return PlatewiseError(f"Expected text in UTF-8, got other bytes: {source.label}. Convert the file first.")
    reason = " ".join(str(error).split())
    return PlatewiseError(f"Expected a whole file, got {reason!r}: {source.label}. Make or download it again.")


def _delimiter(lines: list[str]) -> str:
    """The first delimiter that splits every line in at least three; failing that, the one used most."""
    for delimiter in _DELIMITERS:
        if all(line.count(delimiter) >= 2 for line in lines):
            return delimiter
    return max(_DELIMITERS, key=lambda delimiter: min(line.count(delimiter) for line in lines))


def _unique(names: list[str]) -> tuple[str, ...]:
    seen: dict[str, int] = {}
    for position, name in enumerate(names):
        seen.setdefault(name or f"column {position + 1}", position)
    return tuple(name if seen.get(name) == i else f"column {i + 1}" for i, name in enumerate(names))


def _made_up(n: int) -> tuple[str, ...]:
    return tuple(_POSITIONAL[i] if i < len(_POSITIONAL) else f"column {i + 1}" for i in range(n))
