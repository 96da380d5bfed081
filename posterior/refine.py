"""What amortisation costs: each row's own posterior, climbed to from the encoder's.

An encoder answers for all rows at once; the best member of its family for row i is another one. From the encoder's
answer, gradient steps on a row's own location and scales climb

    ELBO_i(q) = E_q[log p(x_i | z)] - D[q || p(z)]

with the model as it is. What the steps gain is how much the encoder gives away (the amortisation gap).

References:
    Cremer, Li and Duvenaud (2018), Inference suboptimality in variational autoencoders.
    Kim, Wiseman, Miller, Sontag and Rush (2018), Semi-amortized variational autoencoders.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import anndata as ad
import pandas as pd
import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal, kl_divergence

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.sites import observed_sites
from ..guides import AmortizedFullNormal, AmortizedNormal
from ..inference.fitted import Fitted
from .covariates import Covariates
from .embed import vectors_of, write_embedding
from .rows import rows_of

STEP_DRAWS = 4  # draws of each row for one gradient

Leaves = dict[str, tuple[Tensor, Tensor]]  # of each site: locations; log scales, or with the triangle below them


def refine(
    fitted: Fitted,
    data: ad.AnnData,
    *,
    steps: int = 100,
    learning_rate: float = 0.05,
    draws: int = 200,
    key: str | None = None,
    covariates: Covariates | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Climb from the encoder's posterior of each row to the row's own, and say what was gained.

    Both bounds are means over the same draws, made after the steps: each is an unbiased estimate of a lower bound of
    the row's log evidence. A row whose bound did not rise keeps the encoder's answer, which is decided on draws of
    their own, so that the report is not of the luckiest; a gap may thus come out a little below 0. The gap is an
    estimate of what these steps found: in expectation no more than the amortisation gap (the best of the family less
    the encoder's), and no bound of what the family itself costs.

    Args:
        fitted: A fit by `AmortizedNormal` or `AmortizedFullNormal`; left as it is.
        data: The rows, on the columns of the fit by name; they need not be rows of the fit.
        steps: Gradient steps for each row, by Adam; the step size falls to 0 along a cosine.
        learning_rate: Step size at the start, on locations and on logarithms of scales.
        draws: Draws of each row for the choice, and as many for the report.
        key: Where in `data.obsm` to put the refined means; standard deviations go to `key + "_sd"`. None: nowhere.
        covariates: Those of the fit, for the rows of `data`.
        seed: Seed of the draws.

    Returns:
        One row per row of `data`, by name, in nats: `elbo_amortised`, `elbo_refined`, and `gap`, the second less the
        first.

    Raises:
        PlatewiseError: If a number is out of range, the guide is of another family, or the data do not fit the fit.
    """
    _refuse_unfit(fitted, steps, learning_rate, draws)
    bounds, embeddings = [], []
    with rows_of(fitted, data, covariates, seed) as loader:
        for batch in loader.in_order():
            start = {name: _leaves(q) for name, q in fitted.guide.posterior(batch).items()}  # type: ignore[operator]
            climbed = _climb(fitted.model, batch, start, steps, learning_rate)
            own = _better(fitted.model, batch, start, climbed, draws)
            bounds.append(_bounds_of_both(fitted.model, batch, start, own, draws))
            if key is not None:
                q = vectors_of(fitted, _posterior(own))
                embeddings.append((q.mean, q.stddev))
    if key is not None:
        write_embedding(data, key, *(torch.cat(part) for part in zip(*embeddings, strict=True)))
    found = pd.DataFrame(torch.cat(bounds).cpu().numpy(), data.obs_names, ["elbo_amortised", "elbo_refined"])
    return found.assign(gap=found["elbo_refined"] - found["elbo_amortised"])


def _refuse_unfit(fitted: Fitted, steps: int, learning_rate: float, draws: int) -> None:
    if not isinstance(fitted.guide, AmortizedNormal | AmortizedFullNormal):
        raise PlatewiseError(
            f"Expected a fit by AmortizedNormal or AmortizedFullNormal, got one by {type(fitted.guide).__name__}, "
            "which has no location and scales of a row to climb by. Fit one of these."
        )
    if steps < 1 or draws < 1 or not (math.isfinite(learning_rate) and learning_rate > 0):
        raise PlatewiseError(
            f"Expected steps and draws of at least 1 and a positive learning_rate, got {steps}, {draws} and "
            f"{learning_rate}. Leave them out for the defaults."
        )


def _climb(model: nn.Module, batch: RowBatch, start: Leaves, steps: int, learning_rate: float) -> Leaves:
    """Adam on each row's leaves, which are independent of other rows': its moments are kept element by element."""
    own = {name: (loc.clone().requires_grad_(), raw.clone().requires_grad_()) for name, (loc, raw) in start.items()}
    flat = [x for pair in own.values() for x in pair]
    optimizer = torch.optim.Adam(flat, learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        with torch.enable_grad():
            loss = -_bounds(model, batch, _posterior(own), _noise(own, STEP_DRAWS)).sum()
        for x, grad in zip(flat, torch.autograd.grad(loss, flat), strict=True):
            x.grad = grad
        optimizer.step()
        schedule.step()
    return {name: (loc.detach(), raw.detach()) for name, (loc, raw) in own.items()}


def _better(model: nn.Module, batch: RowBatch, start: Leaves, climbed: Leaves, draws: int) -> Leaves:
    """Of each row the leaves with the higher bound; one that is not finite is not higher."""
    before, after = _bounds_of_both(model, batch, start, climbed, draws).unbind(-1)
    rose = after > before

    def chosen(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(rose.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    return {name: (chosen(climbed[name][0], loc), chosen(climbed[name][1], raw)) for name, (loc, raw) in start.items()}


def _bounds_of_both(model: nn.Module, batch: RowBatch, one: Leaves, other: Leaves, draws: int) -> Float[Tensor, "b 2"]:
    """Both posteriors' bounds of each row, by the same noise; draw by draw: memory does not grow with their number."""
    posteriors = [_posterior(one), _posterior(other)]
    total = torch.zeros(len(batch.rows), 2, dtype=torch.float64, device=batch.rows.device)
    for _ in range(draws):
        noise = _noise(one, 1)
        total += torch.stack([_bounds(model, batch, q, noise) for q in posteriors], -1)
    return total / draws


def _bounds(
    model: nn.Module, batch: RowBatch, posterior: Mapping[str, Distribution], noise: Mapping[str, Tensor]
) -> Float[Tensor, " b"]:
    """ELBO_i(q) of each row, the mean over draws; divergences in closed form where there is one."""
    z = {name: _draw(q, noise[name]) for name, q in posterior.items()}
    with pyro.plate("particles", len(next(iter(noise.values()))), dim=-2):
        p = poutine.trace(poutine.condition(model, data=z)).get_trace(batch)
    data = [site["fn"].log_prob(site["value"]) for name, site in observed_sites(p).items() if name not in z]
    kl = [_divergence(q, p.nodes[name]["fn"], z[name]) for name, q in posterior.items()]
    total: Tensor = sum(data, start=batch.value.new_zeros(())) - sum(kl)
    return total.mean(0)


def _divergence(q: Distribution, prior: Distribution, value: Tensor) -> Tensor:
    try:
        return kl_divergence(q, prior)
    except NotImplementedError:
        return q.log_prob(value) - prior.log_prob(value)


def _leaves(q: Distribution) -> tuple[Tensor, Tensor]:
    """Numbers without constraint that describe a normal: those that the guides' encoders say."""
    if not isinstance(q, MultivariateNormal):
        return q.mean, q.stddev.log()
    scale = q.scale_tril.diagonal(dim1=-2, dim2=-1)
    return q.loc, (q.scale_tril / scale[..., None]).tril(-1) + torch.diag_embed(scale.log())


def _posterior(leaves: Leaves) -> dict[str, Distribution]:
    return {name: _normal(*pair) for name, pair in leaves.items()}


def _normal(loc: Tensor, raw: Tensor) -> Distribution:
    """The normal with these leaves: of numbers (b,), of vectors (b, d), or with a triangle (b, d, d)."""
    if raw.ndim < 3:
        return dist.Normal(loc, raw.exp()).to_event(raw.ndim - 1)
    scale = raw.diagonal(dim1=-2, dim2=-1).exp()
    unit = raw.tril(-1) + torch.diag_embed(torch.ones_like(scale))
    return dist.MultivariateNormal(loc, scale_tril=scale[..., None] * unit)


def _noise(leaves: Leaves, draws: int) -> dict[str, Tensor]:
    return {name: torch.randn_like(loc.expand(draws, *loc.shape)) for name, (loc, _) in leaves.items()}


def _draw(q: Distribution, noise: Tensor) -> Tensor:
    """The draw that standard normal noise becomes: the same noise serves two posteriors."""
    if isinstance(q, MultivariateNormal):
        return q.loc + (q.scale_tril @ noise[..., None])[..., 0]
    return q.mean + q.stddev * noise
