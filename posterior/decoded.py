"""The distribution of rows' entries that a program ends in, its latents given or drawn from their prior."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import Distribution

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.normalise import NORMALISED
from ..data.sites import observed_sites
from ..inference.fitted import Fitted
from ..models.count_rows import CountRows, NegativeBinomialRows
from ..models.likelihoods import LIKELIHOODS, BernoulliRows
from ..models.multinomial_rows import MultinomialRows
from ..models.row_likelihood import RowLikelihood


def decoded(model: Any, batch: RowBatch, latents: Trace | None = None) -> Distribution:
    """The likelihood of a batch's rows in one run of a model.

    Args:
        model: The program.
        batch: The rows, with the covariates and totals that the program is to read.
        latents: A trace of the guide whose latents are taken; drawn from their prior if None.

    Raises:
        PlatewiseError: If the program observes anything but one site of whole rows.
    """
    program = model if latents is None else poutine.replay(model, latents)
    observed: list[Any] = [site["fn"] for site in observed_sites(poutine.trace(program).get_trace(batch)).values()]
    if len(observed) != 1 or not isinstance(observed[0], RowLikelihood):
        got = [type(fn).__name__ for fn in observed]
        raise PlatewiseError(
            f"Expected a model that observes one site of whole rows (a RowLikelihood, as in the VAE), got {got}. Use "
            "predict."
        )
    likelihood: Distribution = observed[0]
    return likelihood


def has_totals(likelihood: Distribution) -> bool:
    """Whether entries are counts, whose expectations are shares of a total."""
    return isinstance(likelihood, CountRows)


def expectation(likelihood: Distribution) -> Float[Tensor, "*s b n_cols"]:
    """Mean of each entry; with extra zeros, the negative binomial's, which those zeros hide."""
    if isinstance(likelihood, NegativeBinomialRows):
        return likelihood.log_mean.exp()
    return likelihood.mean


def shares(likelihood: Distribution) -> Float[Tensor, "*s b n_cols"]:
    """Expectations of counts as shares of their total; an empty row has some, too."""
    if isinstance(likelihood, MultinomialRows):
        return likelihood.logits.softmax(-1)
    mean = expectation(likelihood)
    return mean / mean.sum(-1, keepdim=True)


def unit_of(fitted: Fitted, library_size: float | None) -> str:
    """What expectations of a fit's entries are in, for cells' own totals or for one that they are all decoded with."""
    kind = LIKELIHOODS.get(getattr(fitted.model, "likelihood_name", ""), RowLikelihood)
    if issubclass(kind, CountRows):
        return "expected counts" if library_size is None else f"expected counts per {library_size:,.12g}"
    if kind is BernoulliRows:
        return "probability of a 1"
    return "expected log-normalised expression" if NORMALISED in fitted.meaning else "expectation of an entry"
