"""What the normal guides share: one independent normal block for each element of each latent site.

A subclass says how many numbers describe a block and turns them into a distribution.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Distribution

from ..data.batches import RowBatch
from ..data.sites import Plate, latent_sites, plate_of
from . import kl as kl  # registers the divergence of a block from its prior
from .prior_means import PriorMeans
from .row_table import SiteTable, Start

INITIAL_SCALE = 0.3  # of q at the start, in prior standard deviations


class NormalGuide(nn.Module, ABC):
    """A guide made for a model by `setup`: q = prod over sites and elements of independent normal blocks.

    Sites with constraints are normal on the real line and mapped by their bijection. `posterior` returns the blocks'
    distributions; having it says that they are independent, which closed forms rely on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleDict()
        self.config: dict[str, Any] = {}

    @abstractmethod
    def width(self, d: int) -> int:
        """Numbers that describe a block of `d` dimensions, the `d` of its location first."""

    @abstractmethod
    def block(
        self, raw: Float[Tensor, "*n width"], loc: Float[Tensor, "*#n d"], unit: Float[Tensor, "*#n d"]
    ) -> Distribution:
        """Distribution over vectors from unconstrained numbers; zeros mean independent `Normal(loc, 0.3 unit)`."""

    def setup(self, model: Any, batch: RowBatch, starts: Mapping[str, Start] | None = None) -> None:
        """Make the parameters for a model's latent sites.

        Args:
            model: The model; it is run once, every latent at its prior's mean, to find its sites.
            batch: Any batch: `RowBatch.blank(n_rows, n_cols)` will do.
            starts: Location and scale to start sites from; the prior's otherwise.
        """
        with torch.no_grad(), pyro.validation_enabled(False), PriorMeans():
            trace = poutine.trace(model).get_trace(batch)
        for name, site in latent_sites(trace).items():
            table = SiteTable(name, site, plate_of(site, trace, batch), batch, (starts or {}).get(name))
            raw = torch.zeros(table.n, self.width(table.d) if table.event_shape else 2)
            if table.event_shape:  # vectors start at a draw from the prior, to break symmetries; scalars at its mean
                raw[:, : table.d].normal_()
            table.allocate(raw)
            self.tables[_module_name(name)] = table

    def posterior(self, batch: RowBatch) -> dict[str, Distribution]:
        """The distribution of each site: of the batch's rows for row sites, of all elements for the others."""
        return {table.name: self._distribution(table, batch) for table in self._tables()}

    def forward(self, batch: RowBatch) -> dict[str, Tensor]:
        """Sample every site, each in the plates that it has in the model."""
        plates: dict[str, pyro.plate] = {}
        values = {}
        for table in self._tables():
            with ExitStack() as stack:
                for frame in table.frames:
                    if frame[0] not in plates:  # a plate is a site too: made once
                        plates[frame[0]] = _plate(table.plate, frame, batch)
                    stack.enter_context(plates[frame[0]])
                values[table.name] = pyro.sample(table.name, self._distribution(table, batch))
        return values

    def _tables(self) -> list[SiteTable]:
        return [table for table in self.tables.values() if isinstance(table, SiteTable)]

    def _distribution(self, table: SiteTable, batch: RowBatch) -> Distribution:
        raw = table.raw(batch)
        if table.event_shape:
            return table.shaped(self.block(raw, table.loc, table.unit))
        loc, unit = table.loc[..., 0], table.unit[..., 0]
        return table.shaped(dist.Normal(loc + unit * raw[..., 0], INITIAL_SCALE * unit * raw[..., 1].exp()))


def _module_name(site: str) -> str:
    """A site's name as a module may have it: without dots, and not that of one of `ModuleDict`'s methods."""
    name = site.replace(".", "/")
    return f"{name}/" if hasattr(nn.ModuleDict, name) else name


def _plate(kind: Plate, frame: tuple[str, int, int], batch: RowBatch) -> pyro.plate:
    name, size, dim = frame
    if kind == "rows":
        return batch.row_plate(name)
    return batch.col_plate(name) if kind == "cols" and dim == -1 else pyro.plate(name, size, dim=dim)
