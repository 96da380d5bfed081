"""Mixture of normals: q(globals) = sum_k w_k Normal_d(m_k, L_k L_k'), for several modes, heavy tails or bends.

Draws of a mixture cannot be reparameterised by one smooth map: which component a draw comes from is discrete. So the
bound is taken stratified, by one draw of every component, weighted (`strata`):

    ELBO = sum_k w_k E_{u ~ Normal(m_k, L_k L_k')} [log p(data, u) - log q(u)]

Gradients by all parameters, weights included, are then pathwise, exact in the weights, and of low variance; a step
costs K runs of the model. Other bounds than ours see a draw without gradient, and take its score function.

References:
    Morningstar, Vikram, Ham, Gallagher and Dillon (2021), Automatic differentiation variational inference with
    mixtures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from .full_normal import refuse_too_wide, regressed_normals, standing_at
from .joint import JointGuide, Numbers

SPREAD = 0.5  # of the components about the start, in prior standard deviations


class MixtureOfNormals(JointGuide):
    """A mixture of multivariate normals; further arguments as for `JointGuide`.

    Args:
        components: Number of normals K.

    Raises:
        PlatewiseError: If there is less than one.
    """

    def __init__(
        self, components: int = 3, local: nn.Module | None = None, *, sites: Collection[str] | None = None
    ) -> None:
        super().__init__(local, sites=sites)
        if components < 1:
            raise PlatewiseError(f"Expected at least 1 component, got {components}. 2 to 5 are usual.")
        self.components = components
        self.config |= {"components": components}
        self._drawn: int | None = None

    def allocate(self, start: Float[Tensor, " d"]) -> dict[str, Tensor]:
        """Weights, and components apart from each other: from one place they would stay one."""
        refuse_too_wide(start, type(self).__name__)
        starts = start + SPREAD * torch.randn(self.components, len(start))
        return {"logits": torch.zeros(self.components), "normals": torch.cat([standing_at(x) for x in starts])}

    def distribution(self, numbers: Numbers, loc: Float[Tensor, " d"], unit: Float[Tensor, " d"]) -> Distribution:
        """The mixture, drawn from one component only while that component's stratum is run."""
        normals: Any = regressed_normals(numbers["normals"].reshape(self.components, -1), loc, unit)
        return NormalMixture(numbers["logits"], normals.loc, normals.scale_tril, self._drawn)

    def strata(self) -> list[tuple[Tensor, Callable[[RowBatch], Any]]]:
        """Weight of each component, and the guide that draws from it and scores by the whole mixture."""
        weights = self.numbers["logits"].softmax(-1)
        return [(weights[k], partial(self._stratum, k)) for k in range(self.components)]

    def _stratum(self, k: int, batch: RowBatch) -> dict[str, Tensor]:
        self._drawn = k
        try:
            return self(batch)
        finally:
            self._drawn = None


class NormalMixture(TorchDistribution):
    """A mixture of K multivariate normals.

    Args:
        logits: Logarithms of the weights, up to a constant.
        loc: Means.
        scale_tril: Cholesky factors of the covariances.
        component: The one that draws come from, with gradients; any, by its weight and without gradients, if None.
        batch_shape: Of draws without a shape of their own.
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012
    support = constraints.real_vector

    def __init__(
        self,
        logits: Float[Tensor, " K"],
        loc: Float[Tensor, "K d"],
        scale_tril: Float[Tensor, "K d d"],
        component: int | None = None,
        batch_shape: Sequence[int] = (),
    ) -> None:
        self.logits, self.loc, self.scale_tril, self.component = logits.log_softmax(-1), loc, scale_tril, component
        super().__init__(torch.Size(batch_shape), loc.shape[-1:], validate_args=False)

    @property
    def has_rsample(self) -> bool:
        """Whether draws have gradients."""
        return self.component is not None

    @property
    def mean(self) -> Float[Tensor, "*n d"]:
        """Mean of the mixture."""
        return (self.logits.exp() @ self.loc).expand(self.batch_shape + self.event_shape)

    @property
    def variance(self) -> Float[Tensor, "*n d"]:
        """Variance of each number, within components and between them."""
        within = self.scale_tril.square().sum(-1)
        second = self.logits.exp() @ (within + self.loc.square())
        return second.expand(self.batch_shape + self.event_shape) - self.mean.square()

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> NormalMixture:
        """The same of another batch shape."""
        return NormalMixture(self.logits, self.loc, self.scale_tril, self.component, batch_shape)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "*n d"]:
        """Draws, with gradients if they come from one component."""
        shape = torch.Size(sample_shape) + self.batch_shape
        noise = torch.randn(shape + self.event_shape, dtype=self.loc.dtype, device=self.loc.device)
        if self.component is not None:
            return self.loc[self.component] + noise @ self.scale_tril[self.component].mT
        k = self.logits.exp().expand(*shape, -1).reshape(-1, len(self.logits)).multinomial(1).reshape(shape)
        return self.loc[k] + (self.scale_tril[k] @ noise[..., None])[..., 0]

    def sample(self, sample_shape: Sequence[int] = ()) -> Float[Tensor, "*n d"]:
        """Draws without gradients."""
        with torch.no_grad():
            return self.rsample(sample_shape)

    def log_prob(self, value: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
        """Log density of the whole mixture, in nats."""
        apart = (value[..., None, :] - self.loc)[..., None]
        z = torch.linalg.solve_triangular(self.scale_tril, apart, upper=False)[..., 0]
        scale = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        normal = -0.5 * z.square().sum(-1) - scale - 0.5 * z.shape[-1] * math.log(2 * math.pi)
        return (self.logits + normal).logsumexp(-1).expand(value.shape[:-1])
