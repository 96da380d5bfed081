"""How results are shown: tables for people, JSON for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    import pandas as pd

MAX_SHOWN = 50  # lines of a table on a screen


def print_json(value: Any) -> None:
    """Print one JSON value; numbers that are not finite, which JSON lacks, become null."""
    typer.echo(as_json(value))


def as_json(value: Any) -> str:
    """One JSON value as text; numbers that are not finite, which JSON lacks, become null."""
    return json.dumps(_plain(value), allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(x) for x in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(title: str, header: Iterable[str], lines: Iterable[Iterable[str]]) -> None:
    """Print a table; what looks like a number is aligned to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [[str(cell) for cell in line] for line in lines]
    if title:
        typer.echo(title)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for k, name in enumerate(header):
        numeric = all(_is_number(row[k]) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(highlight=False).print(table)


def _is_number(cell: str) -> bool:
    return not cell or cell.replace("%", "").replace(",", "").replace("-", "").replace(".", "").strip().isdigit()


def show_frame(
    frame: pd.DataFrame, title: str, as_json: bool, output: Path | None, force: bool, hidden: Iterable[str] = ()
) -> None:
    """Show a table of results, and write it as CSV if there is a path; `hidden` columns are not for the screen.

    Raises:
        PlatewiseError: If the path exists and `force` is not set.
    """
    if output is not None:
        write_csv(frame, output, force)
    if as_json:
        print_json(frame.to_dict("records"))
        return
    shown = frame.drop(columns=list(hidden)).head(MAX_SHOWN)
    lines = ([_cell(x) for x in line] for line in shown.itertuples(index=False, name=None))
    print_table(title, shown.columns, lines)
    if len(shown) < len(frame):
        where = f"all are in {output}" if output else "write them all with -o FILE.csv"
        typer.echo(f"... and {len(frame) - len(shown):,} more; {where}")


def _cell(value: Any) -> str:
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}"
    return "" if value is None else str(value)


def write_csv(frame: pd.DataFrame, path: Path, force: bool) -> None:
    """Write a table as CSV, whole or not at all.

    Raises:
        PlatewiseError: If the path exists and `force` is not set.
    """
    from ..data.writing import whole_file

    with whole_file(path, force=force) as temporary:
        frame.to_csv(temporary, index=False)


def count(n: int, noun: str) -> str:
    """`1 user`, `6,040 users`."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
