"""The bar a person watches during a download: bytes, speed and time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


class ByteBar:
    """A progress bar as pooch drives one: it sets `total`, calls `update` by chunk, and fills the bar at the end.

    Attributes:
        total: Bytes to come; 0 if the server does not say.
    """

    def __init__(self, progress: Progress, what: str) -> None:
        self.total = 0
        self._progress = progress
        self._task = progress.add_task(what, total=None, visible=False)

    def update(self, n_bytes: int) -> None:
        """Add bytes that have come."""
        self._progress.update(self._task, advance=n_bytes, total=self.total or None, visible=True)

    def reset(self) -> None:
        """Go back to none."""
        self._progress.update(self._task, completed=0)

    def close(self) -> None:
        """Show the last state."""
        self._progress.refresh()


@contextmanager
def byte_bar(what: str, *, shown: bool = True) -> Iterator[ByteBar]:
    """A bar on standard error for the time of a download; it appears once there is something to download."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), disable=not shown, refresh_per_second=4) as progress:
        yield ByteBar(progress, what)
