"""`Fitted`: what every algorithm returns, and every read-out takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ..data.batches import RowBatch
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

    def blank_batch(self) -> RowBatch:
        """One row with one entry, for finding the model's sites."""
        return blank_batch(self.n_rows, self.n_cols, self.covariates).to(self.device, self.dtype)


def blank_batch(n_rows: int, n_cols: int, covariates: Mapping[str, Any]) -> RowBatch:
    """A batch of one row and one entry, with covariates of zeros of the right shapes."""
    zeros = {
        name: torch.zeros(1, *spec["shape"], dtype=getattr(torch, spec["dtype"])) for name, spec in covariates.items()
    }
    return RowBatch.blank(n_rows, n_cols, zeros)


def describe_source(source: Source) -> dict[str, Any]:
    """The fields of a `Fitted` that come from its data."""
    return {
        "obs": source.obs,
        "var": source.var,
        "meaning": source.meaning,
        "fingerprint": source.fingerprint,
    }


def describe_covariates(covariates: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Shape per row and dtype of each covariate, as a batch carries them."""
    kinds = {"f": "float32", "i": "int64", "u": "int64", "b": "bool"}
    return {name: {"shape": list(x.shape[1:]), "dtype": kinds[x.dtype.kind]} for name, x in covariates.items()}
