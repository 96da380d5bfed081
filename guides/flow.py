"""Normalising flow: q(globals) is a normal pushed through maps that bend it, and an affine map with full matrix.

    u_0 ~ Normal_d(0, I),    u_k = affine_k(spline_k(u_(k-1))),    u = m + L u_K

In each spline and affine map a component's parameters are functions (small networks) of the components before it, in an
order that alternates: the Jacobian is triangular. Splines are monotone, rational, and the identity beyond +-BOUND. The
maps start as the identity, at which the flow is the full normal: it contains it. A draw costs one pass; the density of
a value costs d.

References:
    Durkan, Bekasov, Murray and Papamakarios (2019), Neural spline flows; Dolatabadi, Erfani and Leckie (2020),
    Invertible generative modeling using linear rational splines.
    Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling (2016), Improved variational inference with inverse
    autoregressive flow.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.transforms import LowerCholeskyAffine, SplineAutoregressive
from pyro.nn import AutoRegressiveNN
from torch import Tensor, nn
from torch.distributions import Distribution, Transform

from ..data.errors import PlatewiseError
from .autoregressive_map import AutoregressiveMap
from .full_normal import refuse_too_wide, regressed_normals, standing_at
from .joint import JointGuide, Numbers

BINS = 8
OF_SPLINE = [BINS, BINS, BINS - 1, BINS]  # numbers of widths, heights, slopes at the knots between, and bends
BOUND = 5.0  # base draws beyond it are one in two million
PATHWISE_UP_TO = 16  # numbers
START_SCALE = 0.01  # of the networks' output weights, of what torch starts them at
UNIT_SLOPE = math.log(math.e - 1)  # its softplus is 1


class Flow(JointGuide):
    """A neural spline flow; further arguments as for `JointGuide`.

    Up to 16 numbers its gradients are those of its draws alone (`pathwise`). That wants densities under fixed
    parameters, each a pass for every number; of more numbers draws are scored as they are made, which is noisier.

    Args:
        maps: Spline and affine maps, at least 1.
        units: Hidden units of a map's network, at least 1; two for each dimension if that is more.

    Raises:
        PlatewiseError: If a number is out of range.
    """

    has_divergence: ClassVar[bool] = False

    def __init__(
        self, local: nn.Module | None = None, *, maps: int = 2, units: int = 32, sites: Collection[str] | None = None
    ) -> None:
        super().__init__(local, sites=sites)
        if min(maps, units) < 1:
            raise PlatewiseError(f"Expected maps and units of at least 1, got {maps} and {units}. Leave them out.")
        self.n_maps, self.units = maps, units
        self.config |= {"maps": maps, "units": units}

    def allocate(self, start: Float[Tensor, " d"]) -> dict[str, Tensor]:
        """Make the maps as the identity; the affine map after them starts as a full normal does."""
        refuse_too_wide(start, type(self).__name__)
        self.maps = _Maps(_networks(len(start), self.units, turned=k % 2 == 0) for k in range(self.n_maps))
        return {"normal": standing_at(start)}

    def all_numbers(self) -> Numbers:
        """Those of the affine map, and the parameters of the maps' networks."""
        return {**super().all_numbers(), **dict(self.maps.named_parameters())}

    def distribution(self, numbers: Numbers, loc: Float[Tensor, " d"], unit: Float[Tensor, " d"]) -> Distribution:
        """The transformed normal."""
        normal: Any = regressed_normals(numbers["normal"], loc, unit)
        base = dist.Normal(torch.zeros_like(loc), torch.ones_like(loc)).to_event(1)
        bends = [bend for k in range(self.n_maps) for bend in self._bends(numbers, k)]
        last = LowerCholeskyAffine(normal.loc, normal.scale_tril, cache_size=1)  # else all before it were inverted
        return dist.TransformedDistribution(base, [*bends, last])

    def own_draws(self) -> Distribution:
        """The joint; scored with its parameters held fixed where that is not too dear."""
        return super().own_draws() if len(self._origin()[0]) <= PATHWISE_UP_TO else self.joint()

    def _bends(self, numbers: Numbers, k: int) -> list[Transform]:
        """Made anew each time: what they remember of a value would be stale after a step."""
        pair: Any = self.maps[k]
        of_spline, of_affine = (_NetworkAt(network, numbers, f"{k}.{i}.") for i, network in enumerate(pair))
        return [
            SplineAutoregressive(of_spline.input_dim, of_spline, BINS, BOUND),
            AutoregressiveMap(of_affine, bound=3.0),
        ]


class _Maps(nn.ModuleList):
    """Maps, whose parameters are not in prior standard deviations."""

    step_scale = 0.04  # of the learning rate: at 0.5, steps of 0.02


class _NetworkAt:
    """A network at parameters given by name, behind a prefix: in another precision, or held fixed."""

    def __init__(self, network: Any, numbers: Numbers, prefix: str) -> None:
        self.network, self.input_dim, self.permutation = network, network.input_dim, network.permutation
        self.at = {name: numbers[prefix + name] for name, _ in network.named_parameters()}

    def __call__(self, *inputs: Tensor) -> Any:
        return torch.func.functional_call(self.network, self.at, inputs)


def _networks(d: int, units: int, *, turned: bool) -> nn.ModuleList:
    """Networks of a spline and of an affine map, that read components in their order or with that turned round."""
    order = torch.arange(d).flip(0) if turned else torch.arange(d)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="ConditionalAutoRegressiveNN input_dim = 1")  # then constants
        parts: list[Any] = [
            AutoRegressiveNN(d, [max(units, 2 * d)], n, order, nonlinearity=nn.Tanh()) for n in (OF_SPLINE, [1, 1])
        ]
    for network in parts:
        for x in network.layers[-1].parameters():
            x.data.mul_(START_SCALE)
    slopes = slice(2 * BINS, 3 * BINS - 1)
    parts[0].layers[-1].bias.data.view(sum(OF_SPLINE), d)[slopes] += UNIT_SLOPE
    return nn.ModuleList(parts)
