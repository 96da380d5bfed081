"""`RowLikelihood`: a distribution over whole rows of a sparse matrix, scored at the entries that a batch stores.

A density of a row is a sum over all columns, of which nearly all hold a zero. What a zero adds is one cheap term,
summed over the dense parameters; what is dear (log-gamma) vanishes at zero and is taken at the stored entries alone.
The stored entries are worked out in float64, where terms of size 1e5 may cancel down to the answer.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import Distribution, TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from .stored import Stored, stored_of


class RowLikelihood(TorchDistribution):
    """Rows of independent entries: batch shape (..., b), event shape (n_cols,).

    A subclass says `_log_prob` (the sum over the columns, for a `Stored`) and `dense` (the same distribution of dense
    rows); draws and moments are those of `dense`.

    Args:
        batch: The batch whose rows these are: its entries are what a vector of values stands for.
        parameters: By name: of shape (..., b, n_cols) with particles first, or one number per column (n_cols,), or one
            for all. At least the first has the full shape.
        validate_args: Whether parameters and values are checked; by default, as Pyro's validation is set.

    Raises:
        PlatewiseError: On parameters of another shape.
    """

    entry: constraints.Constraint
    entry_is: str

    def __init__(self, batch: RowBatch, parameters: Mapping[str, Tensor], validate_args: bool | None = None) -> None:
        self.batch = batch
        self._names = tuple(parameters)
        shape = _full_shape(batch, parameters)
        for name, x in parameters.items():
            setattr(self, name, x.expand(shape[-1:] if x.ndim < 2 else shape))
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Rows whose every entry is one of the likelihood's."""
        return constraints.independent(self.entry, 1)

    def dense(self) -> Distribution:
        """The same distribution without a batch, over dense rows."""
        raise NotImplementedError

    def _log_prob(self, stored: Stored) -> Float[Tensor, " n"]:
        """Log density of each row, particles' rows one after the other."""
        raise NotImplementedError

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density or mass of each row, normalising constants included.

        Args:
            value: Values (e,) of the entries that the batch stores, all others being zero; or dense rows
                (..., b, n_cols).

        Returns:
            Of shape (..., b).

        Raises:
            PlatewiseError: On another shape; under validation, on values that cannot be.
        """
        stored, shape = stored_of(self.batch, value, self.batch_shape)
        if self._validate_args:
            self._check(stored)
        return self.expand(shape)._log_prob(stored).reshape(shape)

    def _check(self, stored: Stored) -> None:
        valid = self.entry.check(stored.value)
        if not valid.all():
            wrong = stored.value[~valid][0].item()
            raise PlatewiseError(f"Expected {self.entry_is}, got {wrong:g}. Choose a likelihood for such values.")

    def flat(self, name: str) -> Tensor:
        """A parameter as a matrix (n, n_cols), particles' rows one after the other; (n_cols,) stays."""
        x: Tensor = getattr(self, name)
        return x if x.ndim == 1 else x.reshape(-1, x.shape[-1])

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> RowLikelihood:
        """The distribution with further particles."""
        new = copy.copy(self)
        new._batch_shape = torch.Size(batch_shape)
        for name in self._names:
            x = getattr(self, name)
            if x.ndim > 1:
                setattr(new, name, x.expand(new._batch_shape + self.event_shape))
        return new

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Dense draws, `sample_shape + (..., b, n_cols)`."""
        draws: Tensor = self.dense().sample(torch.Size(sample_shape))
        return draws

    @property
    def mean(self) -> Tensor:
        """Expectation of each entry, (..., b, n_cols)."""
        return self.dense().mean.expand(self._batch_shape + self._event_shape)

    @property
    def variance(self) -> Tensor:
        """Variance of each entry, (..., b, n_cols)."""
        return self.dense().variance.expand(self._batch_shape + self._event_shape)


def _full_shape(batch: RowBatch, parameters: Mapping[str, Tensor]) -> torch.Size:
    """The shape (..., b, n_cols) that the parameters have together."""
    b, n_cols = len(batch.rows), batch.n_cols
    for i, (name, x) in enumerate(parameters.items()):
        if x.shape[-2:] == (b, n_cols) or (i and x.shape in ((), (n_cols,))):
            continue
        forms = f"(..., {b}, {n_cols})" + (f" or ({n_cols},)" if i else "")
        raise PlatewiseError(
            f"Expected {name} of shape {forms}, got {tuple(x.shape)}. The batch has {b} rows and {n_cols} columns."
        )
    shapes = [x.shape for x in parameters.values()]
    try:
        return torch.broadcast_shapes(*shapes)
    except RuntimeError:
        listed = ", ".join(f"{name} {tuple(x.shape)}" for name, x in parameters.items())
        raise PlatewiseError(
            f"Expected parameters with the same particles, got {listed}. Give all of them, or all but one, none."
        ) from None
