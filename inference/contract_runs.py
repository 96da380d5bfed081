"""Runs of a model and a guide on a batch, for the check of the contract: traces, with the lines of their sites.

The first runs are those that a fit has always begun with; whatever else the check runs leaves the generators of random
numbers and the modules' buffers (the averages of batch normalisation) as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import pyro
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.program_lines import ProgramLines
from ..data.sites import latent_sites, observed_sites, plate_of
from .contract_faults import bad_parameter, explained
from .device import own_generators

TRIES = 3  # draws that must all give bad parameters: one may be far out


class Run(NamedTuple):
    """One run of a program: its trace, the lines of its sites and plates, and the batch."""

    trace: Trace
    lines: ProgramLines
    batch: RowBatch

    @property
    def latents(self) -> dict[str, Any]:
        """Sites that are not observed."""
        return latent_sites(self.trace)

    @property
    def observed(self) -> dict[str, Any]:
        """Sites that are observed."""
        return observed_sites(self.trace)

    def plate_of(self, name: str) -> str:
        """Whose plate a site stands in."""
        return plate_of(self.trace.nodes[name], self.trace, self.batch)


def run(program: Any, batch: RowBatch) -> Run:
    """Run a program once.

    Raises:
        PlatewiseError: In place of an error that is one of the contract's; others are let through.
    """
    lines = ProgramLines()
    try:
        with lines:
            trace = poutine.trace(program).get_trace(batch)
    except (ValueError, RuntimeError, IndexError) as error:
        if (told := explained(error, batch)) is not None:
            raise told from error
        raise
    return Run(trace, lines, batch)


def require_parameters(model: Any, guide: Any, batch: RowBatch) -> None:
    """Check that distributions have parameters that they can have, at draws from the guide.

    Raises:
        PlatewiseError: If they have others every time.
    """
    told = None
    with undisturbed(model, guide, batch):
        for _ in range(TRIES):
            told = _validated(model, guide, batch)
            if told is None:
                return
    if told is not None:
        raise told


def _validated(model: Any, guide: Any, batch: RowBatch) -> PlatewiseError | None:
    try:
        with pyro.validation_enabled(True):
            q = poutine.trace(guide).get_trace(batch)
            poutine.trace(poutine.replay(model, q)).get_trace(batch)
    except Exception as error:  # what else validation finds may be meant, or is raised by the run without it
        return bad_parameter(error)
    return None


def run_on_fewer_rows(model: Any, guide: Any, batch: RowBatch) -> Run | None:
    """A run of the model on some of a batch's rows: what belongs to rows or entries changes size with them.

    Returns:
        None where there are too few rows (batch normalisation wants two), or the model cannot be run on them.

    Raises:
        PlatewiseError: If the model breaks off on the contract's account.
    """
    if len(batch.rows) < 3:
        return None
    with undisturbed(model, guide, batch):
        try:
            return run(model, fewer_rows(batch))
        except PlatewiseError:
            raise
        except Exception:  # a program may have its reasons to want the batch that it got
            return None


def fewer_rows(batch: RowBatch) -> RowBatch:
    """The half of a batch's rows that is furthest down the matrix: global indices are no places in such a batch."""
    keep = batch.rows.argsort()[-max(len(batch.rows) // 2, 2) :].sort().values
    mask = torch.zeros_like(batch.rows, dtype=torch.bool).index_fill(0, keep, True)
    entries = mask[batch.row]
    crow = torch.nn.functional.pad(batch.crow.diff()[keep].cumsum(0), (1, 0))
    about = {name: x[keep] for name, x in batch.covariates.items()}
    return replace(
        batch, rows=batch.rows[keep], crow=crow, col=batch.col[entries], value=batch.value[entries], covariates=about
    )


@contextmanager
def undisturbed(model: Any, guide: Any, batch: RowBatch) -> Iterator[None]:
    """Put generators and buffers back after a block."""
    modules = [m for m in (model, guide) if isinstance(m, torch.nn.Module)]
    before: list[Mapping[str, Tensor]] = [{n: x.clone() for n, x in m.named_buffers()} for m in modules]
    with own_generators(batch.value.device):
        try:
            yield
        finally:
            for module, buffers in zip(modules, before, strict=True):
                for name, x in module.named_buffers():
                    if name in buffers and not torch.equal(x, buffers[name]):  # a write would spoil a caller's graph
                        x.copy_(buffers[name])
