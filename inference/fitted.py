"""`Fitted`: what every algorithm returns, and every read-out takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd
import torch
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.source import Source
from .covariates import blank_batch
from .recalibration import Recalibration


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
            learning_rate, skipped; validation_elbo (nats a row) where rows were held out.
        stopped: Why the fit stopped, in words.
        converged: Whether it is known to have converged; None where nothing was tested.
        obs: Names and side columns of the rows, with `n_entries`, their number of training entries.
        var: The same of the columns.
        meaning: What the training data said of themselves (`uns["platewise"]`).
        fingerprint: Digest of the training data.
        covariates: Of each by name its shape per row and dtype; of one read off a column of obs also the column, and
            the levels of labels or the mean and sd of amounts (`obs_columns`).
        state: What the algorithm needs to go on: tensors by name; empty when there is nothing to go on with.
        data: The training data, or their path, for read-outs that need entries again; None if they are not at hand.
        recalibration: Factors on the noise that a calibration split asked for; None where there was none.
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
    data: ad.AnnData | Path | None = field(default=None, repr=False)
    recalibration: Recalibration | None = None

    def __post_init__(self) -> None:
        guide: Any = self.guide
        if not getattr(guide, "hold_rows", True):
            from .fold_in import fold_rows  # compiled code, needed by such guides alone

            guide.recompute = partial(fold_rows, self.model, guide)

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
        return self._parameter.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the guide's parameters."""
        return self._parameter.dtype

    @property
    def _parameter(self) -> Tensor:
        return next(chain(self.guide.parameters(), self.model.parameters()))

    @property
    def ran_out(self) -> bool:
        """Whether it took all epochs that it was allowed and has not converged: whole; it goes on if allowed more."""
        return self.stopped.startswith("not converged")

    @property
    def elbo(self) -> float:
        """The bound at the end of the fit, in nats: a lower bound of the log evidence, estimated over an epoch.

        NaN before the end of the first epoch. It is that of the last epoch, over the rows that were fitted, also where
        the parameters are those of an earlier one, by rows held out: `history` has both.
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


def describe_source(source: Source) -> dict[str, Any]:
    """The fields of a `Fitted` that come from its data."""
    return {
        "obs": source.obs,
        "var": source.var,
        "meaning": source.meaning,
        "fingerprint": source.fingerprint,
    }
