"""Amortised flow: q(z_i | x_i) is a normal pushed through autoregressive maps that the row conditions.

    u_0 ~ Normal(m(x_i), diag s^2(x_i)),    u_k = exp(a_k) u_(k-1) + b_k,    z_i = u_K

a_k and b_k of a component read the components before it, in an order that alternates from map to map, and a context
c(x_i) from the encoder. A draw and its density cost one pass a map; the density of a value from elsewhere costs d.
|a_k| < 1 and the network's units are bounded, so that no input is stretched beyond control. Weights start small: the
guide starts near the diagonal one. In one dimension it is normal.

There is no closed form of its divergence from a prior: the bound takes log q - log p at the draw.

References:
    Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling (2016), Improved variational inference with inverse
    autoregressive flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor, nn
from torch.distributions import Distribution

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from .amortized import AmortizedGuide, RowSite, loc_and_scale
from .autoregressive_map import AutoregressiveMap

START_SCALE = 0.01  # of the maps' output weights, of what torch starts them at


class AmortizedFlow(AmortizedGuide):
    """Components that depend on each other, and not linearly; further arguments as for `AmortizedGuide`.

    Args:
        maps: Autoregressive maps, at least 1.
        context: Numbers that the encoder hands to the maps, at least 1.
        units: Hidden units of a map's network, at least 1; one for each dimension if there are more.

    Raises:
        PlatewiseError: If a number is out of range.
    """

    def __init__(
        self,
        hidden: int = 128,
        layers: int = 1,
        dropout: float = 0.4,
        *,
        inputs: str = "log1p",
        maps: int = 2,
        context: int = 16,
        units: int = 64,
    ) -> None:
        super().__init__(hidden, layers, dropout, inputs=inputs)
        if min(maps, context, units) < 1:
            raise PlatewiseError(
                f"Expected maps, context and units of at least 1, got {maps}, {context} and {units}. Leave them out "
                "for the defaults."
            )
        self.n_maps, self.context, self.units = maps, context, units
        self.config |= {"maps": maps, "context": context, "units": units}

    def setup(self, model: Any, batch: RowBatch, starts: Mapping[str, tuple[Tensor, Tensor]] | None = None) -> None:
        """Make the encoder and, for each site of vectors, the maps; see `AmortizedGuide.setup`."""
        super().setup(model, batch, starts)
        self.maps = nn.ModuleList(nn.ModuleList(self._networks(site)) for site in self.sites)

    def width(self, d: int) -> int:
        """Locations, logarithms of scales, and the context."""
        return 2 * d + (self.context if d > 1 else 0)

    def distribution(self, site: RowSite, numbers: Float[Tensor, "b width"]) -> Distribution:
        """Transformed normals."""
        base = dist.Normal(*loc_and_scale(numbers, site.d)).to_event(1)
        networks = cast(Iterable[ConditionalAutoRegressiveNN], self.maps[self.sites.index(site)])
        maps = [AutoregressiveMap(network, numbers[..., 2 * site.d :]) for network in networks]
        return dist.TransformedDistribution(base, maps) if maps else base

    def _networks(self, site: RowSite) -> list[nn.Module]:
        order = torch.arange(site.d)
        orders = [order if k % 2 else order.flip(0) for k in range(self.n_maps)] if site.d > 1 else []
        return [_network(order, self.context, self.units) for order in orders]


def _network(order: Tensor, context: int, units: int) -> ConditionalAutoRegressiveNN:
    d = len(order)
    network = ConditionalAutoRegressiveNN(d, context, [max(units, d)], permutation=order, nonlinearity=nn.Tanh())
    for x in network.layers[-1].parameters():
        x.data *= START_SCALE
    return network
