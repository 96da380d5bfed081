"""The record of a fit: one line an epoch, and sums over the epoch in hand."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

COLUMNS = ("epoch", "step", "elbo", "seconds", "entries_per_second", "learning_rate", "skipped")
VALIDATION = "validation_elbo"  # one more, where rows are held out: the bound on one of them on average, in nats


@dataclass
class History:
    """Epochs done, and the one in hand.

    Attributes:
        sums: Of the epoch in hand, float64, on the device: the bound, and the share of rows that counted.
        seconds: Training time so far.
        epochs: One record an epoch, with `COLUMNS`.
    """

    sums: Tensor
    seconds: float = 0.0
    epochs: list[dict[Any, Any]] = field(default_factory=list)

    def add(self, elbo: Float[Tensor, ""], counts: Bool[Tensor, ""], share: float) -> None:
        """Add a step's estimate of the bound, from a share of the rows, where it counts; without a wait."""
        estimate = torch.stack([elbo.detach().double(), torch.ones_like(self.sums[0])]) * share
        self.sums += torch.where(counts, estimate, 0.0)

    def close_epoch(self, seconds: float, n_entries: float, **about: float | int) -> dict[Any, Any]:
        """Write the epoch down (this waits for the device) and start the next.

        Args:
            seconds: Time since the epoch began, or since the fit went on in the middle of it.
            n_entries: Entries seen in that time; 0 of a matrix without any, whose speed is then 0.
            **about: The other columns.

        Returns:
            The epoch's record.
        """
        bound, share = self.sums.tolist()
        self.sums.zero_()
        self.seconds += seconds
        elbo = bound / share if share else math.nan
        speed = n_entries / max(seconds, 1e-9)
        self.epochs.append(about | {"elbo": elbo, "seconds": self.seconds, "entries_per_second": speed})
        return self.epochs[-1]

    def table(self) -> pd.DataFrame:
        """One row per epoch; with `VALIDATION` where rows were held out."""
        further = [VALIDATION] if any(VALIDATION in epoch for epoch in self.epochs) else []
        return pd.DataFrame(self.epochs, columns=[*COLUMNS, *further])
