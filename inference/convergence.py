"""Stochastic variational inference that stops itself: stages of falling step size, each ending with an average.

In a stage the step size stays; in the first it rises, while the scales of the model wait for its latents to grow. Once
the iterates have settled, they are averaged over a window: dense parameters at every step, row tables once an epoch,
which is as often as a row is stepped. The window is looked at as draws of a Markov chain: split R-hat of at most 1.1,
an effective size of at least 5, a Monte Carlo error of at most a tenth of a posterior standard deviation, each as the
median of the numbers watched (`watched`). If its halves disagree, another window follows; if its average is not known
well enough, it grows. It is also left where a further window has gained less than is worth it. The next stage halves
the step.

The fit has converged when the gain that further stages are predicted to bring is not worth its cost. The gain is that
of the bound on all data, at the averages, and not the symmetrised divergence to the optimum that the references take:
it is there for every guide, mixtures and networks included, needs no scaling up from some rows to all, and does not
count moves along directions in which the bound is flat, such as rotations of factors. What it finds is a local optimum,
as all algorithms here do.

The averages are one more copy of the parameters in memory, and a stage's end costs one pass over the data.

References:
    Dhaka, Catalina, Andersen, Magnusson, Huggins and Vehtari (2020), Robust, accurate stochastic optimization for
        variational inference.
    Welandawe, Andersen, Vehtari and Huggins (2022), Robust, automated, and accurate black-box variational inference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..data.loader import RowLoader
from .elbo import ClosedFormELBO
from .optimizer import PairedAdam
from .stages import Plan, predicted_gain, worth
from .validation import DRAWS, bound_per_row
from .watched import Verdict, Watched, watch

AVERAGE = "average:"  # of a parameter's sum in a fit's saved state
ITERATE = "iterate:"  # of a parameter as it was when the fit was cut off


@dataclass
class Stages:
    """The stages of a fit, and the average of the one in hand.

    Attributes:
        elbo: The bound, over model and guide.
        optimizer: Knows which parameters are row tables.
        loader: All rows.
        peak: Step size of the first stage.
        plan: Lengths of stages.
        watched: The numbers of the window in hand.
        waiting: Parameters that stay as they are at first.
        sums: Sums of the iterates in it, by name.
        number: The stage in hand, from 0.
        epoch: Epochs done in it.
        begins: Epochs of it before the window in hand.
        ends: Epochs of it after which that is looked at.
        tried: Windows of it looked at.
        steps: Steps in the sums.
        epochs: Epochs in the sums.
        last: Bound of the window before, of the same stage.
        r_hat: Split R-hat of the last window looked at.
        bounds: Of the averages of the stages done, nats.
        converged: Whether no further stage is worth its cost.
        finished: Whether the parameters are the averages.
        iterates: Those that the averages replaced where the fit was cut off, by name; it can go on from them.
        estimate: Bound over the last epoch where the fit was cut off, nats; None where it was not.
    """

    elbo: nn.Module
    optimizer: PairedAdam
    loader: RowLoader
    peak: float
    plan: Plan
    watched: Watched
    waiting: list[nn.Parameter] = field(default_factory=list)
    sums: dict[str, Tensor] = field(default_factory=dict)
    number: int = 0
    epoch: int = 0
    begins: int = 0
    ends: int = 0
    tried: int = 0
    steps: int = 0
    epochs: int = 0
    last: float = -math.inf
    r_hat: float = math.nan
    bounds: list[float] = field(default_factory=list)
    converged: bool = False
    finished: bool = False
    iterates: dict[str, Tensor] = field(default_factory=dict)
    estimate: float | None = None

    def __post_init__(self) -> None:
        tables, named = {id(p) for p in self.optimizer.rows}, self.optimizer.named
        self._tables = {name: p for name, p in named.items() if id(p) in tables}
        self._dense = {name: p for name, p in named.items() if id(p) not in tables}

    def learning_rate(self, step: int) -> float:
        """Step size after a number of steps of the fit."""
        return self.plan.learning_rate(self.number, self.peak, step / len(self.loader))

    def hold(self) -> None:
        """Drop the gradients of parameters that wait, in the epochs in which they do."""
        if not self.number and self.epoch < self.plan.wait:
            for p in self.waiting:
                p.grad = None

    def note_step(self) -> None:
        """Add the dense parameters to the sums; without a wait."""
        if self.epoch >= self.begins:
            self._add(self._dense)
            self.watched.note_step()
            self.steps += 1

    def close_epoch(self) -> None:
        """Add the row tables to the sums, and look at the window if it is full."""
        if self.epoch >= self.begins:
            self._add(self._tables)
            self.watched.note_epoch()
            self.epochs += 1
        self.epoch += 1
        if self.epoch >= self.ends:
            self._judge(self.watched.verdict(), self.bound_of_average())

    def finish(self, estimate: float) -> float:
        """Give the modules the averages; nothing is averaged yet early in a stage, and then they stay as they are.

        A fit that is cut off keeps what they replace, and `estimate`, its bound over the last epoch in nats.

        Returns:
            The bound of the parameters that they then have, over a pass of the data, in nats.
        """
        if not self.finished:
            iterates = self._swap(self._means()) if self.epochs else {}
            self.iterates, self.estimate = ({}, None) if self.converged else (iterates, estimate)
        self.finished = True
        return self.bound()

    def go_on(self) -> float | None:
        """Give the modules the iterates again, of a fit that was cut off.

        Returns:
            The bound over the last epoch, as it was before that of the averages took its place.
        """
        self._swap(self.iterates)
        estimate, self.iterates, self.estimate, self.finished = self.estimate, {}, None, False
        return estimate

    def bound(self) -> float:
        """The bound on all the data at the modules' parameters, in nats, with the same draws at every call."""
        draws = 1 if isinstance(self.elbo, ClosedFormELBO) else DRAWS
        return bound_per_row(self.elbo, self.loader, draws) * self.loader.source.shape[0]

    def bound_of_average(self) -> float:
        """The same at the averages; the modules keep their parameters."""
        with self._averaged():
            return self.bound()

    @property
    def gain(self) -> float:
        """Nats that further stages are predicted to bring."""
        return predicted_gain(self.bounds)

    def state_dict(self) -> dict[str, Tensor]:
        """What is needed to go on, as tensors."""
        numbers = [float(getattr(self, name)) for name in NUMBERS]
        of_stages = {"stages": torch.tensor(numbers, dtype=torch.float64)}
        if self.bounds:
            of_stages["stages:bounds"] = torch.tensor(self.bounds, dtype=torch.float64)
        if self.estimate is not None:
            of_stages["stages:estimate"] = torch.tensor(self.estimate, dtype=torch.float64)
        kept = {AVERAGE: self.sums, ITERATE: self.iterates}
        named = {prefix + name: x for prefix, some in kept.items() for name, x in some.items()}
        return of_stages | named | self.watched.state_dict()

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take up where `state_dict` left off; takes its tensors out of `tensors`."""
        for name, x in zip(NUMBERS, tensors.pop("stages").tolist(), strict=True):
            setattr(self, name, type(getattr(self, name))(x))
        bounds = tensors.pop("stages:bounds", None)
        self.bounds = [] if bounds is None else bounds.tolist()
        estimate = tensors.pop("stages:estimate", None)
        self.estimate = None if estimate is None else float(estimate)
        self.sums, self.iterates = self._take(tensors, AVERAGE), self._take(tensors, ITERATE)
        self.watched.load_state_dict(tensors)

    def _take(self, tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
        names = [name for name in tensors if name.startswith(prefix)]
        return {n.removeprefix(prefix): tensors.pop(n).clone().to(self.loader.device) for n in names}

    def _judge(self, verdict: Verdict, bound: float) -> None:
        """Leave the stage, or go on with it: by another window, or by more of this one."""
        self.tried, self.r_hat = self.tried + 1, verdict.r_hat
        small = worth(bound, self.loader.source.nnz)
        is_settled = verdict.is_stationary and verdict.is_precise
        if is_settled or bound - self.last <= small or self.tried == self.plan.windows:
            self._leave(bound, small)
        elif verdict.is_stationary:
            self.ends += self.plan.window
        else:
            self._open(self.epoch)
        self.last = bound if self.epoch else -math.inf

    def _leave(self, bound: float, small: float) -> None:
        self.bounds.append(bound)
        self.converged = self.gain <= small
        if not self.converged:
            self.number, self.epoch, self.tried = self.number + 1, 0, 0
            self._open(self.plan.first_window(self.number))

    def _open(self, begins: int) -> None:
        """Begin a window after so many epochs of the stage."""
        self.begins, self.ends = begins, begins + self.plan.window
        self.steps = self.epochs = 0
        self.sums = {}
        self.watched.forget()

    def _add(self, some: dict[str, nn.Parameter]) -> None:
        for name, p in some.items():
            if name in self.sums:
                self.sums[name] += p.detach()
            else:
                self.sums[name] = p.detach().clone()

    def _means(self) -> dict[str, Tensor]:
        return {name: x / (self.epochs if name in self._tables else self.steps) for name, x in self.sums.items()}

    def _swap(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give parameters values; return those that they had."""
        before = {name: self.optimizer.named[name].detach().clone() for name in values}
        for name, value in values.items():
            self.optimizer.named[name].data.copy_(value)
        return before

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        before = self._swap(self._means())
        try:
            yield
        finally:
            self._swap(before)


NUMBERS = (
    *("number", "epoch", "begins", "ends", "tried", "steps", "epochs"),
    *("last", "r_hat", "converged", "finished"),
)  # fields of `Stages` in its saved state


def stages_of(elbo: Any, optimizer: PairedAdam, loader: RowLoader, peak: float) -> Stages:
    """The stages of a fit that begins."""
    plan = Plan().stretched(len(loader))
    waiting = [p for p in elbo.model.parameters() if p.ndim < 2]  # scales, and no weights of networks
    stages = Stages(elbo, optimizer, loader, peak, plan, watch(elbo, optimizer, loader), waiting)
    stages._open(plan.first_window(0))
    return stages
