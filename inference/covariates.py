"""Covariates of the rows: as arrays before a fit, and their shapes for making a batch without data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.source import COUNT
from .obs_columns import Kind, read_column


def read_covariates(
    given: Mapping[str, Any], obs: pd.DataFrame, model: Any = None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Covariates of a new fit.

    Args:
        given: Of each an array with one row per row, or the name of a column of obs.
        obs: The table of the rows.
        model: The model; one with `covariates` (see `taken_by`) says what it takes.

    Returns:
        The arrays, and what a fit records of each (`Fitted.covariates`).

    Raises:
        PlatewiseError: If one is not there for every row, or is not what the model takes.
    """
    kinds = _kinds(model)
    obs = obs.drop(columns=COUNT, errors="ignore")  # added by us: later rows have no such column
    columns = {name: read_column(name, x, obs, kinds.get(name)) for name, x in given.items() if isinstance(x, str)}
    arrays = as_arrays({name: columns[name][0] if name in columns else x for name, x in given.items()}, len(obs))
    require_taken(model, arrays)
    return arrays, describe_covariates(arrays) | {name: about for name, (_, about) in columns.items()}


def as_arrays(covariates: Mapping[str, Any], n_rows: int) -> dict[str, np.ndarray]:
    """Covariates as arrays, one number, code or vector per row.

    Raises:
        PlatewiseError: If one is not made of finite numbers, or not of one per row.
    """
    arrays = {name: np.asarray(values) for name, values in covariates.items()}
    for name, values in arrays.items():
        if values.dtype.kind not in "fiub" or values.shape[:1] != (n_rows,):
            raise PlatewiseError(
                f"Expected covariate {name!r} as numbers for {n_rows} rows, got {values.dtype} of shape "
                f"{values.shape}. Give a number, code or vector per row, in the order of the matrix, or the name of an "
                "obs column."
            )
        if n_bad := int((~np.isfinite(values)).reshape(n_rows, -1).any(1).sum()):
            raise PlatewiseError(
                f"Expected covariate {name!r} of finite numbers, got {n_bad} of {n_rows} rows with others. Fill them "
                "in, or leave those rows out."
            )
    return arrays


def taken_by(model: Any) -> dict[str, dict[str, int]] | None:
    """What a model says that it reads, levels of `categories` and widths of `continuous`; None if it does not say."""
    said = getattr(model, "covariates", None)
    is_said = isinstance(said, Mapping) and set(said) == {"categories", "continuous"}
    return {kind: dict(said[kind]) for kind in said} if is_said and said is not None else None


def _kinds(model: Any) -> dict[str, Kind]:
    said = taken_by(model) or {}
    kinds: tuple[Kind, Kind] = ("categories", "continuous")
    return {name: kind for kind in kinds for name in said.get(kind, {})}


def require_taken(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Check arrays against what a model says that it reads, before a device sees them.

    Raises:
        PlatewiseError: If one is too many, has a code beyond the model's levels, or another width.
    """
    said = taken_by(model)
    if said is None:
        return
    for name, values in arrays.items():
        if name in said["categories"]:
            _require_codes(name, values, said["categories"][name])
        elif name in said["continuous"]:
            _require_width(name, math.prod(values.shape[1:]), said["continuous"][name])
        else:
            raise PlatewiseError(
                f"Expected covariates that the model reads ({', '.join(_kinds(model)) or 'none'}), got {name!r}. Leave "
                f"it out, or make the model with categories={{{name!r}: levels}} or continuous={{{name!r}: 1}}."
            )


def _require_codes(name: str, codes: np.ndarray, n_levels: int) -> None:
    if codes.dtype.kind not in "iu" or codes.ndim != 1:
        raise PlatewiseError(
            f"Expected covariate {name!r} as one whole number per row, from 0 to {n_levels - 1}, got {codes.dtype} of "
            f"shape {codes.shape}. Give its codes, e.g. pandas.factorize(...)[0], or the name of an obs column."
        )
    beyond = (codes < 0) | (codes >= n_levels)
    if beyond.any():
        raise PlatewiseError(
            f"Expected codes of covariate {name!r} from 0 to {n_levels - 1}, which the model has levels for, got "
            f"{codes[beyond][0]} (rows with such codes: {beyond.sum()}). Make the model with categories="
            f"{{{name!r}: {int(codes.max()) + 1}}}, or number the levels from 0."
        )


def _require_width(name: str, width: int, expected: int) -> None:
    if width != expected:
        raise PlatewiseError(
            f"Expected covariate {name!r} as {expected} numbers per row, as the model takes it, got {width}. Make the "
            f"model with continuous={{{name!r}: {width}}}."
        )


def describe_covariates(covariates: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Shape per row and dtype of each covariate, as a batch carries them."""
    kinds = {"f": "float32", "i": "int64", "u": "int64", "b": "bool"}
    return {name: {"shape": list(x.shape[1:]), "dtype": kinds[x.dtype.kind]} for name, x in covariates.items()}


def blank_batch(n_rows: int, n_cols: int, covariates: Mapping[str, Any]) -> RowBatch:
    """A batch of one row and one entry, with covariates of zeros of the right shapes."""
    zeros = {
        name: torch.zeros(1, *spec["shape"], dtype=getattr(torch, spec["dtype"])) for name, spec in covariates.items()
    }
    return RowBatch.blank(n_rows, n_cols, zeros)
