"""Counts as a table of text (CSV, TSV): one row per cell, one column per gene, read in blocks of rows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .counts import Counts, checked_counts, numbered
from .errors import PlatewiseError
from .places import DAMAGED, File
from .tenx import GenesIn, require_content

_VALUES = 1 << 21  # numbers held densely at once
_NAME = "name"
_NAMES = ("", "cell", "cells", "cellid", "barcode", "barcodes", "gene", "genes", "geneid", "index", "id", "unnamed0")


@dataclass(frozen=True)
class _Layout:
    separator: str
    columns: list[str]  # names of the columns of numbers
    named: bool  # whether the first field of a row is its name


def read_count_table(path: Path, genes_in: GenesIn = "columns") -> Counts:
    """Counts in a table of text with a header, plain or compressed.

    The first field of a row is its name where the header says so (it is empty, or "cell", "barcode", "gene", ...),
    where the header is one field short, as R writes it, or where it is no number; else rows are called 0, 1, ...

    Args:
        path: The file, separated by tabs, commas or semicolons.
        genes_in: Whether genes are its columns or its rows.

    Raises:
        PlatewiseError: It is missing, damaged, has no rows, rows of other lengths than the header, fields that are no
            numbers, or these are no raw counts.
    """
    source = require_content(path)
    layout = _layout(source)
    names: list[str] = []
    blocks = []
    for chunk in _chunks(source, layout):
        names.extend(chunk.pop(_NAME).tolist() if layout.named else map(str, chunk.index))
        blocks.append(_block(chunk, names[-len(chunk) :], layout, source.label))
    x = sp.csr_matrix(sp.vstack(blocks, format="csr"))
    rows = pd.DataFrame(index=pd.Index(names, dtype=object)) if layout.named else numbered(len(names))
    cols = pd.DataFrame(index=pd.Index(layout.columns, dtype=object))
    if genes_in == "rows":
        x, rows, cols = sp.csr_matrix(x.T.tocsr()), cols, rows
    kind = "str" if layout.named else "int"
    kinds: dict[str, Any] = {"col_ids" if genes_in == "rows" else "row_ids": kind}
    return Counts(checked_counts(x, rows, cols, source.label), rows, cols, **kinds)


def _layout(source: File) -> _Layout:
    header, first = _two_lines(source)
    separator = max("\t,;", key=header.count)
    fields, values = (next(csv.reader([line], delimiter=separator)) for line in (header, first))
    fields = [field.strip() for field in fields]
    if len(values) == len(fields) + 1:
        return _Layout(separator, fields, True)
    if len(values) != len(fields) or len(fields) < 2:
        raise PlatewiseError(
            f"Expected a row of {len(fields)} fields under the header of {source.label}, got {len(values)}. "
            "Is it a table of cells by genes?"
        )
    plain = "".join(letter for letter in fields[0].lower() if letter.isalnum())
    named = plain in _NAMES or not _is_number(values[0])
    return _Layout(separator, fields[1:] if named else fields, named)


def _two_lines(source: File) -> tuple[str, str]:
    try:
        with source.text() as text:
            lines = [line.rstrip("\r\n") for line in (text.readline(), text.readline())]
    except (UnicodeDecodeError, *DAMAGED) as error:
        raise _unreadable(source, error) from error
    if not all(lines):
        raise PlatewiseError(f"Expected a header and rows of counts, got fewer lines: {source.label}. Is it whole?")
    return lines[0], lines[1]


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def _chunks(source: File, layout: _Layout) -> Iterator[pd.DataFrame]:
    """Blocks of rows; numbers as pandas finds them, the name of a row (if any) as text."""
    # Positions, for pandas would rename genes that share a name.
    fields = [_NAME] * layout.named + [str(k) for k in range(len(layout.columns))]
    try:
        with source.open() as stream:
            yield from pd.read_csv(
                stream,
                sep=layout.separator,
                header=None,
                skiprows=1,
                names=fields,
                index_col=False,
                dtype={_NAME: str} if layout.named else None,
                chunksize=max(_VALUES // len(fields), 1),
                keep_default_na=False,
                na_values={field: ["", "NA", "NaN", "nan"] for field in fields if field != _NAME},
                low_memory=False,
            )
    except (ValueError, *DAMAGED) as error:
        raise _unreadable(source, error) from error


def _block(chunk: pd.DataFrame, names: list[str], layout: _Layout, label: str) -> sp.csr_matrix:
    for position, dtype in enumerate(chunk.dtypes):
        if dtype.kind not in "iuf":
            texts = chunk.iloc[:, position].astype(str)
            row = int(pd.to_numeric(texts, errors="coerce").isna().to_numpy().argmax())
            raise PlatewiseError(
                f"Expected a number for {layout.columns[position]!r} in row {names[row]!r} of {label}, "
                f"got {texts.iloc[row]!r}. Leave columns that are no counts out."
            )
    return sp.csr_matrix(chunk.to_numpy(np.float32))


def _unreadable(source: File, error: Exception) -> PlatewiseError:
    reason = "other bytes than UTF-8" if isinstance(error, UnicodeDecodeError) else " ".join(str(error).split())
    return PlatewiseError(f"Expected a whole table of text, got {reason!r}: {source.label}. Make it again.")
