"""The bar a person watches during a fit: bound, speed and time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Bar:
    """A progress bar over steps."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def advance(self, step: int) -> None:
        """Show how far the fit is."""
        self._progress.update(self._task, completed=step)

    def say(self, what: str) -> None:
        """Show what the fit is at."""
        self._progress.update(self._task, description=what)

    def report(self, elbo: float, entries_per_second: float) -> None:
        """Show the bound of the last epoch (nats per entry) and the speed."""
        text = f"ELBO {elbo:.4f} per entry, {entries_per_second / 1e6:.2f} M entries/s"
        self._progress.update(self._task, status=text)

    def report_total(self, elbo: float) -> None:
        """Show the bound of the last epoch (nats), where there are no entries."""
        self._progress.update(self._task, status=f"ELBO {elbo:.4f}, no entries")

    def report_rows(self, elbo: float, rows_per_second: float) -> None:
        """Show the bound of the last epoch (nats per row) and the speed."""
        self._progress.update(self._task, status=f"ELBO {elbo:,.2f} per row, {rows_per_second:,.0f} rows/s")


@contextmanager
def progress_bar(what: str, steps: int | None, done: int = 0, shown: bool = True) -> Iterator[Bar]:
    """A bar on standard error for the time of a fit; `steps` is None where nobody knows how many there will be."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.fields[most]} steps"),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown, refresh_per_second=4) as progress:
        yield Bar(progress, progress.add_task(what, total=steps, completed=done, status="", most=steps or "?"))
