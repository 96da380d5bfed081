"""A model and a guide made ready for a fit: starting values from some rows, parameters on the device."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..data.loader import RowLoader
from .covariates import blank_batch, describe_covariates
from .protocols import Allocates, Initialises, needs_setup

START_ROWS = 256  # rows, or those of a batch if more, that a model sees before a fit


def set_up(model: nn.Module, guide: nn.Module, loader: RowLoader) -> bool:
    """Put both on the loader's device; make the guide for the model unless it has parameters, the model set by rows.

    Returns:
        Whether the guide is new.
    """
    n_rows, n_cols = loader.source.shape
    blank = blank_batch(n_rows, n_cols, describe_covariates(loader.covariates))
    if isinstance(model, Allocates) and not list(model.parameters()):
        model.allocate(blank)
    model.to(loader.device, loader.dtype)
    if is_new := needs_setup(guide):
        starts: dict[str, Any] = model.initialise(loader.look(START_ROWS)) if isinstance(model, Initialises) else {}
        guide.setup(model, blank.to(loader.device, loader.dtype), starts)
    guide.to(loader.device, loader.dtype)
    return is_new
