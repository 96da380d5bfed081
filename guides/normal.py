"""What the normal guides share: one independent normal block for each element of each latent site.

A subclass says how many numbers describe a block, turns them into a distribution, and finds them from moments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.sites import latent_sites, plate_of
from . import kl as kl  # registers the divergence of a block from its prior
from .plates import OpenPlates
from .prior_means import PriorMeans
from .row_table import SiteTable, Start

Recompute = Callable[[RowBatch], tuple[Tensor, Tensor]]

INITIAL_SCALE = 0.3  # of q at the start, in prior standard deviations


class NormalGuide(nn.Module, ABC):
    """A guide made for a model by `setup`: q = prod over sites and elements of independent normal blocks.

    Sites with constraints are normal on the real line and mapped by their bijection. `posterior` returns the blocks'
    distributions; having it says that they are independent, which closed forms rely on. `blocks` and `set_blocks` read
    and write their moments.

    Args:
        hold_rows: Whether blocks of rows are kept in a table. If not, `recompute` finds them from a batch's entries.

    Attributes:
        recompute: Means and covariances (or variances) of a batch's blocks of rows; set by the algorithm that fits.
        factorised: Whether the components of a block are independent: it is then described by variances, and by
            covariances otherwise.
    """

    factorised: bool

    def __init__(self, hold_rows: bool = True) -> None:
        super().__init__()
        self.tables = nn.ModuleDict()
        self.hold_rows = hold_rows
        self.recompute: Recompute | None = None
        self.config: dict[str, Any] = {} if hold_rows else {"hold_rows": False}

    @abstractmethod
    def width(self, d: int) -> int:
        """Numbers that describe a block of `d` dimensions, the `d` of its location first."""

    @abstractmethod
    def block(
        self, raw: Float[Tensor, "*n width"], loc: Float[Tensor, "*#n d"], unit: Float[Tensor, "*#n d"]
    ) -> Distribution:
        """Distribution over vectors from unconstrained numbers; zeros mean independent `Normal(loc, 0.3 unit)`."""

    @abstractmethod
    def raw_of(
        self,
        mean: Float[Tensor, "k d"],
        cov: Float[Tensor, "k ..."],
        loc: Float[Tensor, "#k d"],
        unit: Float[Tensor, "#k d"],
    ) -> Float[Tensor, "k width"]:
        """The numbers whose `block` has these moments; not finite where no block has them."""

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
            held = table.n if self.hold_rows or table.plate != "rows" else 0
            raw = torch.zeros(held, self.width(table.d) if table.event_shape else 2)
            if table.event_shape:  # vectors start at a draw from the prior, to break symmetries; scalars at its mean
                raw[:, : table.d].normal_()
            table.allocate(raw)
            self.tables[_module_name(name)] = table

    def posterior(self, batch: RowBatch) -> dict[str, Distribution]:
        """The distribution of each site: of the batch's rows for row sites, of all elements for the others."""
        return {table.name: self._distribution(table, batch) for table in self._tables()}

    def n_blocks(self, site: str) -> int:
        """Number of elements of a site without constraint: of its plates together, one if it is global."""
        return self._unconstrained(site).n

    def blocks(self, site: str, at: slice | Tensor = slice(None)) -> tuple[Tensor, Tensor]:
        """Moments of some elements of a site.

        Args:
            site: A site without constraint.
            at: Which elements of its plates, flattened, as a range or by index; a global site has one.

        Returns:
            Means (k, d), and covariances (k, d, d); where the guide is factorised or elements are scalars, variances
            (k, d).

        Raises:
            PlatewiseError: If there is no such site, or it has a constraint or is not held.
        """
        table = self._held(site)
        with torch.no_grad():
            q = (self.block if table.event_shape else normals)(table.weight[at], *table.origin(at))
        return q.mean, q.variance if self._is_factorised(table) else cast(MultivariateNormal, q).covariance_matrix

    def set_blocks(self, site: str, mean: Tensor, cov: Tensor, at: slice = slice(None)) -> None:
        """Give some elements of a site the moments that `blocks` reads; of any floating type, computed in float64.

        Args:
            site: A site without constraint.
            mean: Means (k, d).
            cov: Covariances (k, d, d); where the guide is factorised or elements are scalars, variances (k, d).
            at: Which elements of its plates, flattened.

        Raises:
            PlatewiseError: If there is no such site, it has a constraint or is not held, or the moments are of other
                shapes or those of no normal distribution.
        """
        table = self._held(site)
        loc, unit = table.origin(at)
        factorised = self._is_factorised(table)
        _require_shapes(site, (mean, cov), (loc.shape, loc.shape if factorised else (*loc.shape, table.d)))
        with torch.no_grad():
            table.weight.data[at] = self._raw(table, mean, cov, (loc, unit))

    def forward(self, batch: RowBatch) -> dict[str, Tensor]:
        """Sample every site, each in the plates that it has in the model."""
        return self.sample_in(OpenPlates(batch))

    def sample_in(self, plates: OpenPlates) -> dict[str, Tensor]:
        """The same in plates that another guide may have opened on the batch."""
        values = {}
        for table in self._tables():
            with plates.around(table):
                values[table.name] = pyro.sample(table.name, self._distribution(table, plates.batch))
        return values

    def _recomputed(self, table: SiteTable, batch: RowBatch) -> Tensor:
        """Parameters of the batch's blocks, from its entries."""
        if self.recompute is None:
            raise PlatewiseError(
                f"Expected a way to recompute the blocks of {table.name!r}, which this guide does not hold, got none. "
                "Fit it by natural_gradient, or make it with hold_rows=True."
            )
        table.require_size(batch)
        return self._raw(table, *self.recompute(batch), table.origin(slice(0, 1)))

    def _raw(self, table: SiteTable, mean: Tensor, cov: Tensor, origin: Start) -> Tensor:
        """The numbers of a site's blocks with these moments, computed in float64."""
        loc, unit = (x.double() for x in origin)
        raw = (self.raw_of if table.event_shape else raw_of_normals)(mean.to(loc), cov.to(loc), loc, unit)
        if not raw.isfinite().all():
            raise PlatewiseError(
                f"Expected finite means and positive definite covariances for {table.name!r}, got others. Look for "
                "scales or data that are extreme."
            )
        return raw.to(table.weight)

    def _tables(self) -> list[SiteTable]:
        return [table for table in self.tables.values() if isinstance(table, SiteTable)]

    def _is_factorised(self, table: SiteTable) -> bool:
        return self.factorised or not table.event_shape

    def _unconstrained(self, site: str) -> SiteTable:
        """The table of a site whose blocks are those of the site itself."""
        tables = {table.name: table for table in self._tables() if table.is_real}
        if site not in tables:
            raise PlatewiseError(
                f"Expected a latent site without constraint, one of {sorted(tables)}, got {site!r}. Put it on the real "
                "line in the model."
            )
        return tables[site]

    def _held(self, site: str) -> SiteTable:
        """The table of a site whose blocks can be read and written."""
        table = self._unconstrained(site)
        if len(table.weight) < table.n:
            raise PlatewiseError(
                f"Expected a site whose blocks the guide holds, got {site!r} of one made with hold_rows=False. Take "
                "those of a batch, with its entries, from posterior(batch)."
            )
        return table

    def _distribution(self, table: SiteTable, batch: RowBatch) -> Distribution:
        raw = table.raw(batch) if self.hold_rows or table.plate != "rows" else self._recomputed(table, batch)
        if table.event_shape:
            return table.shaped(self.block(raw, table.loc, table.unit))
        loc, unit = table.loc[..., 0], table.unit[..., 0]
        return table.shaped(dist.Normal(loc + unit * raw[..., 0], INITIAL_SCALE * unit * raw[..., 1].exp()))


def normals(raw: Float[Tensor, "*n width"], loc: Float[Tensor, "*#n d"], unit: Float[Tensor, "*#n d"]) -> Distribution:
    """Independent normals over vectors (..., d), from d locations and d logarithms of scales."""
    d = loc.shape[-1]
    return dist.Normal(loc + unit * raw[..., :d], INITIAL_SCALE * unit * raw[..., d:].exp()).to_event(1)


def raw_of_normals(
    mean: Float[Tensor, "k d"],
    variance: Float[Tensor, "k d"],
    loc: Float[Tensor, "#k d"],
    unit: Float[Tensor, "#k d"],
) -> Float[Tensor, "k width"]:
    """The numbers whose `normals` have these moments."""
    return torch.cat([(mean - loc) / unit, (variance.sqrt() / (INITIAL_SCALE * unit)).log()], -1)


def _require_shapes(site: str, got: tuple[Tensor, ...], expected: tuple[tuple[int, ...], ...]) -> None:
    shapes = tuple(tuple(x.shape) for x in got)
    if shapes != tuple(tuple(shape) for shape in expected):
        raise PlatewiseError(
            f"Expected moments of {site!r} of shapes {' and '.join(str(tuple(x)) for x in expected)}, got "
            f"{' and '.join(map(str, shapes))}. Give one row for each element."
        )


def _module_name(site: str) -> str:
    """A site's name as a module may have it: without dots, and not that of one of `ModuleDict`'s methods."""
    name = site.replace(".", "/")
    return f"{name}/" if hasattr(nn.ModuleDict, name) else name
