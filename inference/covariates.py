"""Covariates of the rows: as arrays before a fit, and their shapes for making a batch without data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError


def as_arrays(covariates: Mapping[str, Any], n_rows: int) -> dict[str, np.ndarray]:
    """Covariates as arrays, one number, code or vector per row.

    Raises:
        PlatewiseError: If one is not made of numbers, or not of one per row.
    """
    arrays = {name: np.asarray(values) for name, values in covariates.items()}
    for name, values in arrays.items():
        if values.dtype.kind not in "fiub" or values.shape[:1] != (n_rows,):
            raise PlatewiseError(
                f"Expected covariate {name!r} as numbers for {n_rows} rows, got {values.dtype} of shape "
                f"{values.shape}. Give a number, code or vector per row, in the order of the matrix."
            )
    return arrays


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
