"""Covariates of the rows of a fit, and of new rows where they are given by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..data.errors import PlatewiseError
from ..inference.fitted import Fitted
from .names import names_of

Covariates = Mapping[str, Any]  # of each, an array (n_rows, ...) or a Series or DataFrame indexed by row id


class RowCovariates:
    """What each row of a batch carries beside its entries.

    Args:
        fitted: The fit, which knows what covariates its model takes.
        given: Of each covariate, an array with one row per row of the fit and in its order, or a pandas Series or
            DataFrame indexed by row id, which may hold rows that the fit does not know.

    Raises:
        PlatewiseError: If covariates are missing, are too many, or have another length or shape than in the fit.
    """

    def __init__(self, fitted: Fitted, given: Covariates | None) -> None:
        given = given or {}
        if set(given) != set(fitted.covariates):
            raise PlatewiseError(
                f"Expected the covariates of the fit, {sorted(fitted.covariates)}, got {sorted(given)}. Pass them as "
                "covariates={name: array}."
            )
        self._row_name = fitted.meaning["row_name"]
        self._tables = {name: _table(name, values, fitted) for name, values in given.items()}

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
    named = isinstance(values, pd.Series | pd.DataFrame)
    index = pd.Index(names_of(values.index)) if named else fitted.obs.index
    array = np.asarray(values)
    if len(array) != len(index) or list(array.shape[1:]) != list(fitted.covariates[name]["shape"]):
        expected = (len(index), *fitted.covariates[name]["shape"])
        raise PlatewiseError(
            f"Expected covariate {name!r} of shape {expected}, got {array.shape}. Give one row per row of the fit."
        )
    dtype = getattr(torch, fitted.covariates[name]["dtype"])
    return index, torch.as_tensor(array, dtype=fitted.dtype if dtype.is_floating_point else dtype)
