"""Running a fit's model and guide on chosen rows, without changing them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pyro
import scipy.sparse as sp
import torch
from pyro import poutine
from pyro.poutine.trace_struct import Trace
from torch import Tensor

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.seeds import require_seed
from ..data.sites import Plate, latent_sites, plate_of
from ..inference.device import own_generators
from ..inference.fitted import Fitted
from .covariates import Covariates, RowCovariates
from .training import training_matrix


@dataclass(frozen=True, eq=False)
class Reader:
    """A fit, with what it takes to run its guide on any of its rows.

    Attributes:
        fitted: The fit.
        places: Whose plate each latent site of the model stands in.
        covariates: Covariates of the rows.
        training: The training entries, if they were given.
    """

    fitted: Fitted
    places: dict[str, Plate]
    covariates: RowCovariates
    training: sp.csr_matrix | None

    def batch(self, rows: np.ndarray) -> RowBatch:
        """Rows of the fit with their training entries, or with none where those were not given."""
        names = self.fitted.obs.index.to_numpy()[rows]
        size = self.fitted.n_rows, self.fitted.n_cols
        if self.training is None:
            return self.assemble(rows, names, np.zeros(len(rows) + 1), np.zeros(0), np.zeros(0), *size)
        x = self.training[rows]
        return self.assemble(rows, names, x.indptr, x.indices, x.data, *size)

    def assemble(
        self,
        rows: np.ndarray,
        names: np.ndarray,
        crow: np.ndarray,
        col: np.ndarray,
        value: np.ndarray,
        n_rows: int,
        n_cols: int,
    ) -> RowBatch:
        """A batch on the fit's device, from CSR arrays and the names of its rows."""
        at, start, column = (torch.from_numpy(np.asarray(x, dtype=np.int64)) for x in (rows, crow, col))
        values = torch.from_numpy(np.asarray(value, dtype=np.float64))
        batch = RowBatch(at, start, column, values, n_rows, n_cols, self.covariates.take(names))
        return batch.to(self.fitted.device, self.fitted.dtype)

    def any_row(self) -> RowBatch:
        """A row that stands for none in particular: for globals and columns."""
        return without_entries(self.fitted.blank_batch())


@contextmanager
def reading(
    fitted: Fitted,
    seed: int,
    covariates: Covariates | None = None,
    data: ad.AnnData | Path | str | None = None,
) -> Iterator[Reader]:
    """A reader, with modules in evaluation mode, no gradients, and a generator of its own.

    Args:
        fitted: The fit; left as it is.
        seed: Seed of everything random.
        covariates: Covariates of the rows, if the model takes any.
        data: The training data.

    Raises:
        PlatewiseError: If covariates do not fit, the seed is negative, `data` are not the training data, or the
            guide reads a row's entries and there are none.
    """
    require_seed(seed)
    rows = RowCovariates(fitted, covariates)
    if data is None and not getattr(fitted.guide, "hold_rows", True):
        data = fitted.data
    training = None if data is None else training_matrix(fitted, data)
    with running(fitted):
        if training is None:
            _refuse_without_entries(fitted)
        places = _places(fitted)
        torch.manual_seed(seed)
        yield Reader(fitted, places, rows, training)


def without_entries(batch: RowBatch) -> RowBatch:
    """The same rows with no entries."""
    return replace(batch, crow=torch.zeros_like(batch.crow), col=batch.col[:0], value=batch.value[:0])


@contextmanager
def running(fitted: Fitted) -> Iterator[None]:
    """Model and guide to be run and not trained: in evaluation mode, no gradients, random numbers of their own."""
    with _evaluation_mode(fitted), torch.no_grad(), pyro.validation_enabled(False), own_generators(fitted.device):
        yield


@contextmanager
def _evaluation_mode(fitted: Fitted) -> Iterator[None]:
    """Dropout and batch normalisation as in prediction."""
    modes = [(part, part.training) for module in (fitted.model, fitted.guide) for part in module.modules()]
    for part, _ in modes:
        part.training = False
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _places(fitted: Fitted) -> dict[str, Plate]:
    batch = fitted.blank_batch()
    trace = poutine.trace(fitted.model).get_trace(batch)
    return {name: plate_of(site, trace, batch) for name, site in latent_sites(trace).items()}


def _refuse_without_entries(fitted: Fitted) -> None:
    """An amortised guide given a row without its entries would answer, and be wrong."""
    blank = fitted.blank_batch()
    with_one, with_none = (_values(fitted.guide, batch) for batch in (blank, without_entries(blank)))
    if not all(torch.equal(value, with_none[name]) for name, value in with_one.items()):
        raise PlatewiseError(
            f"Expected the training data, whose entries {type(fitted.guide).__name__} reads to know a row, got none. "
            "Pass data=."
        )


def _values(guide: Any, batch: RowBatch) -> dict[str, Tensor]:
    """Values of the guide's latent sites from one and the same stream of random numbers."""
    torch.manual_seed(0)
    trace: Trace = poutine.trace(guide).get_trace(batch)
    placed = {name: plate_of(site, trace, batch) for name, site in latent_sites(trace).items()}
    return {name: trace.nodes[name]["value"] for name, plate in placed.items() if plate != "entries"}
