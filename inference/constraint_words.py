"""Constraints of values and parameters in words, and the first value that breaks one."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

WORDS: dict[Constraint, str] = {
    constraints.real: "numbers that are not NaN",
    constraints.boolean: "0 or 1",
    constraints.simplex: "shares that sum to 1",
    constraints.positive_definite: "positive definite matrices",
    constraints.lower_cholesky: "lower triangular matrices with a positive diagonal",
    constraints.one_hot: "vectors of zeros with a single 1",
}
SHOWN = 4  # numbers of a vector that are shown


def elementwise(constraint: Any) -> Any:
    """A constraint of single values where it is one of vectors of independent values."""
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    return constraint


def in_words(constraint: Any) -> str:
    """What a constraint asks for: `whole numbers from 0`, `0 or 1`."""
    base = elementwise(constraint)
    if base in WORDS:
        return WORDS[base]
    low, high = (_bound(base, side) for side in ("lower_bound", "upper_bound"))
    if low is None and high is None:
        return f"values in {base}"
    kind = "whole numbers" if base.is_discrete else "numbers"
    above = "above" if isinstance(base, constraints.greater_than) else "from"
    below = "below" if isinstance(base, (constraints.less_than, constraints.half_open_interval)) else "to"
    parts = [f"{word} {bound}" for word, bound in ((above, low), (below, high)) if bound is not None]
    return " ".join([kind, *parts])


def first_violation(constraint: Any, value: Tensor) -> str | None:
    """The first value that breaks a constraint, as text; None if there is none."""
    base = elementwise(constraint)
    valid = base.check(value)
    if valid.all():
        return None
    wrong = value.expand(valid.shape + value.shape[value.ndim - base.event_dim :])[~valid][0]
    numbers = [f"{x:g}" for x in wrong.flatten()[:SHOWN].tolist()]
    text = ", ".join([*numbers, "..."] if wrong.numel() > SHOWN else numbers)
    return text if wrong.ndim == 0 else f"[{text}]"


def _bound(constraint: Any, side: str) -> str | None:
    """A bound as text; of several numbers, only that there is one."""
    bound = getattr(constraint, side, None)
    if isinstance(bound, Tensor):
        return f"{bound.flatten()[0].item():g}" if bound.numel() == 1 else "a bound of their own"
    return None if bound is None else f"{bound:g}"
