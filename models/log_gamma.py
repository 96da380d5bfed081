"""The logarithm of a gamma variable: the prior of a logarithm of a precision, on the real line.

    exp(x) ~ Gamma(a, b),    p(x) = b^a / Gamma(a) exp(a x - b exp(x))

Importing this module registers the divergence of a normal from it, in closed form: without it the KL term of a guide
would be estimated by Monte Carlo, silently.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Distribution, Normal, constraints, register_kl
from torch.distributions.utils import broadcast_all


class LogGamma(TorchDistribution):
    """Law of log X where X ~ Gamma(concentration, rate).

    Args:
        concentration: Shape a of the gamma variable.
        rate: Its rate b.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "concentration": constraints.positive,
        "rate": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(self, concentration: Tensor | float, rate: Tensor | float, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.concentration.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same law for a larger batch."""
        shape = torch.Size(batch_shape)
        return LogGamma(self.concentration.expand(shape), self.rate.expand(shape), validate_args=False)

    def rsample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008 - torch's own default
        """Draws with gradients: X is X' U^(1/a), X' of shape a + 1, so that a small shape gives no log of zero."""
        a = self.concentration.expand(self._extended_shape(sample_shape))
        uniform = torch.rand_like(a).clamp_min(torch.finfo(a.dtype).tiny)
        return torch._standard_gamma(a + 1).log() + uniform.log() / a - self.rate.log()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density, in nats."""
        a, b = self.concentration, self.rate
        return a * (b.log() + value) - torch.lgamma(a) - b * value.exp()

    @property
    def mean(self) -> Tensor:
        """E[x] = digamma(a) - log b."""
        return torch.digamma(self.concentration) - self.rate.log()

    @property
    def variance(self) -> Tensor:
        """Var[x] = trigamma(a)."""
        return torch.polygamma(1, self.concentration)

    def expected_power(self, t: float) -> Tensor:
        """E[exp(t x)] = Gamma(a + t) / Gamma(a) / b^t; infinite where a + t is not positive."""
        a = self.concentration
        finite = torch.where(a + t > 0, a + t, 1.0)
        power = (torch.lgamma(finite) - torch.lgamma(a) - t * self.rate.log()).exp()
        return torch.where(a + t > 0, power, math.inf)


@register_kl(Normal, LogGamma)
def kl_normal_log_gamma(q: Normal, p: Any) -> Tensor:
    """D[q || p] for q = Normal(m, s^2), in closed form: minus q's entropy and E_q[log p].

    -1/2 log(2 pi e s^2) - [a log b - lgamma(a) + a m - b exp(m + s^2 / 2)]
    """
    a, b = p.concentration, p.rate
    expected = a * (b.log() + q.loc) - torch.lgamma(a) - b * (q.loc + 0.5 * q.variance).exp()
    return -q.entropy() - expected


def expected_power(q: Distribution, t: float) -> Tensor:
    """E[exp(t x)] of normals, or of logarithms of gamma variables.

    Raises:
        NotImplementedError: If `q` is of another family.
    """
    if isinstance(q, LogGamma):
        return q.expected_power(t)
    if isinstance(q, Normal):
        return (t * q.mean + 0.5 * t**2 * q.variance).exp()
    raise NotImplementedError(f"No closed form for powers of the exponential of {type(q).__name__}")
