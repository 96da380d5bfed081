"""What leave-one-out needs of some entries: draws of the latents, and how likely each finds an entry.

Entries that a model observes one by one are drawn as its predictive distributions are. Of a model that observes whole
rows, some rows are run with all their entries, and some columns of each are looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor
from torch.distributions import Normal

from ..data.errors import PlatewiseError
from ..data.sites import latent_sites, observed_sites
from ..models.multinomial_rows import MultinomialRows
from ..models.row_likelihood import RowLikelihood
from .blocks import Request
from .draws import draws, entry_site
from .guide_draws import guide_draws
from .noise import recalibrated
from .predictive import MAX_DRAWN
from .reader import Reader
from .reshaped_draws import reshaped_draws
from .some_entries import of_some

Drawn = Float[np.ndarray, "n e"]


@dataclass(frozen=True, eq=False)
class LooDraws:
    """Draws of the latents at some entries; all of shape (n, e).

    Attributes:
        log_row: Log of p(z, x) / q(z) of an entry's row; 0 where the guide is taken for the posterior.
        log_likelihood: Log density of the entry, by which it is left out.
        log_density: The same, with the noise that the fit was recalibrated to, if it was, and not yet the shape.
        below: Probability that the entry drawn anew is below it; of other likelihoods than normals, whether it was.
        replicated: The entry drawn anew, of the shape that the fit was recalibrated to.
    """

    log_row: Drawn
    log_likelihood: Drawn
    log_density: Drawn
    below: Drawn
    replicated: Drawn

    @classmethod
    def empty(cls, n: int, n_entries: int) -> LooDraws:
        """Room for draws."""
        return cls(*(np.zeros((n, n_entries)) for _ in range(5)))

    @property
    def log_ratios(self) -> Drawn:
        """Log importance ratios from the guide to the posterior without the entry."""
        return self.log_row - self.log_likelihood

    def put(self, draw: int, at: np.ndarray, site: Any, judged: Any, value: Tensor) -> None:
        """Set one draw at some entries, from their distribution in the model and the one that is judged."""
        self.log_likelihood[draw, at] = _host(site.log_prob(value))
        self.log_density[draw, at] = _host(judged.log_prob(value))
        self.replicated[draw, at] = again = _host(judged.sample())
        self.below[draw, at] = _host(judged.cdf(value)) if isinstance(judged, Normal) else again < _host(value)


def observes_rows(reader: Reader) -> bool:
    """Whether the model's one observed site is of whole rows."""
    trace = poutine.trace(reader.fitted.model).get_trace(reader.fitted.blank_batch())
    found = [site["fn"] for site in observed_sites(trace).values()]
    return len(found) == 1 and isinstance(found[0], RowLikelihood)


def draws_of_entries(reader: Reader, request: Request, n: int) -> LooDraws:
    """Of entries that are observed one by one, the guide taken for the posterior."""
    found = LooDraws.empty(n, len(request))
    for block in request.blocks(reader, max(MAX_DRAWN // n, 1)):
        for i, trace in enumerate(draws(reader, block, n)):
            site = entry_site(trace, block)
            judged = recalibrated(site, reader.fitted, block)
            found.put(i, block.at, site["fn"], judged["fn"], block.batch.value)
    return replace(found, replicated=reshaped_draws(found.replicated, reader.fitted))


def draws_of_rows(
    reader: Reader, rows: Int[np.ndarray, " m"], at: Int[np.ndarray, " e"], value: Float[np.ndarray, " e"], n: int
) -> LooDraws:
    """Of entries of whole rows; where all latents are of rows, with what the guide lacks of their posterior.

    Args:
        reader: The fit, with its training entries.
        rows: Positions of the rows, ascending.
        at: Places of the entries among all cells of these rows, row by row.
        value: What is there.
        n: Draws.

    Raises:
        PlatewiseError: If entries of a row depend on each other given the latents.
    """
    batch, found = reader.batch(rows), LooDraws.empty(n, len(at))
    places, values = torch.from_numpy(at).to(batch.rows), torch.from_numpy(value).to(batch.value)
    of_rows = set(reader.places.values()) == {"rows"}
    for i, q in enumerate(guide_draws(reader.fitted.guide, batch, n)):
        p = poutine.trace(poutine.replay(reader.fitted.model, q)).get_trace(batch)
        some = of_some(_cells(p), places)
        found.put(i, np.arange(len(at)), some, some, values)
        if of_rows:
            found.log_row[i] = _host(_log_weights(p, q))[at // batch.n_cols]
    return found


def surrogate_of_rows(reader: Reader, rows: Int[np.ndarray, " m"], n: int) -> Float[np.ndarray, " e"]:
    """Log of the mean density, over few draws, of every cell of some rows, row by row."""
    batch = reader.batch(rows)
    values = batch.dense()
    total = torch.full_like(values, -math.inf, dtype=torch.float64)
    for q in guide_draws(reader.fitted.guide, batch, n):
        p = poutine.trace(poutine.replay(reader.fitted.model, q)).get_trace(batch)
        total = torch.logaddexp(total, _cells(p).log_prob(values).double())
    return _host(total.reshape(-1)) - math.log(n)


def _cells(trace: Trace) -> Any:
    """The distribution of all cells of a batch's rows, (b, n_cols) independent ones.

    Raises:
        PlatewiseError: If they depend on each other, given the latents.
    """
    (site,) = observed_sites(trace).values()
    rows: Any = None if isinstance(site["fn"], MultinomialRows) else site["fn"].dense()
    if not isinstance(rows, dist.Independent):
        raise PlatewiseError(
            f"Expected rows of entries that are independent given the latents, to leave one out, got "
            f"{type(site['fn']).__name__}. Use score_rows."
        )
    return rows.base_dist


def _log_weights(p: Trace, q: Trace) -> Float[Tensor, " b"]:
    """Log p(z_i, x_i) - log q(z_i | x_i) of each row."""
    joint = sum(site["fn"].log_prob(site["value"]) for site in (latent_sites(p) | observed_sites(p)).values())
    return joint - sum(site["fn"].log_prob(site["value"]) for site in latent_sites(q).values())


def _host(x: Tensor) -> np.ndarray:
    return x.double().cpu().numpy()
