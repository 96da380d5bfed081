"""Many draws of the latents of the same rows: an encoder reads the rows once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyro import poutine
from pyro.poutine.trace_struct import Trace

from ..data.batches import RowBatch
from ..guides import AmortizedGuide


def guide_draws(guide: Any, batch: RowBatch, n: int) -> Iterator[Trace]:
    """Traces of a guide on a batch, of independent draws; its parameters must not change between them.

    Args:
        guide: The guide; an amortised one runs its encoder once, and any other is run anew for each draw.
        batch: The rows.
        n: Number of draws.
    """
    program = poutine.trace(guide.encoded(batch) if isinstance(guide, AmortizedGuide) else lambda: guide(batch))
    for _ in range(n):
        yield program.get_trace()
