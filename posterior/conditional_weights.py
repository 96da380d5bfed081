"""Log importance weights of some latents against their conditional, the rest held at one joint draw of the guide.

    log w_s = log p(data, z_s | rest) - log q(z_s),    z_s ~ q

z being the latents of a row, of a column, of a pair of them, or all globals. Held at a draw, the rest is as far from
its centre as the guide says it may be. At its means, blocks that a fit rightly made narrow, as the rest is uncertain,
would look too narrow, and how a global depends on all rows together would be hidden.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import torch
from jaxtyping import Float
from pyro import poutine
from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.sites import Plate, latent_sites, observed_sites, plate_of
from ..inference.contract import check_particles
from ..inference.elbo import SampledELBO
from .reader import Reader

AT_ONCE = 4096  # rows of all
MAX_NUMBERS = 1 << 23  # held at once: draws times the largest of what a draw is made of

Values = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Question:
    """Whose weights are asked for.

    Attributes:
        batch: What the model runs on.
        known: What the guide runs on.
        drawn: Plates whose latents are drawn; with the place of one element in `batch` and in `known`, that one alone.
        given: Plates whose latents the guide is given.
        held: Values of the latents that are not drawn, at `batch`.
    """

    batch: RowBatch
    known: RowBatch
    drawn: Mapping[Plate, tuple[int, int] | None]
    given: frozenset[Plate]
    held: Values


class Conditionals:
    """Runs model and guide for log weights.

    Args:
        reader: The fit, with its training entries.
        draws: Draws of what is asked about.
        sample: Some rows, to look at the sites by.
    """

    def __init__(self, reader: Reader, draws: int, sample: RowBatch) -> None:
        self.reader, self.draws = reader, draws
        self.model, self.guide = reader.fitted.model, reader.fitted.guide
        self.places = reader.places
        q = poutine.trace(self.guide).get_trace(sample)
        p = poutine.trace(poutine.replay(self.model, q)).get_trace(sample)
        self.fixed = {plate_of(s, q, sample) for s in latent_sites(q).values() if isinstance(s["fn"], Delta)}
        self.scored = {plate_of(s, q, sample) for s in latent_sites(q).values() if not isinstance(s["fn"], Delta)}
        self.observed_in = {plate_of(s, p, sample) for s in observed_sites(p).values()}
        sites = {name: p.nodes[name] for name in self.places}
        self.event_dim = {name: site["fn"].event_dim for name, site in sites.items()}
        self.width = max((site["fn"].event_shape.numel() for site in sites.values()), default=1)
        self.plates = SampledELBO(self.model, self.guide, 2)
        self.nesting = self.plates.find_nesting(sample)
        self.vectorised = self._stands_particles(sample)
        self.held = self._values(self.guide_trace(reader.any_row(), {}), ("global", "cols"))

    def has(self, plate: Plate) -> bool:
        """Whether the guide has a density of a plate's latents by themselves: not where columns are part of a joint."""
        is_apart = plate == "rows" or "cols" not in self.fixed
        return plate in self.places.values() and plate in self.scored and is_apart

    def rows_held(self, rows: np.ndarray) -> Values:
        """One draw of the latents of rows, the rest as it is held."""
        batches = map(self.reader.batch, np.array_split(rows, math.ceil(len(rows) / AT_ONCE)))
        parts = [self._values(self.guide_trace(batch, self.held), ("rows",)) for batch in batches]
        return {name: torch.cat([part[name] for part in parts], -1 - self.event_dim[name]) for name in parts[0]}

    def blocks(self, question: Question) -> Iterator[tuple[int, Trace, Trace]]:
        """All draws: how many are in a block, and its traces of guide and model."""
        for n in self.block_sizes(question.batch, self.draws):
            with self.particles(n):
                given = {name: x for name, x in question.held.items() if self.places[name] in question.given}
                q = self.guide_trace(question.known, self.spread(given, n))
                p = self.model_trace(question.batch, self.merged(question, q, n))
            yield n, q, p

    def block_sizes(self, batch: RowBatch, draws: int) -> list[int]:
        """Draws that are made at once on a batch, block by block."""
        cells = len(batch.rows) * batch.n_cols if "rows" in self.observed_in else 0
        largest = max(cells, max(len(batch.col), batch.n_cols, len(batch.rows)) * self.width)
        size = max(MAX_NUMBERS // largest, 1) if self.vectorised else 1
        return [min(size, draws - done) for done in range(0, draws, size)]

    def particles(self, n: int) -> AbstractContextManager[Any]:
        """The plate of a block's draws; none where programs run for one draw at a time."""
        return pyro.plate("particles", n, dim=-1 - self.nesting) if self.vectorised else nullcontext()

    def guide_trace(self, batch: RowBatch, given: Values) -> Trace:
        """The guide's trace with some latents given."""
        return poutine.trace(poutine.condition(self.guide, data=dict(given))).get_trace(batch)

    def model_trace(self, batch: RowBatch, values: Values) -> Trace:
        """The model's trace with all latents given."""
        return poutine.trace(poutine.condition(self.model, data=dict(values))).get_trace(batch)

    def merged(self, question: Question, q: Trace, n: int) -> dict[str, Tensor]:
        """Values of all latents: drawn where they are asked about, and held elsewhere."""
        values = self.spread(question.held, n)
        for name, plate in self.places.items():
            if plate not in question.drawn:
                continue
            value, one = q.nodes[name]["value"], question.drawn[plate]
            if one is not None:
                to, at = (torch.tensor([k], device=value.device) for k in one)
                axis = -1 - self.event_dim[name]
                value = values[name].index_copy(axis, to, value.index_select(axis, at))
            values[name] = value
        return values

    def by_element(
        self, trace: Trace, batch: RowBatch, plate: Plate, names: Collection[str], n: int
    ) -> Float[Tensor, "n k"]:
        """Log density of what stands in a plate, or in its entries, by draw and element; without the batch's scale."""
        size = len(batch.rows) if plate == "rows" else batch.n_cols
        total = torch.zeros(n, size, dtype=torch.float64, device=batch.rows.device)
        for name in names:
            site = trace.nodes[name]
            where = place_of(site, trace, batch)
            if where == plate:
                total = total + self._flat(site, batch, where, n)
            elif where == "entries":
                index = batch.row if plate == "rows" else batch.col
                total.index_add_(1, index, self._flat(site, batch, where, n).expand(n, len(index)))
        return total

    def in_total(self, trace: Trace, batch: RowBatch, names: Collection[str], n: int) -> Float[Tensor, " n"]:
        """Log density of sites, all elements together."""
        total = torch.zeros(n, dtype=torch.float64, device=batch.rows.device)
        for name in names:
            site = trace.nodes[name]
            total = total + self._flat(site, batch, place_of(site, trace, batch), n).sum(1)
        return total

    def _flat(self, site: Any, batch: RowBatch, plate: Plate, n: int) -> Float[Tensor, "_n k"]:
        """Log densities by draw (one, if it is the same for all) and by element of the last plate."""
        scale = site["scale"] / batch.scale if plate in ("rows", "entries") else site["scale"]
        x: Tensor = scale_and_mask(site["fn"].log_prob(site["value"]), scale, site["mask"]).double()
        lead = x.shape[0] if self.vectorised and x.ndim == 1 + self.nesting else 1
        if plate == "global":
            return x.reshape(lead, 1, -1).sum(-1)
        return x.reshape(lead, -1, x.shape[-1]).sum(1) if x.shape[-1] else x.new_zeros(lead, 0)

    def _values(self, trace: Trace, plates: Collection[str]) -> dict[str, Tensor]:
        return {name: trace.nodes[name]["value"] for name, plate in self.places.items() if plate in plates}

    def spread(self, held: Values, n: int) -> dict[str, Tensor]:
        """Held values as those of each of n draws."""
        return {name: self._spread(name, x, n) for name, x in held.items()}

    def _spread(self, name: str, value: Tensor, n: int) -> Tensor:
        if not self.vectorised:
            return value
        ones = self.nesting - (value.ndim - self.event_dim[name])
        return value.reshape(1, *[1] * ones, *value.shape).expand(n, *[-1] * (ones + value.ndim))

    def _stands_particles(self, sample: RowBatch) -> bool:
        """Whether several draws can be made at once; one by one is as right, and slower."""
        try:
            check_particles(self.model, self.guide, sample, self.plates.particle_plate(sample))
        except PlatewiseError:
            return False
        return True


def place_of(site: Any, trace: Trace, batch: RowBatch) -> Plate:
    """Whose plate a site stands in; the plate of draws, which is opened around the trace, is none."""
    frames = tuple(frame for frame in site["cond_indep_stack"] if frame.name in trace.nodes)
    return plate_of(dict(site) | {"cond_indep_stack": frames}, trace, batch)
