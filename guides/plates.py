"""The plates of one run of a guide, opened around its sites as the model opens them."""

from __future__ import annotations

from contextlib import ExitStack

import pyro

from ..data.batches import RowBatch
from ..data.sites import Plate
from .row_table import SiteTable


class OpenPlates:
    """Plates by name, each made once, however many sites stand in it: a plate is a site too.

    Args:
        batch: The batch that the guide runs on.
    """

    def __init__(self, batch: RowBatch) -> None:
        self.batch = batch
        self._made: dict[str, pyro.plate] = {}

    def around(self, table: SiteTable) -> ExitStack:
        """The plates of a site, to be entered by `with`."""
        stack = ExitStack()
        for frame in table.frames:
            if frame[0] not in self._made:
                self._made[frame[0]] = _plate(table.plate, frame, self.batch)
            stack.enter_context(self._made[frame[0]])
        return stack


def _plate(kind: Plate, frame: tuple[str, int, int], batch: RowBatch) -> pyro.plate:
    name, size, dim = frame
    if kind == "rows":
        return batch.row_plate(name)
    return batch.col_plate(name) if kind == "cols" and dim == -1 else pyro.plate(name, size, dim=dim)
