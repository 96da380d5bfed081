"""Tables of the benchmarks: once for the eye, once as markdown to be copied into a page."""

from rich.console import Console
from rich.table import Table


def show(title: str, headings: list[str], rows: list[list[str]]) -> None:
    """Print one table for the eye; the first column is never broken over lines."""
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, no_wrap=heading == headings[0])
    for cells in rows:
        table.add_row(*cells)
    console = Console()
    console.width = max(console.width, 150)
    console.print(table)


def show_markdown(headings: list[str], rows: list[list[str]]) -> None:
    """Print one table as markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    print("\n" + "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n")


def cell(value: float | None, form: str) -> str:
    """A figure, or `none` where there is none."""
    return "none" if value is None else format(value, form)
