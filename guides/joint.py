"""What the joint guides share: one distribution of all global sites together, beside another guide for the others.

    q(latents) = q(globals) prod over the other sites of q_local(site)

The joint lives on the real line: sites are put one after the other into a vector u, a family says q(u), and each site
is its part of u through the bijection to its support, whose Jacobian its density counts. A single site in no plate is
drawn as itself; several are parts of an auxiliary site, so that their divergence from the prior is estimated
at the draw, and not in closed form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro import poutine
from pyro.distributions.transforms import ReshapeTransform
from torch import Tensor, nn
from torch.distributions import Distribution, LowRankMultivariateNormal, MultivariateNormal

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.sites import latent_sites, plate_of
from . import kl as kl  # registers the divergence of a block from its prior
from .normal import NormalGuide
from .pathwise import Pathwise
from .plates import OpenPlates
from .prior_means import PriorMeans
from .row_block_normal import RowBlockNormal
from .row_table import SiteTable, Start

Numbers = Mapping[str, Tensor]  # what a family is described by, by name


class _Parameters(nn.ParameterDict):
    """A family's numbers, that describe `d` numbers of the model.

    Each is in the gradient of all: the more there are, the smaller the steps that they can take together.

    Attributes:
        step_scale: What the learning rate is multiplied by.
    """

    def __init__(self, numbers: Numbers, d: int) -> None:
        super().__init__({name: nn.Parameter(x) for name, x in numbers.items()})
        self.step_scale = 0.5 / d**0.5


class JointGuide(nn.Module, ABC):
    """A family for the globals of any model of the contract, beside a guide for its rows and columns.

    A subclass makes the parameters of its family, and turns them into a distribution.

    Args:
        local: Guide of the sites that are not in the joint; a new `RowBlockNormal` if None.
        sites: Names of the sites in the joint, in no plate of rows; those in no plate of rows or columns if None.
    """

    may_be_empty: ClassVar[bool] = False  # whether a model without global sites will do
    has_divergence: ClassVar[bool] = True  # whether its divergence from normal priors is known in closed form

    def __init__(self, local: nn.Module | None = None, *, sites: Collection[str] | None = None) -> None:
        super().__init__()
        self.local: Any = RowBlockNormal() if local is None else local
        self.names = None if sites is None else tuple(sites)
        self.config: dict[str, Any] = {"local": self.local, "sites": self.names}
        self.tables = nn.ModuleList()
        self.has_local = False

    @abstractmethod
    def allocate(self, start: Float[Tensor, " d"]) -> dict[str, Tensor]:
        """The family's numbers at the start, about `loc + unit * start`."""

    @abstractmethod
    def distribution(self, numbers: Numbers, loc: Float[Tensor, " d"], unit: Float[Tensor, " d"]) -> Distribution:
        """The joint of d numbers on the real line; `loc` and `unit` are where its numbers are, and in what unit."""

    def setup(self, model: Any, batch: RowBatch, starts: Mapping[str, Start] | None = None) -> None:
        """Make the parameters for a model's latent sites.

        Args:
            model: The model; it is run once, every latent at its prior's mean, to find its sites.
            batch: Any batch: `RowBatch.blank(n_rows, n_cols)` will do.
            starts: Location and scale to start sites from; the prior's otherwise.

        Raises:
            PlatewiseError: If there is no site for the joint, or one that no normal can stand for.
        """
        with torch.no_grad(), pyro.validation_enabled(False), PriorMeans():
            trace = poutine.trace(model).get_trace(batch)
        places = {name: plate_of(site, trace, batch) for name, site in latent_sites(trace).items()}
        joint = self._chosen(places)
        for name in joint:
            _refuse_weighted(name, trace.nodes[name])
        self.tables.extend(
            SiteTable(name, trace.nodes[name], places[name], batch, (starts or {}).get(name)) for name in joint
        )
        if joint:
            start = torch.cat([_start(table) for table in self._tables()])
            self.numbers = _Parameters(self.allocate(start), len(start))
        self.has_local = len(joint) < len(places)
        if self.has_local:
            means = {name: trace.nodes[name]["value"] for name in joint}
            self.local.setup(poutine.condition(model, data=means), batch, starts)

    def forward(self, batch: RowBatch) -> dict[str, Tensor]:
        """Sample every site, each in the plates that it has in the model."""
        plates = OpenPlates(batch)
        values = self._sample_joint(plates)
        if not self.has_local:
            return values
        return values | (self.local.sample_in(plates) if isinstance(self.local, NormalGuide) else self.local(batch))

    def joint(self) -> Distribution:
        """The distribution of all sites of the joint, as one vector on the real line."""
        return self.distribution(self.all_numbers(), *self._origin())

    def all_numbers(self) -> Numbers:
        """What the joint is described by: all of the family's parameters, by name."""
        return dict(self.numbers)

    def own_draws(self) -> Distribution:
        """The joint, of draws that are scored as they are made.

        In float64: beside a location of 1, float32 cannot tell draws apart whose scale is a ten-millionth.
        """
        origin = [x.double() for x in self._origin()]
        numbers = {name: x.double() for name, x in self.all_numbers().items()}
        q = self.distribution(numbers, *origin)
        if not q.has_rsample:
            return q
        return Pathwise(q, self.distribution({name: x.detach() for name, x in numbers.items()}, *origin))

    def _origin(self) -> Start:
        loc, unit = (torch.cat(parts) for parts in zip(*(_origin(table) for table in self._tables()), strict=True))
        return loc, unit

    def posterior(self, batch: RowBatch) -> dict[str, Distribution]:
        """The distribution of each site, where they are independent: one global site, and independent local ones.

        Raises:
            NotImplementedError: If they are not.
        """
        if (len(self.tables) and not self._is_single) or (self.has_local and not hasattr(self.local, "posterior")):
            raise NotImplementedError(f"{type(self).__name__} of several sites: they depend on each other")
        of_local: dict[str, Distribution] = self.local.posterior(batch) if self.has_local else {}
        return {table.name: _as_site(table, self.joint()) for table in self._tables()} | of_local

    def _sample_joint(self, plates: OpenPlates) -> dict[str, Tensor]:
        if not len(self.tables) or (self._is_single and self.has_divergence):
            return {table.name: pyro.sample(table.name, _as_site(table, self.joint())) for table in self._tables()}
        u = pyro.sample(self.auxiliary, self.own_draws(), infer={"is_auxiliary": True})
        values = {}
        for table, part in zip(self._tables(), u.split([t.n * t.d for t in self._tables()], -1), strict=True):
            table.require_size(plates.batch)
            with plates.around(table):
                values[table.name] = pyro.sample(table.name, _at(table, part.to(table.loc)))
        return values

    @property
    def _is_single(self) -> bool:
        return len(self.tables) == 1 and not self._tables()[0].frames and not self._tables()[0].batch_shape

    @property
    def auxiliary(self) -> str:
        """The name of the site that several sites are parts of; no model has one like it."""
        return f"joint of {', '.join(table.name for table in self._tables())}"

    @property
    def is_set_up(self) -> bool:
        """Whether `setup` has been called."""
        return self.has_local or len(self.tables) > 0

    def _tables(self) -> list[SiteTable]:
        return [table for table in self.tables if isinstance(table, SiteTable)]

    def _chosen(self, places: Mapping[str, str]) -> list[str]:
        if self.names is None:
            joint = [name for name, place in places.items() if place == "global"]
        else:
            joint = [name for name, place in places.items() if name in self.names and place in ("global", "cols")]
        if (not joint and not self.may_be_empty) or len(joint) < len(self.names or ()):
            there = ", ".join(f"{name!r} of {place}" for name, place in places.items()) or "none"
            raise PlatewiseError(
                f"Expected {type(self).__name__} to have global sites ({', '.join(self.names or ['any'])}), got a "
                f"model with {there}. Use the guide of its rows and columns alone, or name other sites."
            )
        return joint


def _refuse_weighted(name: str, site: Mapping[str, Any]) -> None:
    """A mask or scale would be that of the prior and of the Jacobian, but not of the joint."""
    if site["mask"] not in (None, True) or site["scale"] != 1:
        raise PlatewiseError(
            f"Expected the global site {name!r} without mask or scale for a joint guide, got one with. Take "
            "MeanFieldNormal or RowBlockNormal, or leave it to local= by sites=."
        )


def _origin(table: SiteTable) -> Start:
    """Location and unit of all of a site's numbers, one after the other."""
    loc, unit = (x.flatten() for x in table.origin(slice(None)))
    return loc, unit


def _start(table: SiteTable) -> Float[Tensor, " k"]:
    """Vectors start at a draw from the prior, to break symmetries; scalars at its mean."""
    size = table.n * table.d
    return torch.randn(size) if table.event_shape else torch.zeros(size)


def _as_site(table: SiteTable, q: Distribution) -> Distribution:
    """The distribution of a site that is in no plate, from that of its numbers."""
    if not table.event_shape and isinstance(q, MultivariateNormal | LowRankMultivariateNormal):
        q = dist.Normal(q.mean[..., 0], q.variance[..., 0].sqrt())
    elif not table.event_shape:
        q = dist.TransformedDistribution(q, [ReshapeTransform((1,), ())])
    return table.shaped(q)


def _at(table: SiteTable, part: Float[Tensor, "*n k"]) -> Distribution:
    """A site's value, fixed by its part of the joint; its density is that of the change of variables."""
    n_plates = len(table.batch_shape)  # the joint has length 1 along these, if particles stand left of them
    lead = part.shape[: max(part.ndim - 1 - n_plates, 0)]
    u = part.reshape(lead + table.batch_shape + table.event_shape)
    value = table.bijection(u)
    change = table.bijection.log_abs_det_jacobian(u, value)
    for _ in range(change.ndim - u.ndim + len(table.event_shape)):
        change = change.sum(-1)
    event = value.ndim - u.ndim + len(table.event_shape)
    return dist.Delta(value, -change.expand(value.shape[: value.ndim - event]), event_dim=event)
