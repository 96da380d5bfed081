"""Rows held out of a fit, to choose the epoch by whose parameters it ends with.

After each epoch the bound on the held-out rows is taken, whole (the divergence at weight 1, whatever its weight in
training), in evaluation mode, with the same few draws every time, so that epochs differ by their parameters alone.
Only for models whose latents are all of rows, with a guide that reads a row's latents off its entries: there, the
bound of a row that was held out is one of that row alone, and comparable with those of the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.loader import RowLoader
from ..data.row_subset import RowSubset
from ..data.sites import latent_sites, plate_of
from .device import own_generators

DRAWS = 4  # per row and epoch: the same ones, so that their noise is in all epochs alike
ROWS = 256  # in a batch of them, at least
HELD_OUT = "held_out"  # column of the fit's table of rows
PREFIX = "best:"  # of the best parameters in a fit's saved state


@dataclass
class Validation:
    """The held-out rows, and the best epoch so far.

    Attributes:
        loader: The held-out rows.
        patience: Epochs without a better bound before the fit stops; None for any number.
        best: The best bound so far, nats a row.
        best_epoch: Its epoch, from 1; 0 before there is one.
        epoch: The last epoch looked at.
        kept: Parameters and buffers of the best epoch; empty before there is one, and once they are put back.
    """

    loader: RowLoader
    patience: int | None
    best: float = -math.inf
    best_epoch: int = 0
    epoch: int = 0
    kept: dict[str, Tensor] = field(default_factory=dict)

    def note(self, elbo: nn.Module, epoch: int) -> float:
        """Take the bound after an epoch, and keep the parameters if none was better.

        Returns:
            The bound on a held-out row on average, in nats.
        """
        value = bound_per_row(elbo, self.loader)
        self.epoch = epoch
        if value > self.best:  # never of a bound that is not a number
            self.best, self.best_epoch = value, epoch
            self.kept = {name: x.detach().clone() for name, x in elbo.state_dict().items()}
        return value

    @property
    def exhausted(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self.epoch - self.best_epoch >= self.patience

    def put_back(self, elbo: nn.Module) -> None:
        """Give the modules the parameters of the best epoch."""
        if self.kept:
            elbo.load_state_dict(self.kept)
            self.kept = {}

    def marked(self, obs: pd.DataFrame) -> pd.DataFrame:
        """The table of all rows, with a column that says which were held out."""
        source: Any = self.loader.source
        return obs.assign(**{HELD_OUT: np.isin(np.arange(len(obs)), source.rows)})

    def in_words(self) -> str:
        """Whose parameters a fit that is done has."""
        if not self.best_epoch:
            return "the held-out bound was never finite; parameters are those of the last epoch"
        return f"parameters are those of epoch {self.best_epoch}, with the best held-out bound"

    def state_dict(self) -> dict[str, Tensor]:
        """What is needed to go on, as tensors."""
        numbers = torch.tensor([self.best, self.best_epoch, self.epoch], dtype=torch.float64)
        return {"validation": numbers} | {PREFIX + name: x for name, x in self.kept.items()}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take up where `state_dict` left off; takes its tensors out of `tensors`."""
        best, best_epoch, epoch = tensors.pop("validation").tolist()
        self.best, self.best_epoch, self.epoch = best, int(best_epoch), int(epoch)
        names = [name for name in tensors if name.startswith(PREFIX)]
        self.kept = {name.removeprefix(PREFIX): tensors.pop(name).clone() for name in names}


def held_out_of(
    loader: RowLoader, n_entries: np.ndarray, share: float, patience: int | None
) -> tuple[RowLoader, Validation | None]:
    """A loader without the rows that its seed holds out, and the validation on those; or the loader as it is.

    Args:
        loader: All rows.
        n_entries: Entries of each row.
        share: Share of the rows to hold out: at least one, unless it is 0.
        patience: Of the validation.

    Raises:
        PlatewiseError: If no row, or none with entries, would be left to fit.
    """
    if not share:
        return loader, None
    n_rows, n_held = len(n_entries), max(round(share * len(n_entries)), 1)
    order = np.random.default_rng([loader.seed, n_rows]).permutation(n_rows)
    held, kept = np.sort(order[:n_held]), np.sort(order[n_held:])
    if not n_entries[kept].sum():
        raise PlatewiseError(
            f"Expected rows with entries to fit besides those held out, got {n_rows} rows and validation={share}. "
            "Set validation=0."
        )
    few = _some(loader, held, n_entries)
    return _some(loader, kept, n_entries), Validation(replace(few, batch_rows=max(loader.batch_rows, ROWS)), patience)


def _some(loader: RowLoader, rows: np.ndarray, n_entries: np.ndarray) -> RowLoader:
    subset = RowSubset(loader.source, rows, int(n_entries[rows].sum()))
    return replace(loader, source=subset, covariates={name: x[rows] for name, x in loader.covariates.items()})


def require_rows_alone(model: nn.Module, guide: nn.Module, batch: RowBatch) -> None:
    """Check that a row held out has a bound of its own.

    Raises:
        PlatewiseError: If the model has latents that are not of rows, or the guide a table of rows.
    """
    with torch.no_grad(), pyro.validation_enabled(False), own_generators(batch.value.device):
        traces = [poutine.trace(module).get_trace(batch) for module in (model, guide)]
    others = {n for trace in traces for n, s in latent_sites(trace).items() if plate_of(s, trace, batch) != "rows"}
    if others or any(getattr(part, "sparse", False) for part in guide.modules()):
        raise PlatewiseError(
            f"Expected a model whose latents are all of rows and read off their entries (a VAE) for validation, got "
            f"{type(model).__name__} by {type(guide).__name__}. Set validation=0, and hold out entries with "
            "split_entries instead."
        )


def bound_per_row(elbo: nn.Module, loader: RowLoader, draws: int = DRAWS) -> float:
    """The bound on a row of a loader, on average, in nats; draws are the same at every call."""
    with evaluating(elbo, loader):
        terms = [elbo(batch).double() * len(batch.rows) for batch in loader.in_order() for _ in range(draws)]
        n_rows = loader.source.shape[0]
        return float(torch.stack(terms).sum()) / (draws * n_rows * n_rows)  # each term is a bound on all rows


@contextmanager
def evaluating(elbo: nn.Module, loader: RowLoader) -> Iterator[None]:
    """A block in evaluation mode, without gradients, whose random numbers are those of the seed, and its own."""
    was = {module: module.training for module in elbo.modules()}
    elbo.eval()
    try:
        with torch.no_grad(), own_generators(torch.device(loader.device)):
            torch.manual_seed(loader.seed)
            yield
    finally:
        for module, training in was.items():
            module.training = training
