"""Likelihoods of rows of a sparse matrix, as Pyro distributions, and their names.

Each is made with the batch whose entries it scores, and observes their values; what is not stored is a zero:

    with batch.row_plate("cells"):
        pyro.sample("count", NegativeBinomialRows(batch, log_mean, log_inverse_dispersion), obs=batch.value)

| name                              | distribution of an entry            | parameters                              |
|-----------------------------------|-------------------------------------|-----------------------------------------|
| `gaussian`                        | Normal(mean, scale)                 | `mean`, `scale`                         |
| `bernoulli`                       | Bernoulli(sigmoid(logits))          | `logits`                                |
| `multinomial`                     | rows: Multinomial(total, softmax)   | `logits`                                |
| `poisson`                         | Poisson(exp(log_rate))              | `log_rate`                              |
| `negative-binomial`               | NB(mean, inverse dispersion)        | `log_mean`, `log_inverse_dispersion`    |
| `zero-inflated-negative-binomial` | 0 with probability pi, otherwise NB | as before, and `zero_logits` = logit pi |
"""

from __future__ import annotations

import math
from typing import ClassVar

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from ..data.batches import RowBatch
from .count_rows import NegativeBinomialRows, PoissonRows, ZeroInflatedNegativeBinomialRows
from .multinomial_rows import MultinomialRows
from .row_likelihood import RowLikelihood
from .stored import Stored


class BernoulliRows(RowLikelihood):
    """x_ij ~ Bernoulli(sigmoid(logits_ij)): stored values are 1, or 0.

    Args:
        batch: The rows.
        logits: Log-odds of a 1, (..., b, n_cols).
        validate_args: Whether to check; by default, as Pyro's validation is set.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"logits": constraints.real_vector}
    entry = constraints.boolean
    entry_is = "values that are 1 or 0"
    logits: Tensor

    def __init__(self, batch: RowBatch, logits: Float[Tensor, "..."], validate_args: bool | None = None) -> None:
        super().__init__(batch, {"logits": logits}, validate_args)

    def _log_prob(self, stored: Stored) -> Float[Tensor, " n"]:
        logits, elsewhere = stored.split(self.flat("logits"), -torch.inf)
        terms = stored.value * F.logsigmoid(logits) + (1 - stored.value) * F.logsigmoid(-logits)
        return (stored.row_sums(terms) - F.softplus(elsewhere).sum(-1)).to(elsewhere.dtype)

    def dense(self) -> dist.Distribution:
        """Independent `Bernoulli`."""
        return dist.Bernoulli(logits=self.logits, validate_args=False).to_event(1)


class GaussianRows(RowLikelihood):
    """x_ij ~ Normal(mean_ij, scale_j^2), zeros where nothing is stored included.

    Args:
        batch: The rows.
        mean: (..., b, n_cols).
        scale: Standard deviation, one number () or one per column (n_cols,), positive.
        validate_args: Whether to check; by default, as Pyro's validation is set.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "loc": constraints.real_vector,
        "scale": constraints.independent(constraints.positive, 1),
    }
    entry = constraints.real
    entry_is = "numbers"
    loc: Tensor
    scale: Tensor

    def __init__(
        self,
        batch: RowBatch,
        mean: Float[Tensor, "..."],
        scale: Float[Tensor, "..."],
        validate_args: bool | None = None,
    ) -> None:
        super().__init__(batch, {"loc": mean, "scale": scale}, validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=1)
    def support(self) -> constraints.Constraint:
        """Any row of numbers."""
        return constraints.real_vector

    def _log_prob(self, stored: Stored) -> Float[Tensor, " n"]:
        loc, elsewhere = stored.split(self.flat("loc"), 0.0)
        scale, scale_elsewhere = stored.split(self.flat("scale"), 1.0)
        # the normalising constant is that of all columns, the squares at the entries are apart
        constant = self.flat("scale").double().log().sum(-1) + math.log(2 * math.pi) * elsewhere.shape[-1] / 2
        squares = stored.row_sums(((stored.value - loc) / scale).square())
        return (-(squares + (elsewhere / scale_elsewhere).square().sum(-1)) / 2 - constant).to(elsewhere.dtype)

    def dense(self) -> dist.Distribution:
        """Independent `Normal`."""
        return dist.Normal(self.loc, self.scale, validate_args=False).to_event(1)


LIKELIHOODS: dict[str, type[RowLikelihood]] = {
    "gaussian": GaussianRows,
    "bernoulli": BernoulliRows,
    "multinomial": MultinomialRows,
    "poisson": PoissonRows,
    "negative-binomial": NegativeBinomialRows,
    "zero-inflated-negative-binomial": ZeroInflatedNegativeBinomialRows,
}
"""Classes by name."""
