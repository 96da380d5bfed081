"""The plan of a fit in stages of falling step size, and what a further stage would gain.

A stage lets the iterates forget where they came from, then averages them over a window. Each stage halves the step.
What the bound of the averages has gained from stage to stage falls off about geometrically, and the rest of that
series is what further stages would gain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

HALVING = 0.5  # of the step size, from stage to stage
SHARE = 5e-5  # of the bound: a gain below it is not worth its cost
LEAST_RATIO, MOST_RATIO = 0.25, 0.9  # of a stage's gain to that before, as it is extrapolated
STEPS = 12  # an epoch of fewer steps counts as a part of one


@dataclass(frozen=True)
class Plan:
    """Lengths of a fit's stages, in epochs.

    Scales wait: learned while the factors are still small, they shrink with them, and prune for good factors that the
    data support. Too long a wait lets factors grow that the data do not support, and these leave slowly.

    Attributes:
        warmup: Epochs over which the first stage's step rises to its peak.
        wait: Epochs of that stage in which the model's own parameters stay as they are, networks apart.
        settle: Epochs after which a window begins, once the step is what it is in the stage.
        window: Epochs that iterates are averaged over.
        windows: Windows tried in a stage, at most.
    """

    warmup: int = 10
    wait: int = 10
    settle: int = 3
    window: int = 7
    windows: int = 3

    def stretched(self, per_epoch: int) -> Plan:
        """The same for epochs of so few steps that more of them are needed."""
        times = math.ceil(STEPS / per_epoch)
        return Plan(self.warmup * times, self.wait * times, self.settle * times, self.window * times, self.windows)

    def first_window(self, stage: int) -> int:
        """Epochs of a stage, from 0, before its first window."""
        return self.settle + (0 if stage else max(self.warmup, self.wait) + self.settle)

    def learning_rate(self, stage: int, peak: float, epochs: float) -> float:
        """Step size in a stage, `epochs` after the beginning of the fit."""
        return peak * HALVING**stage * min(0.1 + 0.9 * epochs / self.warmup, 1.0)


def predicted_gain(bounds: Sequence[float]) -> float:
    """Nats that all further stages would add to the last of the bounds; infinite before there are three.

    A forecast and no bound: it takes gains to fall as they have fallen in the last two stages.

    Args:
        bounds: Of the averages of the stages done, in nats.
    """
    if len(bounds) < 3:
        return math.inf
    before, gain = bounds[-2] - bounds[-3], max(bounds[-1] - bounds[-2], 0.0)
    ratio = min(max(gain / before, LEAST_RATIO), MOST_RATIO) if before > 0 else MOST_RATIO if gain else 0.0
    return gain * ratio / (1 - ratio)


def worth(bound: float, n_entries: int) -> float:
    """The gain in nats that is not worth another stage: a share of the bound, or of a nat an entry if that is more."""
    return SHARE * max(abs(bound), n_entries, 1.0)
