"""Likelihoods of rows of counts: Poisson, negative binomial, and negative binomial with extra zeros.

References:
    Gronbech et al. (2020), scVAE: variational auto-encoders for single-cell gene expression data.
    Lopez et al. (2018), Deep generative modeling for single-cell transcriptomics.
"""

from __future__ import annotations

from typing import ClassVar

import pyro.distributions as dist
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import constraints

from ..data.batches import RowBatch
from .negative_binomial import bounded_log, inflated_zeros_log_prob, softplus, zeros_log_prob
from .negative_binomial_compiled import compiled_log_prob, is_compiled
from .row_likelihood import RowLikelihood
from .stored import Stored


class CountRows(RowLikelihood):
    """Rows of counts."""

    entry = constraints.nonnegative_integer
    entry_is = "counts (whole numbers, 0 or more)"


class PoissonRows(CountRows):
    """x_ij ~ Poisson(exp(log_rate_ij)).

    Args:
        batch: The rows.
        log_rate: Logarithm of the rate, (..., b, n_cols).
        validate_args: Whether to check; by default, as Pyro's validation is set.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"log_rate": constraints.real_vector}
    log_rate: Tensor

    def __init__(self, batch: RowBatch, log_rate: Float[Tensor, "..."], validate_args: bool | None = None) -> None:
        super().__init__(batch, {"log_rate": log_rate}, validate_args)

    def _log_prob(self, stored: Stored) -> Float[Tensor, " n"]:
        log_rate, elsewhere = stored.split(self.flat("log_rate"), -torch.inf)
        terms = stored.value * log_rate - log_rate.exp() - torch.lgamma(stored.value + 1)
        return (stored.row_sums(terms) - elsewhere.exp().sum(-1)).to(elsewhere.dtype)

    def dense(self) -> dist.Distribution:
        """Independent `Poisson`."""
        return dist.Poisson(self.log_rate.exp(), validate_args=False).to_event(1)


class NegativeBinomialRows(CountRows):
    """x_ij ~ NegativeBinomial(mean mu_ij, inverse dispersion theta_j): variance mu + mu^2 / theta.

    An inverse dispersion outside 1e-4 to 1e4 is drawn back smoothly to within a factor of e of these bounds
    (`negative_binomial.bounded_log`); inside it is taken as it is.

    Args:
        batch: The rows.
        log_mean: log mu, (..., b, n_cols).
        log_inverse_dispersion: log theta, per column (n_cols,) or per entry (..., b, n_cols).
        validate_args: Whether to check; by default, as Pyro's validation is set.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "log_mean": constraints.real_vector,
        "log_inverse_dispersion": constraints.real_vector,
    }
    log_mean: Tensor
    log_inverse_dispersion: Tensor

    def __init__(
        self,
        batch: RowBatch,
        log_mean: Float[Tensor, "..."],
        log_inverse_dispersion: Float[Tensor, "..."],
        validate_args: bool | None = None,
    ) -> None:
        parameters = {"log_mean": log_mean, "log_inverse_dispersion": log_inverse_dispersion}
        super().__init__(batch, parameters, validate_args)

    def _log_prob(self, stored: Stored) -> Float[Tensor, " n"]:
        log_mean, log_theta = self.flat("log_mean"), bounded_log(self.flat("log_inverse_dispersion"))
        if is_compiled(log_mean):
            return compiled_log_prob(stored, log_mean, log_theta)
        at_entries, elsewhere = stored.split(log_theta, 0.0)
        zeros, log_mean_at_entries = zeros_log_prob(log_mean, elsewhere, stored.flat)
        terms = _log_prob_of_entries(stored, log_mean_at_entries.double(), at_entries, log_theta)
        return (stored.row_sums(terms) + zeros).to(log_mean.dtype)

    def dense(self) -> dist.Distribution:
        """Independent `NegativeBinomial`."""
        log_theta = bounded_log(self.log_inverse_dispersion)
        entries = dist.NegativeBinomial(log_theta.exp(), logits=self.log_mean - log_theta, validate_args=False)
        return entries.to_event(1)


class NegativeBinomialShares(NegativeBinomialRows):
    """x_ij ~ NegativeBinomial(mean l_i softmax(f_i)_j, inverse dispersion theta_j): rows of known or drawn sizes.

    The same as `NegativeBinomialRows` of log_softmax(f) + log l, whose matrix is not made where it can be helped.

    Args:
        batch: The rows.
        logits: f, (..., b, n_cols).
        log_size: log l, (..., b).
        log_inverse_dispersion: log theta, per column (n_cols,) or per entry (..., b, n_cols); bounded as there.
        validate_args: Whether to check; by default, as Pyro's validation is set.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "logits": constraints.real_vector,
        "log_size": constraints.real,
        "log_inverse_dispersion": constraints.real_vector,
    }
    logits: Tensor
    log_size: Tensor

    def __init__(
        self,
        batch: RowBatch,
        logits: Float[Tensor, "..."],
        log_size: Float[Tensor, "..."],
        log_inverse_dispersion: Float[Tensor, "..."],
        validate_args: bool | None = None,
    ) -> None:
        self.log_size = log_size
        parameters = {"logits": logits, "log_inverse_dispersion": log_inverse_dispersion}
        super(NegativeBinomialRows, self).__init__(batch, parameters, validate_args)

    @property
    def log_mean(self) -> Float[Tensor, "..."]:  # type: ignore[override]
        """Log mu, (..., b, n_cols)."""
        return torch.log_softmax(self.logits, -1) + self.log_size[..., None]

    def _log_prob(self, stored: Stored) -> Float[Tensor, " n"]:
        logits = self.flat("logits")
        if not is_compiled(logits):
            return super()._log_prob(stored)
        log_size = self.log_size.expand(self.batch_shape).reshape(-1)
        return compiled_log_prob(stored, logits, bounded_log(self.flat("log_inverse_dispersion")), log_size)


class ZeroInflatedNegativeBinomialRows(NegativeBinomialRows):
    """x_ij is 0 with probability pi_ij, and otherwise ~ NegativeBinomial(mean mu_ij, inverse dispersion theta_j).

    Args:
        batch: The rows.
        log_mean: log mu, (..., b, n_cols): of the negative binomial, without the extra zeros.
        log_inverse_dispersion: log theta, per column (n_cols,) or per entry (..., b, n_cols); bounded as there.
        zero_logits: logit of pi, per entry (..., b, n_cols), per column (n_cols,), or one.
        validate_args: Whether to check; by default, as Pyro's validation is set.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        **NegativeBinomialRows.arg_constraints,
        "zero_logits": constraints.real_vector,
    }
    zero_logits: Tensor

    def __init__(
        self,
        batch: RowBatch,
        log_mean: Float[Tensor, "..."],
        log_inverse_dispersion: Float[Tensor, "..."],
        zero_logits: Float[Tensor, "..."],
        validate_args: bool | None = None,
    ) -> None:
        parameters = {
            "log_mean": log_mean,
            "log_inverse_dispersion": log_inverse_dispersion,
            "zero_logits": zero_logits,
        }
        super(NegativeBinomialRows, self).__init__(batch, parameters, validate_args)

    def _log_prob(self, stored: Stored) -> Float[Tensor, " n"]:
        log_mean, log_theta = self.flat("log_mean"), bounded_log(self.flat("log_inverse_dispersion"))
        at_entries, elsewhere = stored.split(log_theta, 0.0)
        zero_logits, zero_elsewhere = stored.split(self.flat("zero_logits").expand_as(log_mean), 0.0)
        zeros, log_mean_at_entries = inflated_zeros_log_prob(log_mean, elsewhere, zero_elsewhere, stored.flat)
        terms = _log_prob_of_entries(stored, log_mean_at_entries.double(), at_entries, log_theta)
        return (stored.row_sums(_inflated(stored, terms, zero_logits)) + zeros).to(log_mean.dtype)

    def dense(self) -> dist.Distribution:
        """Independent `ZeroInflatedNegativeBinomial`."""
        log_theta = bounded_log(self.log_inverse_dispersion)
        entries = dist.ZeroInflatedNegativeBinomial(
            log_theta.exp(),
            logits=self.log_mean - log_theta,
            gate_logits=self.zero_logits.expand_as(self.log_mean),
            validate_args=False,
        )
        return entries.to_event(1)


def _log_prob_of_entries(
    stored: Stored, log_mean: Float[Tensor, " e"], log_theta: Float[Tensor, " e"], everywhere: Tensor
) -> Float[Tensor, " e"]:
    """Log-probability of each entry, of the negative binomial; log theta at the entries, and as it was given."""
    x, s, total = stored.value, log_mean - log_theta, stored.value + log_theta.exp()
    if everywhere.ndim == 1:  # one log-gamma per column, not per entry
        lgamma_theta, _ = stored.split(torch.lgamma(everywhere.double().exp()), 0.0)
    else:
        lgamma_theta = torch.lgamma(log_theta.exp())
    coefficient = torch.lgamma(total) - lgamma_theta - torch.lgamma(x + 1)
    return torch.addcmul(coefficient, x, s).addcmul(total, softplus(s), value=-1)


def _inflated(stored: Stored, terms: Float[Tensor, " e"], zero_logits: Float[Tensor, " e"]) -> Float[Tensor, " e"]:
    """Log-probability of each entry with extra zeros: a zero may be stored too."""
    extra = torch.where(stored.value == 0, F.softplus(terms - zero_logits), terms - zero_logits)
    return extra + F.logsigmoid(zero_logits)
