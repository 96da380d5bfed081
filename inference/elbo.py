"""Evidence lower bounds of a batch: with the likelihood sampled, or in closed form.

    ELBO = E_q[log p(data | latents)] - sum over sites D[q(site) || p(site)]

Both are modules called with a `RowBatch`; both estimate the bound on all the data without bias over random batches.
Divergences are in closed form where one is registered, and otherwise log q - log p at the draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import pyro
from pyro import poutine
from pyro.distributions import Delta
from pyro.distributions.util import scale_and_mask
from pyro.poutine.trace_struct import Trace
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.sites import latent_sites, observed_sites
from .contract import check_particles
from .protocols import Stratifies, has_closed_form

Likelihood = Literal["auto", "closed-form", "sampled"]


class SampledELBO(nn.Module):
    """The bound with the likelihood at draws from the guide, reparameterised.

    Args:
        model: A model of the contract.
        guide: Its guide.
        particles: Draws per evaluation, vectorised.
    """

    def __init__(self, model: nn.Module, guide: nn.Module, particles: int = 1) -> None:
        super().__init__()
        self.model, self.guide, self.particles = model, guide, particles
        self._nesting: int | None = None

    def forward(self, batch: RowBatch) -> Tensor:
        """The bound on the log evidence of all the data, in nats, estimated from a batch."""
        data, kl = self.terms(batch)
        return data - kl

    def terms(self, batch: RowBatch) -> tuple[Tensor, Tensor]:
        """Expected log-likelihood and divergence of the latents: the bound is the first less the second."""
        if not isinstance(self.guide, Stratifies):
            return self._terms(self.guide, batch)
        zero = batch.value.new_zeros(())
        terms = [(weight, *self._terms(program, batch)) for weight, program in self.guide.strata()]
        return sum((w * data for w, data, _ in terms), start=zero), sum((w * kl for w, _, kl in terms), start=zero)

    def _terms(self, guide: Callable[[RowBatch], Any], batch: RowBatch) -> tuple[Tensor, Tensor]:
        with self.particle_plate(batch):
            q = poutine.trace(guide).get_trace(batch)
            p = poutine.trace(poutine.replay(self.model, q)).get_trace(batch)
        zero = batch.value.new_zeros(())
        data = sum((_log_prob(site) for site in observed_sites(p).values()), start=zero)
        return data / self.particles, sum(_divergences(q, p), start=zero) / self.particles

    def particle_plate(self, batch: RowBatch) -> AbstractContextManager[Any]:
        """The plate of draws, left of all others; nothing where there is one."""
        if self.particles == 1:
            return nullcontext()
        nesting = self.find_nesting(batch) if self._nesting is None else self._nesting
        return pyro.plate("particles", self.particles, dim=-1 - nesting)

    def find_nesting(self, batch: RowBatch) -> int:
        """Find, by running model and guide once, how many batch axes their plates use; particles stand left of them."""
        q = poutine.trace(self.guide).get_trace(batch)
        p = poutine.trace(poutine.replay(self.model, q)).get_trace(batch)
        self._nesting = max(plate_nesting(q), plate_nesting(p))
        return self._nesting


class ClosedFormELBO(nn.Module):
    """The bound with the expected log-likelihood of every entry in closed form: no noise but the batch's.

    Args:
        model: A model with `prior` and `expected_log_likelihood`.
        guide: A guide with `posterior`: independent blocks.
    """

    def __init__(self, model: Any, guide: Any) -> None:
        super().__init__()
        self.model, self.guide = model, guide

    def forward(self, batch: RowBatch) -> Tensor:
        """The bound on the log evidence of all the data, in nats, estimated from a batch."""
        data, kl = self.terms(batch)
        return data - kl

    def terms(self, batch: RowBatch) -> tuple[Tensor, Tensor]:
        """Expected log-likelihood and divergence of the latents: the bound is the first less the second."""
        q = self.guide.posterior(batch)
        return batch.scale * self.model.expected_log_likelihood(batch, q), self.divergence(batch, q)

    def divergence(self, batch: RowBatch, q: Mapping[str, Distribution]) -> Tensor:
        """The KL term: the sum over latent sites, row sites scaled up from the batch."""
        draws = {name: block.rsample() for name, block in q.items()}  # for priors that depend on other sites
        trace = poutine.trace(poutine.condition(self.model.prior, data=draws)).get_trace(batch)
        terms = (divergence(q[name], trace.nodes[name], draws[name]) for name in q)
        total: Tensor = sum(terms, start=batch.value.new_zeros(()))
        return total


def elbo_of(
    model: nn.Module, guide: nn.Module, batch: RowBatch, likelihood: Likelihood = "auto", particles: int = 1
) -> SampledELBO | ClosedFormELBO:
    """The bound in closed form where model and guide allow it, or as asked for.

    Raises:
        PlatewiseError: If a closed form is asked for and there is none.
    """
    closed = likelihood != "sampled" and not isinstance(guide, Stratifies) and has_closed_form(model, guide, batch)
    if likelihood == "closed-form" and not closed:
        raise PlatewiseError(
            f"Expected a closed form of {type(model).__name__}'s likelihood under {type(guide).__name__}, got none. "
            "Use likelihood='sampled'."
        )
    if closed:
        return ClosedFormELBO(model, guide)
    sampled = SampledELBO(model, guide, particles)
    if particles > 1:
        sampled.find_nesting(batch)  # now: it draws, and a fit that goes on restores the generators after this
        check_particles(model, guide, batch, sampled.particle_plate(batch))
    return sampled


def divergence(q: Distribution, prior_site: Mapping[str, Any], value: Tensor) -> Tensor:
    """D[q || prior] summed over a site's elements, scaled as the model's site is."""
    try:
        if isinstance(q, Delta):  # part of a joint: Pyro's closed form forgets the density of the change of variables
            raise NotImplementedError
        kl = kl_divergence(q, prior_site["fn"])
    except NotImplementedError:
        kl = q.log_prob(value) - prior_site["fn"].log_prob(value)
    total: Tensor = scale_and_mask(kl, prior_site["scale"], prior_site["mask"]).sum()
    return total


def plate_nesting(trace: Trace) -> int:
    """Number of batch axes that the plates of a trace use."""
    dims = [-f.dim for s in trace.nodes.values() for f in s.get("cond_indep_stack", ()) if f.dim is not None]
    return max(dims, default=0)


def _divergences(q: Trace, p: Trace) -> Iterator[Tensor]:
    """One term a latent site. In closed form only where guide and model name their sites in the same order.

    The closed form holds if no latent that a site's prior depends on is drawn after the site in the guide.
    """
    same_order = [name for name in latent_sites(q) if name in p.nodes] == list(latent_sites(p))
    for name, site in latent_sites(q).items():
        if not site["fn"].has_rsample:
            raise PlatewiseError(
                f"Expected guide site {name!r} to be reparameterised, got {type(site['fn']).__name__} without rsample. "
                "Use a family that has it, or sum the site out."
            )
        if name not in p.nodes:  # auxiliary: the guide's own
            yield _log_prob(site)
        elif same_order:
            yield divergence(site["fn"], p.nodes[name], site["value"])
        else:
            yield _log_prob(site) - _log_prob(p.nodes[name])


def _log_prob(site: Mapping[str, Any]) -> Tensor:
    log_prob = site["fn"].log_prob(site["value"])
    total: Tensor = scale_and_mask(log_prob, site["scale"], site["mask"]).sum()
    return total
