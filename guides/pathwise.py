"""Sticking the landing: draws carry gradients to the parameters, densities of them do not.

The gradient of E_q[log p - log q] has a part that is zero on average, the expected score of q. Left out, what remains
has no variance at all where q is the posterior, and little near it; with it, directions that the data say little about
drown in the noise of those that they fix.

References:
    Roeder, Wu and Duvenaud (2017), Sticking the landing: simple, lower-variance gradient estimators for variational
    inference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Distribution


class Pathwise(TorchDistribution):
    """A distribution over vectors whose own draws are scored with its parameters held fixed.

    Args:
        q: The distribution, reparameterised, of parameters that depend on no other draw.
        fixed: The same with parameters that take no gradients.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    has_rsample = True

    def __init__(self, q: Distribution, fixed: Distribution) -> None:
        self.q, self.fixed = q, fixed
        super().__init__(q.batch_shape, q.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """That of the distribution."""
        return self.q.support

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Pathwise:
        """The same of another batch shape."""
        shape = torch.Size(batch_shape)
        return Pathwise(self.q.expand(shape), self.fixed.expand(shape))

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "*n d"]:
        """Draws, with gradients."""
        return self.q.rsample(torch.Size(sample_shape))

    def log_prob(self, value: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
        """Log density, in nats, with gradients to the value alone."""
        return self.fixed.log_prob(value)
