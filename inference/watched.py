"""Numbers that a fit watches to see whether its iterates are stationary, and how well their average is known.

Two kinds: some of the dense parameters, at every step; and, where the guide's blocks are independent, the posterior
means of a fixed random sample of rows and of the other sites, once an epoch, with their posterior standard deviations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.loader import RowLoader
from .optimizer import PairedAdam
from .protocols import has_independent_blocks
from .stationarity import FEWEST, effective_size, mc_error, split_r_hat
from .validation import evaluating

ROWS = 64  # watched
NUMBERS = 256  # watched of the dense parameters, and of each site, about
R_HAT = 1.1  # at most
SIZE = 5.0  # effective, of the average, at least
ERROR = 0.1  # of the average, in posterior standard deviations, at most


@dataclass(frozen=True)
class Verdict:
    """What a window's numbers say, as medians over them: single ones pass or fail by chance.

    Attributes:
        r_hat: Split R-hat, the larger of both kinds.
        size: Effective size of the average of the dense parameters.
        error: Monte Carlo error of the posterior means, in posterior standard deviations; 0 where there are none.
    """

    r_hat: float
    size: float
    error: float

    @property
    def is_stationary(self) -> bool:
        """Whether both halves of the window agree."""
        return self.r_hat <= R_HAT

    @property
    def is_precise(self) -> bool:
        """Whether the average is known well enough."""
        return self.size >= SIZE and self.error <= ERROR


@dataclass
class Watched:
    """The numbers of the window in hand.

    Attributes:
        elbo: The bound, over model and guide.
        loader: Rows.
        picks: Positions watched of each dense parameter.
        steps: Values of the dense parameters, one tensor a step.
        means: Posterior means, one tensor an epoch.
        sd: Posterior standard deviations of those at the last epoch.
    """

    elbo: Any
    loader: RowLoader
    picks: list[tuple[nn.Parameter, Tensor]]
    steps: list[Tensor] = field(default_factory=list)
    means: list[Tensor] = field(default_factory=list)
    sd: Tensor | None = None

    def __post_init__(self) -> None:
        n_rows = self.loader.source.shape[0]
        order = np.random.default_rng([self.loader.seed, n_rows]).permutation(n_rows)
        self._batch = self.loader.batch(np.sort(order[:ROWS]))
        with evaluating(self.elbo, self.loader):
            self._has_means = has_independent_blocks(self.elbo.guide, self._batch)

    def note_step(self) -> None:
        """Write down the dense parameters, without waiting for the device."""
        if self.picks:
            self.steps.append(torch.cat([p.detach().flatten()[at] for p, at in self.picks]))

    def note_epoch(self) -> None:
        """Write down the posterior means."""
        if self._has_means:
            with evaluating(self.elbo, self.loader):
                blocks = self.elbo.guide.posterior(self._batch).values()
                moments = [m for q in blocks if (m := _moments(q)) is not None]
            if moments:
                self.means.append(torch.cat([mean for mean, _ in moments]))
                self.sd = torch.cat([sd for _, sd in moments])

    def forget(self) -> None:
        """Begin a new window."""
        self.steps, self.means, self.sd = [], [], None

    def verdict(self) -> Verdict:
        """What the window's numbers say; nothing watched, or too few draws, is no evidence of anything."""
        r_hats, size, error = [], float("inf"), 0.0
        if len(self.steps) >= FEWEST:
            draws = torch.stack(self.steps)
            r_hats.append(_median(split_r_hat(draws)))
            size = _median(effective_size(draws))
        if len(self.means) >= FEWEST and self.sd is not None:
            draws = torch.stack(self.means)
            r_hats.append(_median(split_r_hat(draws)))
            error = _median(mc_error(draws) / self.sd)
        return Verdict(max(r_hats, default=float("inf")), size, error)

    def state_dict(self) -> dict[str, Tensor]:
        """What is needed to go on, as tensors."""
        kept = {"watched:steps": self.steps, "watched:means": self.means}
        tensors = {name: torch.stack(draws) for name, draws in kept.items() if draws}
        return tensors | ({} if self.sd is None else {"watched:sd": self.sd})

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take up where `state_dict` left off; takes its tensors out of `tensors`."""
        taken = {name: tensors.pop(name) for name in [n for n in tensors if n.startswith("watched:")]}
        place = self.loader.device
        steps, means = (taken.get(f"watched:{name}") for name in ("steps", "means"))
        self.steps = [] if steps is None else list(steps.clone().to(place))
        self.means = [] if means is None else list(means.clone().to(place))
        self.sd = None if (sd := taken.get("watched:sd")) is None else sd.clone().to(place)


def watch(elbo: nn.Module, optimizer: PairedAdam, loader: RowLoader) -> Watched:
    """Choose the numbers, by the seed: of every dense parameter its share, and one at least."""
    rng, total = np.random.default_rng(loader.seed), sum(p.numel() for p in optimizer.dense)
    picks = []
    for p in optimizer.dense:
        some = rng.choice(p.numel(), min(max(NUMBERS * p.numel() // total, 1), p.numel()), replace=False)
        picks.append((p, torch.from_numpy(np.sort(some)).to(p.device)))
    return Watched(elbo, loader, picks)


def _moments(q: Any) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]] | None:
    """Means and standard deviations of some elements of a site; None where its family does not tell them."""
    try:
        mean, sd = q.mean.flatten(), q.stddev.flatten()
    except NotImplementedError:
        return None
    every = max(len(mean) // NUMBERS, 1)
    return mean[::every].clone(), sd[::every].clone()


def _median(x: Float[Tensor, " k"]) -> float:
    return float(x.nan_to_num(float("inf")).median())
