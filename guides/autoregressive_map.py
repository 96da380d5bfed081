"""An affine autoregressive map of vectors, and its density."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Transform, constraints


@runtime_checkable
class Autoregressive(Protocol):
    """A network that says a and b of components in an order, its `permutation`: Pyro's are such."""

    permutation: Tensor

    def __call__(self, *inputs: Tensor) -> Any:
        """One tensor each of b and a, from values and, if there is one, a context."""


class AutoregressiveMap(Transform):
    """y = exp(a(x)) x + b(x), where a_k and b_k read the components before the k-th, and a context of each row.

    Args:
        network: Autoregressive network that says b and, unbounded, a.
        context: Context of each row, (b, c); values may have particles, (..., b, d). None if the network takes none.
        bound: Of |a|, so that no input is stretched beyond control.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(
        self, network: Autoregressive, context: Float[Tensor, "*b c"] | None = None, bound: float = 1.0
    ) -> None:
        super().__init__(cache_size=1)  # the density of its own draws needs no inverse
        self.network, self.given, self.bound = network, () if context is None else (context,), bound
        self._scored: tuple[Tensor, Tensor] | None = None  # the last x, and a(x)

    def _shift_and_log_scale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        shift, raw = self.network(x, *self.given)
        return shift, self.bound * (raw / self.bound).tanh()

    def _call(self, x: Tensor) -> Tensor:
        shift, log_scale = self._shift_and_log_scale(x)
        self._scored = x, log_scale
        return log_scale.exp() * x + shift

    def _inverse(self, y: Tensor) -> Tensor:
        """One component at a time: with those before it right, the next pass gets it right."""
        x = torch.zeros_like(y)
        for k in self.network.permutation.tolist():
            shift, log_scale = self._shift_and_log_scale(x)
            x = x.index_copy(-1, torch.tensor([k], device=y.device), ((y - shift) * (-log_scale).exp())[..., [k]])
        return x

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Sum of the logarithms of scales, (..., b)."""
        if self._scored is None or self._scored[0] is not x:
            self._scored = x, self._shift_and_log_scale(x)[1]
        return self._scored[1].sum(-1)
