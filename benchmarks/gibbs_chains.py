"""Chains of the Gibbs sampler, and what they say of the entries to predict: moments, scores, draws of some of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import arviz as az
import numpy as np
from gibbs import Cells, Ratings, State, expectations, prior_draw, sweep
from platewise.data.compiled import Array
from platewise.data.errors import PlatewiseError
from scipy.special import ndtr
from torch import Tensor


@dataclass(frozen=True)
class Chains:
    """What the chains of a run say of some entries.

    Attributes:
        mean: Posterior mean of each entry's expectation.
        variance: Posterior variance of it.
        noise: Posterior mean of the noise's variance.
        density: Log predictive density of what was observed, nats.
        cdf: Predictive probability of less than what was observed.
        draws: Expectations of the entries watched, (chains, draws, watched).
        mu: The grand mean, (chains, draws).
        scales: Draws of the scales, (chains, draws, ...).
    """

    mean: Array
    variance: Array
    noise: float
    density: Array
    cdf: Array
    draws: Array
    mu: Array
    scales: dict[str, Array]

    @property
    def sd(self) -> Array:
        """Standard deviation of the predictive of each entry."""
        return np.sqrt(self.variance + self.noise)

    def mixing(self) -> tuple[float, float]:
        """Largest R-hat, and smallest effective number of draws, of the entries watched."""
        draws = az.convert_to_dataset(self.draws)
        return float(az.rhat(draws)["x"].max()), float(az.ess(draws)["x"].min())


class Tally:
    """Sums over draws of what each entry is expected to be; squares are about the first draw, to keep digits."""

    def __init__(self, value: Array) -> None:
        self.value, self.n, self.noise, self.start = value, 0, 0.0, np.zeros(0)
        self.first, self.second, self.cdf = np.zeros((3, len(value)))
        self.density = np.full(len(value), -np.inf)

    def add(self, expected: Array, sigma: float) -> None:
        """Take in one draw."""
        self.start = self.start if self.n else expected.copy()
        moved, z = expected - self.start, (self.value - expected) / sigma
        self.first += moved
        self.second += moved**2
        self.cdf += ndtr(z)
        self.density = np.logaddexp(self.density, -0.5 * z**2 - math.log(sigma * math.sqrt(2 * math.pi)))
        self.noise, self.n = self.noise + sigma**2, self.n + 1

    def chains(self, draws: Array, mu: Array, scales: dict[str, Array]) -> Chains:
        """The means over all draws."""
        mean = self.first / self.n
        variance = self.second / self.n - mean**2
        scores = self.noise / self.n, self.density - math.log(self.n), self.cdf / self.n
        return Chains(self.start + mean, variance, *scores, draws, mu, scales)


def gibbs(
    ratings: Ratings,
    scales: Mapping[str, Tensor],
    at: Cells,
    *,
    learned: frozenset[str] = frozenset(),
    chains: int = 2,
    sweeps: int = 2000,
    warmup: int = 500,
    thin: int = 5,
    watched: int = 200,
    seed: int = 0,
) -> Chains:
    """Run some chains one after the other, each from a draw of the prior.

    Args:
        ratings: The training entries.
        scales: Standard deviations of `mu`, `user`, `item` and `noise`: fixed, or where a chain begins.
        at: Entries to predict; their values are scored, and not learned from.
        learned: Which of "user", "item" and "noise" are learned.
        chains: How many; two or more for R-hat.
        sweeps: Sweeps of a chain that count.
        warmup: Sweeps before these.
        thin: Draws are kept every so many sweeps; means are over all of them.
        watched: Of so many of the entries to predict, evenly spaced, draws are kept.
        seed: Seed of everything.

    Raises:
        PlatewiseError: If the model has more scales than these.
    """
    if more := sorted(set(scales) - {"mu", "user", "item", "noise"}):
        raise PlatewiseError(f'Expected a model whose noise is constant, got one with {more}. Fit it with "constant".')
    tally, kept = Tally(at.value), []
    few = np.unique(np.linspace(0, len(at.value) - 1, watched).astype(int))
    for rng in np.random.default_rng(seed).spawn(chains):
        for number, state in enumerate(_chain(ratings, dict(scales), learned, rng, warmup + sweeps)):
            if number >= warmup:
                expected = expectations(state, at)
                tally.add(expected, float(state.scales["noise"]))
                if (number - warmup) % thin == 0:
                    kept.append((expected[few], state.mu, state.scales))
    draws, mu, drawn = zip(*kept, strict=True)
    by_chain = {name: _by_chain([scale[name].numpy() for scale in drawn], chains) for name in scales}
    return tally.chains(_by_chain(draws, chains), _by_chain(mu, chains), by_chain)


def _by_chain(values: object, chains: int) -> Array:
    array = np.asarray(values)
    return array.reshape(chains, -1, *array.shape[1:])


def _chain(
    ratings: Ratings, scales: dict[str, Tensor], learned: frozenset[str], rng: np.random.Generator, sweeps: int
) -> Iterator[State]:
    state = prior_draw(ratings, {name: scale.double() for name, scale in scales.items()}, rng)
    state = state._replace(mu=float(ratings.cells.value.mean()))  # a draw of its wide prior only lengthens the warm-up
    for _ in range(sweeps):
        state = sweep(state, ratings, rng, learned)
        yield state
