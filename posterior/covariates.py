"""Covariates of the rows of a fit, and of new rows: read off obs, or given by name or in order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.errors import PlatewiseError
from ..inference.covariates import as_arrays, require_taken
from ..inference.fitted import Fitted
from ..inference.obs_columns import column_of, read_like
from .names import names_of

NO_COLUMN = "The fit read such a column: add it, or give the one that holds the same its name."

Covariates = Mapping[str, Any]
"""Of each the name of a column of obs, an array with one row per row, or a Series or DataFrame indexed by row id.

Columns, and labels in any of them, are read as the fit read its own column. Numbers are handed on as they are."""


def covariates_of(fitted: Fitted, given: Covariates | None, obs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Covariates of the rows of a matrix, in their order, as the fit's model takes them.

    Args:
        fitted: The fit.
        given: The covariates; those that the fit read off columns of obs are read off the same columns if not given.
        obs: The table of the rows, indexed by row id.

    Raises:
        PlatewiseError: If covariates are missing or too many, have levels that the fit never saw, or another shape.
    """
    given = _with_columns(fitted, given)
    arrays = as_arrays({name: _values(name, x, obs, fitted) for name, x in given.items()}, len(obs))
    for name, values in arrays.items():
        _require_shape(name, values, (len(obs), *fitted.covariates[name]["shape"]))
    require_taken(fitted.model, arrays)
    return arrays


def _with_columns(fitted: Fitted, given: Covariates | None) -> dict[str, Any]:
    """What is given, and the columns that the fit recorded."""
    columns = {name: about["column"] for name, about in fitted.covariates.items() if "column" in about}
    taken = columns | dict(given or {})
    if set(taken) != set(fitted.covariates):
        raise PlatewiseError(
            f"Expected the covariates of the fit, {sorted(fitted.covariates)}, got {sorted(taken)}. Pass them as "
            "covariates={name: array}."
        )
    return taken


def _values(name: str, values: Any, obs: pd.DataFrame, fitted: Fitted) -> np.ndarray:
    """One row of numbers per row of `obs`."""
    if isinstance(values, pd.Series | pd.DataFrame):
        values = _by_name(name, values)
        missing = obs.index.difference(values.index)
        if len(missing):
            raise PlatewiseError(f"Expected covariate {name!r} of row {missing[0]!r}, got none. Give it for every row.")
        values = values.loc[obs.index]
    return _numbers(name, values, obs, fitted)


def _by_name(name: str, values: pd.Series | pd.DataFrame) -> pd.Series | pd.DataFrame:
    """The same by names of rows, which integer ids are too."""
    index = pd.Index(names_of(values.index))
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise PlatewiseError(
            f"Expected covariate {name!r} once for each row, got more than one for {twice!r}. Leave one."
        )
    return values.set_axis(index, axis=0)


def _numbers(name: str, values: Any, obs: pd.DataFrame, fitted: Fitted) -> np.ndarray:
    """A column, or labels, as the fit read its own; numbers as they are."""
    about = fitted.covariates[name]
    if isinstance(values, str):
        if "column" not in about:
            raise PlatewiseError(
                f"Expected covariate {name!r} as an array, as in the fit, got the column {values!r}. Give numbers, or "
                "fit with the name of the column."
            )
        return read_like(name, column_of(name, values, obs, NO_COLUMN), about)
    is_labels = (
        isinstance(getattr(values, "dtype", None), pd.CategoricalDtype) or np.asarray(values).dtype.kind in "OUS"
    )
    if is_labels and "levels" in about and np.ndim(values) == 1:
        return read_like(name, pd.Series(values), about)
    return np.asarray(values)


def _require_shape(name: str, values: np.ndarray, expected: tuple[int, ...]) -> None:
    if values.shape != expected:
        raise PlatewiseError(
            f"Expected covariate {name!r} of shape {expected}, got {values.shape}. Give one row per row of the fit."
        )


class RowCovariates:
    """What each row of a batch carries beside its entries.

    Args:
        fitted: The fit, which knows what covariates its model takes.
        given: Those of the fit, one row per row of the fit and in its order; or a Series or DataFrame by row id, which
            may hold rows that the fit does not know. Columns are those of the fit's own obs.

    Raises:
        PlatewiseError: If covariates are missing, are too many, or have another length or shape than in the fit.
    """

    def __init__(self, fitted: Fitted, given: Covariates | None) -> None:
        self._row_name = fitted.meaning["row_name"]
        self._tables = {name: _table(name, values, fitted) for name, values in _with_columns(fitted, given).items()}

    def take(self, names: np.ndarray) -> dict[str, Tensor]:
        """The covariates of rows, by their names.

        Raises:
            PlatewiseError: If those of a row were not given.
        """
        return {name: self._pick(name, names) for name in self._tables}

    def _pick(self, covariate: str, names: np.ndarray) -> Tensor:
        index, values = self._tables[covariate]
        code = index.get_indexer(pd.Index(names))
        if (code < 0).any():
            raise PlatewiseError(
                f"Expected covariate {covariate!r} of {self._row_name} {names[code < 0][0]!r}, got none. Give it as a "
                "pandas Series indexed by id."
            )
        return values[torch.from_numpy(code)]


def _table(name: str, values: Any, fitted: Fitted) -> tuple[pd.Index, Tensor]:
    """Names of the rows, and the covariate of each as a tensor."""
    index = fitted.obs.index
    if isinstance(values, pd.Series | pd.DataFrame):
        values = _by_name(name, values)
        index = values.index
    array = _numbers(name, values, fitted.obs, fitted)
    _require_shape(name, array, (len(index), *fitted.covariates[name]["shape"]))
    require_taken(fitted.model, {name: array})
    dtype = getattr(torch, fitted.covariates[name]["dtype"])
    return index, torch.as_tensor(array, dtype=fitted.dtype if dtype.is_floating_point else dtype)
