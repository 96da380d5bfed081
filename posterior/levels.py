"""Covariates set to chosen levels: the same cells decoded as if all had come from one batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..inference.covariates import taken_by
from ..inference.fitted import Fitted

Level = str | int | float
Levels = Level | Mapping[str, Level]  # of the covariate "batch", or of each by name


def chosen_levels(fitted: Fitted, levels: Levels | None) -> dict[str, float]:
    """The number that stands for each chosen level in a batch.

    Args:
        fitted: The fit, which knows its covariates and, where it read them from a column, their levels.
        levels: A level (or code) of the covariate "batch", or levels by covariate; a continuous one has a value, in the
            units of its column.

    Raises:
        PlatewiseError: If the fit has no such covariate, or the covariate no such level.
    """
    if levels is None:
        return {}
    named = levels if isinstance(levels, Mapping) else {"batch": levels}
    for name in named:
        if not fitted.covariates:
            raise PlatewiseError(
                f"Expected a fit with covariates to choose a level of {name!r}, got one without. Leave batch= out, or "
                "fit again with the column of batches."
            )
        if name not in fitted.covariates:
            raise PlatewiseError(
                f"Expected a covariate of the fit, among {sorted(fitted.covariates)}, got {name!r}. Choose one, or fit "
                "with it."
            )
    return {name: _number(fitted, name, level) for name, level in named.items()}


def with_levels(batch: RowBatch, numbers: Mapping[str, float]) -> RowBatch:
    """The same rows with covariates set to one number for all."""
    chosen = {name: torch.full_like(batch.covariates[name], number) for name, number in numbers.items()}
    return replace(batch, covariates=dict(batch.covariates) | chosen)


def _number(fitted: Fitted, name: str, level: Level) -> float:
    spec = fitted.covariates[name]
    if spec["shape"]:
        raise PlatewiseError(
            f"Expected a covariate of one number per row to set, got {name!r} of shape {spec['shape']}. Choose another."
        )
    if "levels" in spec:
        return float(_code_of_level(name, level, [str(known) for known in spec["levels"]]))
    value = _as_number(name, level)
    if spec["dtype"].startswith("float"):
        return (value - spec.get("mean", 0.0)) / spec.get("sd", 1.0)
    return float(_code(fitted, name, value))


def _code_of_level(name: str, level: Level, known: list[str]) -> int:
    if str(level) not in known:
        raise PlatewiseError(f"Expected a level of {name!r}, among {', '.join(known)}, got {level!r}. Choose one.")
    return known.index(str(level))


def _code(fitted: Fitted, name: str, value: float) -> int:
    """A code of a covariate whose levels have no names, checked against the model's categories where it has them."""
    n = (taken_by(fitted.model) or {}).get("categories", {}).get(name)
    if value != int(value) or value < 0 or (n is not None and value >= n):
        most = "" if n is None else f" to {n - 1}"
        raise PlatewiseError(f"Expected a code of {name!r}, a whole number from 0{most}, got {value:g}. Choose one.")
    return int(value)


def _as_number(name: str, level: Level) -> float:
    try:
        number = float(level)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise PlatewiseError(
            f"Expected a number for {name!r}, which the fit knows by numbers alone, got {level!r}. Give its code or "
            "value."
        )
    return number
