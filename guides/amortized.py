"""Amortised guides: q(z_i | x_i) = prod over sites of q(site_i | encoder(x_i)), one encoder for all rows.

The encoder reads log(1 + 1000 x_ij / sum_j x_ij), so that cells that differ in depth alone lie together; entries not
stored add nothing to its first layer. Rows need no table: a new row's posterior costs one pass through the network. A
family is a subclass of `AmortizedGuide`.

References:
    Kingma and Welling (2014), Auto-encoding variational Bayes (the recognition model).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.sites import latent_sites, plate_of
from .encoder import INPUTS, SIZE, Encoder, totals_of
from .prior_means import PriorMeans

LOG_SD = (-6.0, 3.0)  # bounds of log s: beyond them a density over- or underflows


class RowSite(NamedTuple):
    """A latent site with one real number or vector per row.

    Attributes:
        name: Its name.
        d: Dimensions; 1 for a number.
        is_vector: Whether it is a vector.
    """

    name: str
    d: int
    is_vector: bool


class AmortizedGuide(nn.Module, ABC):
    """An encoder for what a model has for each row: real numbers and vectors, independent of each other given the row.

    A subclass says how many numbers describe a vector of `d` dimensions, the `d` of its location and the `d` logarithms
    of its scales first, and turns them into a distribution. A site of single numbers is normal in every family, and
    reads the row's log total beside the encoder.

    Args:
        hidden: Units in a hidden layer.
        layers: Hidden layers; 0 for a linear encoder.
        dropout: Share of hidden units left out in training, and half that share of a row's entries.
        inputs: What the encoder reads of an entry x: "log-normalised" for log(1 + 1000 x / total), "log1p" for
            log(1 + x), "raw" for x itself.

    Attributes:
        sites: What it has a distribution for, in the model's order.

    Raises:
        PlatewiseError: If a number is out of range.
    """

    def __init__(self, hidden: int = 128, layers: int = 1, dropout: float = 0.4, *, inputs: str = INPUTS[0]) -> None:
        super().__init__()
        if hidden < 1 or layers < 0 or not 0 <= dropout < 1:
            raise PlatewiseError(
                f"Expected hidden of at least 1, layers of at least 0 and dropout from 0 to below 1, got {hidden}, "
                f"{layers} and {dropout}. Leave them out for the defaults."
            )
        if inputs not in INPUTS:
            raise PlatewiseError(f"Expected inputs among {', '.join(INPUTS)}, got {inputs!r}. Choose one.")
        self.network: dict[str, Any] = {"hidden": hidden, "layers": layers, "dropout": dropout, "inputs": inputs}
        self.config: dict[str, Any] = dict(self.network)
        self.sites: list[RowSite] = []

    @abstractmethod
    def width(self, d: int) -> int:
        """Numbers that describe a vector of `d` dimensions."""

    @abstractmethod
    def distribution(self, site: RowSite, numbers: Float[Tensor, "b width"]) -> Distribution:
        """Distribution of a site of vectors, (b,) of them, from the encoder's numbers."""

    def setup(self, model: Any, batch: RowBatch, starts: Mapping[str, tuple[Tensor, Tensor]] | None = None) -> None:
        """Make the encoder for a model's latent sites.

        Args:
            model: The model; it is run once to find its sites.
            batch: Any batch: `RowBatch.blank(n_rows, n_cols)` will do.
            starts: Location and scale to start sites about; the prior's otherwise.

        Raises:
            PlatewiseError: If the model has latent sites that are not real numbers or vectors of rows.
        """
        with torch.no_grad(), pyro.validation_enabled(False), PriorMeans():
            trace = poutine.trace(model).get_trace(batch)
        self.plate, self.sites = _sites_of_rows(trace, batch)
        self.encoder = Encoder(batch.n_cols, sum(self._widths()), **self.network)
        if not all(site.is_vector for site in self.sites):  # numbers may be sizes, which normalised entries do not tell
            self.by_total = nn.Linear(1, 2, bias=False)
            nn.init.zeros_(self.by_total.weight)
        outputs = zip(self.sites, *(x.split(self._widths()) for x in self.encoder.output.parameters()), strict=True)
        for site, weight, bias in outputs:
            loc, scale = (starts or {}).get(site.name) or _prior_moments(trace.nodes[site.name], site.d)
            _start_about(weight.data, bias.data, loc.to(bias).expand(site.d), scale.to(bias).expand(site.d))
            self.start(site, weight.data, bias.data)

    def start(self, site: RowSite, weight: Tensor, bias: Tensor) -> None:
        """Change what the output layer starts at for a site, in place: weights (width, hidden) and biases (width,)."""

    def posterior(self, batch: RowBatch) -> dict[str, Distribution]:
        """The distribution of each site of the batch's rows."""
        numbers = self.encoder(batch).split(self._widths(), -1)
        return {site.name: self._distribution(batch, site, x) for site, x in zip(self.sites, numbers, strict=True)}

    def forward(self, batch: RowBatch) -> dict[str, Tensor]:
        """Sample the sites in the plate of the batch's rows."""
        return self.encoded(batch)()

    def encoded(self, batch: RowBatch) -> Callable[[], dict[str, Tensor]]:
        """The same program on this batch with the encoder run already: for many draws."""
        return partial(self._sampled, batch, self.posterior(batch))

    def _sampled(self, batch: RowBatch, posterior: dict[str, Distribution]) -> dict[str, Tensor]:
        with batch.row_plate(self.plate):
            return {name: pyro.sample(name, q) for name, q in posterior.items()}

    def _widths(self) -> list[int]:
        return [self.width(site.d) if site.is_vector else 2 for site in self.sites]

    def _distribution(self, batch: RowBatch, site: RowSite, numbers: Tensor) -> Distribution:
        if site.is_vector:
            return self.distribution(site, numbers)
        loc, scale = loc_and_scale(numbers + self.by_total((totals_of(batch) / SIZE).log()[:, None]), 1)
        return dist.Normal(loc[..., 0], scale[..., 0])


class AmortizedNormal(AmortizedGuide):
    """Independent components: q(z_i | x_i) = Normal(m(x_i), diag s^2(x_i)); arguments as for `AmortizedGuide`."""

    def width(self, d: int) -> int:
        """Locations and logarithms of scales."""
        return 2 * d

    def distribution(self, site: RowSite, numbers: Float[Tensor, "b width"]) -> Distribution:
        """Independent normals."""
        return dist.Normal(*loc_and_scale(numbers, site.d)).to_event(1)


def loc_and_scale(numbers: Float[Tensor, "b width"], d: int) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
    """Locations and scales of a site, from the encoder's first 2 d numbers."""
    return numbers[..., :d], numbers[..., d : 2 * d].clamp(*LOG_SD).exp()


def _start_about(weight: Tensor, bias: Tensor, loc: Tensor, scale: Tensor) -> None:
    """Let a site's part of the output layer, made for a standard normal, start about another location and scale."""
    d = len(loc)
    weight[:d] *= scale[:, None]
    bias[:d] = loc + scale * bias[:d]
    bias[d : 2 * d] += scale.log()


def _prior_moments(site: Mapping[str, Any], d: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (d,) of a site's prior, averaged over rows; standard deviation 1 if it has none."""
    mean = site["value"].reshape(-1, d).mean(0)
    try:
        sd = site["fn"].stddev.reshape(-1, d).mean(0)
    except NotImplementedError:
        return mean, torch.ones_like(mean)
    return mean, torch.where(sd.isfinite() & (sd > 0), sd, 1.0)


def _sites_of_rows(trace: Trace, batch: RowBatch) -> tuple[str, list[RowSite]]:
    """The plate of rows and the latent sites in it, which must be all."""
    latents = latent_sites(trace)
    plates = {s["cond_indep_stack"][0].name for s in latents.values() if plate_of(s, trace, batch) == "rows"}
    shapes = {name: tuple(site["fn"].event_shape) for name, site in latents.items()}
    wrong = [
        name
        for name, site in latents.items()
        if plate_of(site, trace, batch) != "rows" or not _is_real(site) or len(shapes[name]) > 1
    ]
    if wrong or len(plates) != 1:
        raise PlatewiseError(
            "Expected a model whose latent sites are all real numbers or vectors of rows, in one plate, got "
            f"{', '.join(wrong) or f'{len(plates)} plates'}. Use another guide, or change these sites in the model."
        )
    return plates.pop(), [RowSite(name, sum(shape) if shape else 1, bool(shape)) for name, shape in shapes.items()]


def _is_real(site: Mapping[str, Any]) -> bool:
    support = getattr(site["fn"].support, "base_constraint", site["fn"].support)
    return support is constraints.real
