"""How likely held-out rows are: two lower bounds of a row's log evidence, given the trained model.

    ELBO_i = E_q[log w_i]     IW_i(S) = E_q[log 1/S sum_s w_is]     w = p(x_i, z) / q(z | x_i), z ~ q

The second rises with S towards log p(x_i) and is a bound all the same. Weights are taken row by row: over a batch
together they would say nothing.

References:
    Burda, Grosse and Salakhutdinov (2016), Importance weighted autoencoders.
"""

from __future__ import annotations

import math

import anndata as ad
import pandas as pd
import torch
from jaxtyping import Float
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.sites import latent_sites, observed_sites
from ..inference.fitted import Fitted
from .covariates import Covariates
from .guide_draws import guide_draws
from .rows import rows_of


def score_rows(
    fitted: Fitted, data: ad.AnnData, *, draws: int = 200, covariates: Covariates | None = None, seed: int = 0
) -> pd.DataFrame:
    """Bounds of each row's log evidence.

    Args:
        fitted: A fit whose latents are all of rows: a VAE.
        data: The rows, on the columns of the fit by name; they need not be rows of the fit.
        draws: Draws of each row's latents, S.
        covariates: Those of the fit, an array with one row per row of `data` or a Series or DataFrame by row id each.
        seed: Seed of the draws.

    Returns:
        One row per row of `data`, by name, in nats: `elbo`, the mean of the log weights over the draws;
        `log_likelihood_iw`, the importance-weighted bound with these draws; `effective_draws`, how many of the draws
        the weights amount to (Kish): near 1, the second bound is loose.

    Raises:
        PlatewiseError: If the fit has other latents, or the data do not fit it.
    """
    if draws < 1:
        raise PlatewiseError(f"Expected at least 1 draw, got {draws}. Leave it out for 200.")
    with rows_of(fitted, data, covariates, seed) as loader:
        found = torch.cat([_bounds(fitted, batch, draws) for batch in loader.in_order()]).cpu().numpy()
    return pd.DataFrame(found, index=data.obs_names, columns=["elbo", "log_likelihood_iw", "effective_draws"])


def _bounds(fitted: Fitted, batch: RowBatch, draws: int) -> Float[Tensor, "b 3"]:
    """The three figures of each row, draw by draw: memory does not grow with their number."""
    total = batch.value.new_zeros(len(batch.rows), dtype=torch.float64)
    summed, squared = torch.full_like(total, -math.inf), torch.full_like(total, -math.inf)
    for q in guide_draws(fitted.guide, batch, draws):
        weight = _log_weights(fitted, batch, q).double()
        total += weight
        summed, squared = torch.logaddexp(summed, weight), torch.logaddexp(squared, 2 * weight)
    return torch.stack([total / draws, summed - math.log(draws), (2 * summed - squared).exp()], -1)


def _log_weights(fitted: Fitted, batch: RowBatch, q: Trace) -> Float[Tensor, " b"]:
    """Log p(x_i, z_i) - log q(z_i | x_i) of one draw of each row's latents."""
    p = poutine.trace(poutine.replay(fitted.model, q)).get_trace(batch)
    joint = sum(site["fn"].log_prob(site["value"]) for site in (latent_sites(p) | observed_sites(p)).values())
    return joint - sum(site["fn"].log_prob(site["value"]) for site in latent_sites(q).values())
