"""Likelihood of rows whose total is given: how each row's counts are shared among the columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from .count_rows import CountRows
from .stored import Stored


class MultinomialRows(CountRows):
    """x_i ~ Multinomial(n_i, softmax(logits_i)), where n_i is the total of the batch's row i.

    Args:
        batch: The rows, whose totals are the total counts.
        logits: Unnormalised log-probabilities of the columns, (..., b, n_cols).
        validate_args: Whether to check; by default, as Pyro's validation is set.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"logits": constraints.real_vector}
    logits: Tensor

    def __init__(self, batch: RowBatch, logits: Float[Tensor, "..."], validate_args: bool | None = None) -> None:
        super().__init__(batch, {"logits": logits}, validate_args)

    @property
    def total_count(self) -> Float[Tensor, " b"]:
        """Total of each row of the batch."""
        return self.batch.totals()

    def _log_prob(self, stored: Stored) -> Float[Tensor, " n"]:
        logits = self.flat("logits")
        at_entries, elsewhere = stored.split(logits, 0.0)
        normaliser = stored.spread(logits.logsumexp(-1).double())
        # a stored zero adds nothing, even where the share is 0
        log_share = torch.where(stored.value > 0, at_entries - normaliser, 0.0)
        terms = stored.value * log_share - torch.lgamma(stored.value + 1)
        return (torch.lgamma(stored.row_sums(stored.value) + 1) + stored.row_sums(terms)).to(elsewhere.dtype)

    def _check(self, stored: Stored) -> None:
        super()._check(stored)
        total = stored.row_sums(stored.value).view(-1, len(self.batch.rows))
        if (total != self.total_count).any():
            raise PlatewiseError(
                "Expected rows with the totals of the batch's rows, got others. Score the batch that was given."
            )

    def dense(self) -> dist.Distribution:
        """`Multinomial`, where all rows have the same total."""
        totals = self.total_count.unique().tolist()
        if len(totals) != 1:
            raise PlatewiseError(f"Expected rows of one total, got {len(totals)} totals. Take the rows one by one.")
        return dist.Multinomial(int(totals[0]), logits=self.logits, validate_args=False)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Dense draws, `sample_shape + (..., b, n_cols)`: as many columns are drawn as the largest total has counts."""
        shape = torch.Size(sample_shape) + self._batch_shape + self._event_shape
        probs = self.logits.detach().softmax(-1).expand(shape).reshape(-1, shape[-1])
        total = self.total_count.long().repeat(len(probs) // max(len(self.batch.rows), 1))
        most = int(total.max()) if len(total) else 0
        draws = torch.zeros_like(probs)
        if most:
            col = torch.multinomial(probs, most, replacement=True)
            counted = torch.arange(most, device=col.device) < total[:, None]
            draws.scatter_add_(1, col, counted.to(draws.dtype))
        return draws.view(shape)

    @property
    def mean(self) -> Tensor:
        """n_i p_ij, (..., b, n_cols)."""
        return self.total_count[:, None] * self.logits.softmax(-1)

    @property
    def variance(self) -> Tensor:
        """n_i p_ij (1 - p_ij), (..., b, n_cols)."""
        return self.mean * (1 - self.logits.softmax(-1))
