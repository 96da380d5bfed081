"""`Fitted`: what every algorithm returns, and every read-out takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.source import Source


@dataclass
class Fitted:
    """A trained model and guide, and what there is to know about the fit.

    Attributes:
        model: The model, trained.
        guide: The guide, trained.
        algorithm: What fitted them, say "svi".
        options: The algorithm's options.
        seed: The one seed of the fit.
        history: One row per epoch: epoch, step, elbo (nats, an estimate over the epoch), seconds, entries_per_second,
            learning_rate, skipped.
        stopped: Why the fit stopped, in words.
        converged: Whether it is known to have converged; None where nothing was tested.
        obs: Names and side columns of the rows, with `n_entries`, their number of training entries.
        var: The same of the columns.
        meaning: What the training data said of themselves (`uns["platewise"]`).
        fingerprint: Digest of the training data.
        covariates: Name, shape per row and dtype of each covariate.
        state: What the algorithm needs to go on: tensors by name; empty when there is nothing to go on with.
    """

    model: nn.Module
    guide: nn.Module
    algorithm: str
    options: dict[str, Any]
    seed: int
    history: pd.DataFrame
    stopped: str
    converged: bool | None
    obs: pd.DataFrame
    var: pd.DataFrame
    meaning: dict[str, Any]
    fingerprint: str
    covariates: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Tensor] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Size of the plate of rows."""
        return len(self.obs)

    @property
    def n_cols(self) -> int:
        """Size of the plate of columns."""
        return len(self.var)

    @property
    def device(self) -> torch.device:
        """Where model and guide are."""
        return next(self.guide.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the guide's parameters."""
        return next(self.guide.parameters()).dtype

    @property
    def elbo(self) -> float:
        """The bound at the end of the fit, in nats: a lower bound of the log evidence, estimated over an epoch.

        NaN before the end of the first epoch.
        """
        return float(self.history["elbo"].iloc[-1]) if len(self.history) else math.nan

    def save(self, path: Path | str, *, force: bool = False, data: Path | str | None = None) -> None:
        """Write a run directory; see `run_directory.save`."""
        from .run_directory import save  # it needs this class

        save(self, path, force=force, data=data)

    @classmethod
    def load(cls, path: Path | str, **given: Any) -> Fitted:
        """Read a run directory; see `run_directory.load`."""
        from .run_directory import load

        return load(path, **given)

    def blank_batch(self) -> RowBatch:
        """One row with one entry, for finding the model's sites."""
        return blank_batch(self.n_rows, self.n_cols, self.covariates).to(self.device, self.dtype)


def blank_batch(n_rows: int, n_cols: int, covariates: Mapping[str, Any]) -> RowBatch:
    """A batch of one row and one entry, with covariates of zeros of the right shapes."""
    zeros = {
        name: torch.zeros(1, *spec["shape"], dtype=getattr(torch, spec["dtype"])) for name, spec in covariates.items()
    }
    return RowBatch.blank(n_rows, n_cols, zeros)


def require_same_fit(earlier: Fitted, options: Mapping[str, Any], seed: int, fingerprint: str) -> None:
    """Check that a fit can go on from an earlier one.

    Raises:
        PlatewiseError: If it was another fit, or there is nothing to go on with.
    """
    if not earlier.state:
        raise PlatewiseError("Expected a fit with its optimiser's state, got one without. Fit again.")
    if earlier.fingerprint != fingerprint:
        raise PlatewiseError("Expected the data that the fit was made on, got others (fingerprints differ).")
    if earlier.seed != seed:
        raise PlatewiseError(f"Expected the seed of the interrupted fit, {earlier.seed}, got {seed}.")
    if earlier.options != options:
        raise PlatewiseError(f"Expected the options of the interrupted fit, {earlier.options}, got {dict(options)}.")


def take_up(module: nn.Module, earlier: nn.Module) -> None:
    """Give a module the parameters of an earlier one like it.

    Raises:
        PlatewiseError: If they are not alike.
    """
    try:
        module.load_state_dict(earlier.state_dict())
    except RuntimeError as error:
        raise PlatewiseError(
            f"Expected a {type(earlier).__name__} like that of the interrupted fit, got another "
            f"{type(module).__name__}. Make it with the same settings."
        ) from error


def describe_source(source: Source) -> dict[str, Any]:
    """The fields of a `Fitted` that come from its data."""
    return {
        "obs": source.obs,
        "var": source.var,
        "meaning": source.meaning,
        "fingerprint": source.fingerprint,
    }


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
