"""Covariates from obs columns: labels as codes, amounts standardised, and later columns in the same way.

What was learnt from a column is recorded beside the shape and dtype that a batch has:

| column  | record                                                                                  |
|---------|-----------------------------------------------------------------------------------------|
| labels  | `{"shape": [], "dtype": "int64", "column": name, "levels": [...]}`: a code is a place    |
| amounts | `{"shape": [], "dtype": "float32", "column": name, "mean": m, "sd": s}`: (x - m) / s     |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from pandas.api import types

from ..data.errors import PlatewiseError

Kind = Literal["categories", "continuous"]
MOST_NAMED = 20  # levels or columns that a message lists


def read_column(
    name: str, column: str, obs: pd.DataFrame, kind: Kind | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """A covariate of a new fit.

    Args:
        name: The covariate.
        column: The column of obs.
        obs: The table of the rows.
        kind: What the model takes it as; if it does not say, real numbers are amounts and all else is labels.

    Returns:
        Codes or standardised amounts (n_rows,), and the record. Levels are the categories that occur, in their order;
        of other columns sorted.

    Raises:
        PlatewiseError: If there is no such column, rows lack a value, or it is not of that kind.
    """
    values = column_of(name, column, obs)
    kind = kind or ("continuous" if types.is_float_dtype(values.dtype) else "categories")
    if kind == "continuous":
        amounts = _amounts(name, column, values)
        mean = float(amounts.mean())
        sd = float(amounts.std()) if amounts.max() > amounts.min() else 1.0  # not what rounding leaves of a flat column
        about = {"shape": [], "dtype": "float32", "column": column, "mean": mean, "sd": sd}
        return (amounts - mean) / sd, about
    labels = _labels(name, values)
    levels = [str(level) for level in labels.cat.categories]
    return labels.cat.codes.to_numpy(np.int64), {"shape": [], "dtype": "int64", "column": column, "levels": levels}


def read_like(name: str, values: pd.Series, about: Mapping[str, Any]) -> np.ndarray:
    """A covariate of later rows, as a fit read its own.

    Args:
        name: The covariate.
        values: One label or amount per row.
        about: The fit's record.

    Raises:
        PlatewiseError: If rows lack a value, or have a label that the fit never saw.
    """
    if "levels" not in about:
        return (_amounts(name, str(values.name), values) - about["mean"]) / about["sd"]
    labels = _labels(name, values).astype(str)
    codes = pd.Index(about["levels"]).get_indexer(pd.Index(labels))
    if (codes < 0).any():
        raise PlatewiseError(
            f"Expected levels of covariate {name!r} that the fit saw ({_listed(about['levels'])}), got "
            f"{labels[codes < 0].iloc[0]!r} (rows with such levels: {(codes < 0).sum()}). Leave those rows out, or fit "
            "again with them."
        )
    return codes.astype(np.int64)


def column_of(
    name: str, column: str, obs: pd.DataFrame, remedy: str = "Name one that is there, or add it."
) -> pd.Series:
    """The column of obs that a covariate is in.

    Args:
        name: The covariate.
        column: The column.
        obs: The table of the rows.
        remedy: What to do where there is no such column.

    Raises:
        PlatewiseError: Listing the columns, if it is not there.
    """
    if column not in obs:
        there = _listed([str(x) for x in obs.columns]) or "no columns"
        raise PlatewiseError(f"Expected column {column!r} in obs for covariate {name!r}, got {there}. {remedy}")
    return obs[column]


def _labels(name: str, values: pd.Series) -> pd.Series:
    """Labels as a categorical column of the levels that occur; none is missing."""
    _require_all(name, int(values.isna().sum()), len(values))
    if types.is_datetime64_any_dtype(values.dtype) or types.is_complex_dtype(values.dtype):
        raise PlatewiseError(
            f"Expected covariate {name!r} as labels or real numbers, got {values.dtype}. Make it one of the two."
        )
    return values.astype("category").cat.remove_unused_categories()


def _amounts(name: str, column: str, values: pd.Series) -> np.ndarray:
    if not types.is_numeric_dtype(values.dtype) or types.is_complex_dtype(values.dtype):
        raise PlatewiseError(
            f"Expected covariate {name!r} as numbers, which the model takes it as, got {values.dtype} in column "
            f"{column!r}. Name a column of numbers, or give the model its levels as categories."
        )
    amounts = values.to_numpy(dtype=np.float64, na_value=np.nan)
    _require_all(name, int((~np.isfinite(amounts)).sum()), len(amounts))
    return amounts


def _require_all(name: str, n_missing: int, n_rows: int) -> None:
    if n_missing:
        raise PlatewiseError(
            f"Expected covariate {name!r} of every row, got {n_missing} of {n_rows} rows where it is missing or not "
            "finite. Fill it in, or leave those rows out."
        )


def _listed(names: list[str]) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
