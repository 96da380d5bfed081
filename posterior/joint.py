"""Joint posterior draws of globals and of chosen rows and columns, with each row's log densities."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ..data.batches import RowBatch
from ..data.sites import Plate, deterministic_sites, latent_sites, observed_sites, plate_of
from .guide_draws import guide_draws
from .reader import Reader


@dataclass(frozen=True, eq=False)
class Variable:
    """Draws of one site.

    Attributes:
        plate: Whose plate it stands in.
        axis: The axis of that plate, from the right.
        values: The draws, (n_draws, ...).
    """

    plate: Plate
    axis: int
    values: np.ndarray


@dataclass(frozen=True)
class Joint:
    """Draws of several sites together.

    Attributes:
        variables: By site, latent and deterministic ones.
        log_p: Of each draw and row: log density of the row's latents and entries given everything else, (n_draws, b);
            None without training entries.
        log_q: Log density of the row's latents under the guide, (n_draws, b).
    """

    variables: dict[str, Variable]
    log_p: np.ndarray | None
    log_q: np.ndarray


def joint_draws(reader: Reader, rows: np.ndarray, cols: np.ndarray, n: int) -> Joint:
    """Draw n times from the posterior.

    Args:
        reader: The fit, with the training entries if `log_p` is wanted.
        rows: Positions of the rows to keep; none is fine.
        cols: Positions of the columns to keep.
        n: Number of draws.
    """
    distinct, place = np.unique(rows, return_inverse=True)  # a batch holds each row once, in order
    batch = reader.batch(distinct) if len(rows) else reader.any_row()
    kept: dict[str, list[Variable]] = {}
    log_p, log_q = [], []
    for q, p in _traces(reader, batch, n):
        for name, site in (latent_sites(p) | deterministic_sites(p)).items():
            plate = plate_of(site, p, batch)
            if plate == "global" or (plate == "rows" and len(rows)) or (plate == "cols" and len(cols)):
                kept.setdefault(name, []).append(_draw(site, plate, cols if plate == "cols" else place))
        log_p.append(_per_row(p, latent_sites(p) | observed_sites(p), batch)[place])
        log_q.append(_per_row(q, latent_sites(q), batch)[place])
    complete = reader.training is not None and len(rows)
    return Joint(
        {name: Variable(x[0].plate, x[0].axis, np.stack([v.values for v in x])) for name, x in kept.items()},
        np.stack(log_p) if complete else None,
        np.stack(log_q),
    )


def _traces(reader: Reader, batch: RowBatch, n: int) -> Iterator[tuple[Trace, Trace]]:
    for q in guide_draws(reader.fitted.guide, batch, n):
        yield q, poutine.trace(poutine.replay(reader.fitted.model, trace=q)).get_trace(batch)


def _draw(site: Any, plate: Plate, at: np.ndarray) -> Variable:
    """One draw of a site, of the rows or columns that were asked for."""
    value = site["value"].detach()
    # pyro.deterministic without event_dim takes every axis for the event; the plate's is then the first.
    axis = max(-1 - site["fn"].event_dim, -value.ndim)
    if plate != "global":
        value = value.index_select(axis, torch.from_numpy(at).to(value.device))
    return Variable(plate, axis, value.double().cpu().numpy())


def _per_row(trace: Trace, sites: dict[str, Any], batch: RowBatch) -> np.ndarray:
    """Log density of what stands in the rows' plate or in their entries, summed for each row, unscaled."""
    total = torch.zeros(len(batch.rows), dtype=torch.float64, device=batch.rows.device)
    for site in sites.values():
        plate = plate_of(site, trace, batch)
        if plate in ("rows", "entries"):
            density = _masked(site).double()
            density = density.reshape(math.prod(density.shape[:-1]), density.shape[-1]).sum(0)
            total = total + density if plate == "rows" else total.index_add(0, batch.row, density)
    return total.cpu().numpy()


def _masked(site: Any) -> Tensor:
    density: Tensor = site["fn"].log_prob(site["value"])
    mask = site["mask"]
    return density if mask is None or mask is True else torch.where(torch.as_tensor(mask), density, 0.0)
