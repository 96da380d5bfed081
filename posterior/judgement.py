"""What a verdict is made from, and what it is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from .calibration import Calibration

Answer = Literal["yes", "no", "unknown"]


@dataclass(frozen=True)
class Judgement:
    """Whether a posterior may be put to a use.

    Attributes:
        use: The use.
        answer: "yes", "no" or "unknown".
        why: The figures that say so.
    """

    use: str
    answer: Answer
    why: str


@dataclass(frozen=True, eq=False)
class Evidence:
    """The pieces that a verdict is made from; None where there is none.

    Attributes:
        calibration: Of held-out entries.
        unjudged: Why there is no calibration, if there is none.
        references: Of the same entries, or rows; the fit's own scores come first.
        checks: Posterior predictive checks.
        k_hats: Pareto k-hat by row, column, global, and expected value.
        restarts: Fits from other seeds, with `prediction_difference`.
        simulation: By quantity, what its ranks say; of small data sets.
        of_whole_rows: Whether the fit describes rows (a VAE), and no held-out entries of them one by one.
    """

    calibration: Calibration | None = None
    unjudged: str = "no held-out entries were given: give a test part"
    references: pd.DataFrame | None = None
    checks: pd.DataFrame | None = None
    k_hats: pd.DataFrame | None = None
    restarts: pd.DataFrame | None = None
    simulation: pd.DataFrame | None = None
    of_whole_rows: bool = False


def yes_if(holds: bool) -> Answer:
    """An answer of the two that are known."""
    return "yes" if holds else "no"
