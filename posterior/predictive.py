"""Predictive distributions of entries: in closed form, or draws.

In closed form they are normals matched in their first two moments; where the noise is uncertain, mixtures of such
normals over its posterior (`mixed_predictive`). All may have had their shape recalibrated (`reshaped_predictive`). They
know their mean, standard deviation and quantiles, and score an observation by its log density and its continuous ranked
probability score (CRPS; Gneiting and Raftery 2007, equations 20 and 21), the smaller the better.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtr, ndtri
from torch import Tensor

from ..data.errors import PlatewiseError
from .blocks import Block, Request
from .count_tails import Tails
from .draws import draws, entry_site
from .mixed_predictive import MixedPredictive
from .moments import knows_moments, latents, moments, refuse_without_moments
from .noise import noise_factors, recalibrated
from .noise_law import has_uncertain_noise, noise_law
from .reader import Reader
from .reshaped_predictive import ReshapedPredictive, reshaped
from .tails import normal_tails

Method = Literal["auto", "closed-form", "sampled"]
Of = Literal["rating", "mean"]

MAX_ENTRIES = 1 << 18  # in a block, with closed forms
MAX_MIXED, MAX_MIXED_NEW = 1 << 17, 1 << 14  # the same of mixtures; where some ids are new, they have more parts
MAX_DRAWN = 1 << 25  # numbers held at once by sampling: draws times entries

Entries = Float[np.ndarray, " e"]


@dataclass(frozen=True, eq=False)
class NormalPredictive:
    """Normals with the predictive's mean and variance."""

    mean: Entries
    sd: Entries

    def quantile(self, p: float) -> Entries:
        """Quantiles at probability p."""
        return self.mean + ndtri(p) * self.sd

    def interval(self, level: float) -> tuple[Entries, Entries]:
        """Ends of the central interval."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def tails(self, y: Entries) -> Tails:
        """Log-probabilities of what lies on either side of y."""
        return normal_tails(y, self.mean, self.sd)

    def cdf(self, y: Entries) -> Entries:
        """Probability of at most y."""
        return np.asarray(ndtr((y - self.mean) / self.sd))

    def pit(self, y: Entries, u: Entries) -> Entries:
        """Probability integral transform; `u`, which breaks ties, is not needed."""
        return self.cdf(y)

    def log_density(self, y: Entries) -> Entries:
        """Log density, in nats."""
        z = (y - self.mean) / self.sd
        return -0.5 * (z**2 + math.log(2 * math.pi)) - np.log(self.sd)

    def crps(self, y: Entries) -> Entries:
        """CRPS in closed form."""
        z = (y - self.mean) / self.sd
        density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
        return self.sd * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))


@dataclass(frozen=True, eq=False)
class SampledPredictive:
    """Draws from the predictive.

    Attributes:
        sorted: Draws of each entry, in ascending order along the first axis.
        mean: Means; of the entries' expectations where those are known, which has less noise than of the draws.
        density: Log of the mean density of what was observed, over draws of the latents.
    """

    sorted: Float[np.ndarray, "n e"]
    mean: Entries
    density: Entries

    @property
    def sd(self) -> Entries:
        """Standard deviations."""
        return self.sorted.std(axis=0, ddof=1, dtype=np.float64)

    @property
    def is_of_counts(self) -> bool:
        """Whether all draws are whole numbers, so that an entry can lie on the end of an interval."""
        return bool((self.sorted == np.round(self.sorted)).all())

    def quantile(self, p: float) -> Entries:
        """Quantiles at probability p, interpolated between draws so that the next draw is below with probability p."""
        place = min(max(p * (len(self.sorted) + 1) - 1, 0), len(self.sorted) - 1)
        low = math.floor(place)
        high = min(low + 1, len(self.sorted) - 1)
        return (self.sorted[low] + (place - low) * (self.sorted[high] - self.sorted[low])).astype(np.float64)

    def interval(self, level: float) -> tuple[Entries, Entries]:
        """Ends of the central interval."""
        return self.quantile((1 - level) / 2), self.quantile((1 + level) / 2)

    def cdf(self, y: Entries) -> Entries:
        """Share of the draws that are at most y."""
        return np.asarray(sum(draw <= y for draw in self.sorted) / len(self.sorted))

    def pit(self, y: Entries, u: Entries) -> Entries:
        """Probability integral transform, place u of [0, 1) among equal draws: uniform where y is one more draw."""
        below, equal = sum(draw < y for draw in self.sorted), sum(draw == y for draw in self.sorted)
        return np.asarray((below + u * (equal + 1)) / (len(self.sorted) + 1))

    def log_density(self, y: Entries) -> Entries:
        """Log density, in nats; `y` is what the block observed."""
        return self.density

    def crps(self, y: Entries) -> Entries:
        """CRPS without bias: E|Y - y| - E|Y - Y'| / 2, pairs of different draws."""
        n = len(self.sorted)
        weight = (2 * np.arange(1, n + 1) - n - 1) / (n * (n - 1))
        distance = sum(np.abs(draw - y) for draw in self.sorted) / n
        spread = sum(w * (draw - self.mean) for w, draw in zip(weight, self.sorted, strict=True))
        return np.asarray(distance - spread, dtype=np.float64)


ClosedPredictive = NormalPredictive | MixedPredictive | ReshapedPredictive
Predictive = ClosedPredictive | SampledPredictive


def row_blocks(n_rows: int, n_cols: int) -> list[np.ndarray]:
    """Rows in order, so many at a time that all their cells are a block, of `MAX_ENTRIES` at most."""
    return np.array_split(np.arange(n_rows), math.ceil(n_rows / max(MAX_ENTRIES // n_cols, 1)))


@dataclass(frozen=True)
class Settings:
    """How predictives are made.

    Attributes:
        method: "closed-form", "sampled", or "auto": closed where there is one.
        of: "rating" for entries, noise included; "mean" for their expectations.
        n_samples: Draws where the predictive is sampled.
    """

    method: Method | str = "auto"
    of: Of | str = "rating"
    n_samples: int = 500

    def __post_init__(self) -> None:
        for name, allowed in (("method", get_args(Method)), ("of", get_args(Of))):
            if getattr(self, name) not in allowed:
                raise PlatewiseError(f"Expected {name} among {allowed}, got {getattr(self, name)!r}. Choose one.")
        if self.n_samples < 2:
            raise PlatewiseError(f"Expected at least 2 samples, got {self.n_samples}. Take some hundreds.")

    def is_closed(self, reader: Reader) -> bool:
        """Whether predictives of this fit are known in closed form.

        Raises:
            PlatewiseError: If that was asked for and is not to be had.
        """
        closed = self.method != "sampled" and knows_moments(reader)
        if self.method == "closed-form" and not closed:
            raise refuse_without_moments(reader)
        return closed


def predictives(reader: Reader, request: Request, settings: Settings) -> Iterator[tuple[Block, Predictive]]:
    """The predictive distributions of a request's entries, block by block."""
    if settings.is_closed(reader):
        yield from closed_predictives(reader, request, settings.of)
    else:
        for block in request.blocks(reader, max(MAX_DRAWN // settings.n_samples, 1)):
            drawn = _sampled(reader, block, settings)
            yield block, reshaped(drawn, reader.fitted) if settings.of == "rating" else drawn


def closed_predictives(
    reader: Reader, request: Request, of: Of | str = "rating"
) -> Iterator[tuple[Block, ClosedPredictive]]:
    """The same in closed form, of a fit that has one."""
    most = MAX_ENTRIES
    if has_uncertain_noise(reader.fitted.model):
        most = MAX_MIXED if (request.rows.known & request.cols.known).all() else MAX_MIXED_NEW
    for block in request.blocks(reader, most):
        closed = _closed(reader, block, of)
        yield block, reshaped(closed, reader.fitted) if of == "rating" else closed


def _closed(reader: Reader, block: Block, of: Of | str) -> NormalPredictive | MixedPredictive:
    q = latents(reader, block)
    mean, variance, noise = (_numpy(x) for x in moments(reader, block, q))
    factors = noise_factors(reader.fitted, block)
    sd = np.sqrt(variance + noise * factors**2 * (of == "rating"))
    law = noise_law(reader.fitted.model, block, q) if of == "rating" else None
    if law is None:
        return NormalPredictive(mean, sd)
    return MixedPredictive(mean, sd, variance[:, None] + law.scaled(factors).variance, law.weight)


def _sampled(reader: Reader, block: Block, settings: Settings) -> SampledPredictive:
    drawn = np.empty((settings.n_samples, len(block.at)), dtype=np.float32)
    total = torch.zeros_like(block.batch.value, dtype=torch.float64)
    density = torch.full_like(total, -math.inf)
    for i, trace in enumerate(draws(reader, block, settings.n_samples)):
        site = recalibrated(entry_site(trace, block), reader.fitted, block)
        draw = site["fn"].sample() if settings.of == "rating" else _expectation(site)
        drawn[i] = draw.cpu().numpy()
        total += _expectation_or(site, draw)
        density = torch.logaddexp(density, site["fn"].log_prob(block.batch.value).double())
    drawn.sort(axis=0)
    return SampledPredictive(drawn, _numpy(total) / settings.n_samples, _numpy(density) - math.log(settings.n_samples))


def _expectation(site: dict[str, Any]) -> Tensor:
    """The mean of a site's distribution.

    Raises:
        PlatewiseError: If it has none.
    """
    mean = _mean(site)
    if mean is None:
        raise PlatewiseError(
            f"Expected a likelihood that knows its mean, got {type(site['fn']).__name__}. Use of='rating'."
        )
    return mean


def _expectation_or(site: dict[str, Any], draw: Tensor) -> Tensor:
    mean = _mean(site)
    return draw if mean is None else mean


def _mean(site: dict[str, Any]) -> Tensor | None:
    try:
        mean: Tensor = site["fn"].mean
    except NotImplementedError:
        return None
    return mean if bool(mean.isfinite().all()) else None


def _numpy(x: Tensor) -> Entries:
    return x.double().cpu().numpy()
