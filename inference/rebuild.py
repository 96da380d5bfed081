"""Modules described in plain text, and made again from it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyro
import torch
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from .contract import Program, as_module
from .covariates import blank_batch
from .device import own_generators
from .protocols import Allocates, SetsUp


def described(module: nn.Module) -> dict[str, Any]:
    """Class of a module and, of Platewise's own, its settings: the arguments that make one like it."""
    own = module.function if isinstance(module, Program) else type(module)
    config = getattr(module, "config", {}) if own.__module__.startswith("platewise.") else {}
    return {"class": f"{own.__module__}:{own.__qualname__}", "config": config}


def rebuild(description: Mapping[str, Any], kind: Literal["model", "guide"], given: Any = None) -> nn.Module:
    """The caller's own module, or one of Platewise's classes made with its settings.

    Args:
        description: What `described` said.
        kind: What it is to be.
        given: The module itself, or a model's plain function, where the caller has it.

    Raises:
        PlatewiseError: If it is not one of Platewise's own and not given, or this version lacks it.
    """
    if given is not None:
        module: nn.Module = as_module(given) if kind == "model" else given
        return module
    where, _, qualname = description["class"].partition(":")
    if not where.startswith(f"platewise.{kind}s."):
        raise PlatewiseError(
            f"Expected the {kind} {qualname} of this fit, which is not one of Platewise's own, got none. "
            f"Make it as for the fit and pass load(..., {kind}={qualname}(...))."
        )
    try:
        made: nn.Module = getattr(importlib.import_module(where), qualname)(**description["config"])
    except (ImportError, AttributeError, TypeError) as error:
        raise PlatewiseError(
            f"Expected a {kind} that this version of Platewise has, got {qualname} of {where}. "
            "Read it with the version that wrote it, or fit again."
        ) from error
    return made


def allocate(
    model: nn.Module, guide: nn.Module, sizes: tuple[int, int], covariates: Mapping[str, Any], like: Tensor
) -> None:
    """Give a model and a guide their parameters, of the right shapes; what these hold does not matter yet.

    Args:
        model: The model.
        guide: The guide; made for the model unless it has parameters.
        sizes: Numbers of rows and columns.
        covariates: Shape per row and dtype of each covariate.
        like: A tensor of the device and dtype they are to have.
    """
    if isinstance(model, Allocates) and not list(model.parameters()):
        with own_generators(like.device):
            model.allocate(blank_batch(*sizes, covariates))
    model.to(like)
    if isinstance(guide, SetsUp) and not list(guide.parameters()):
        blank = blank_batch(*sizes, covariates).to(like.device, like.dtype)
        with own_generators(like.device):
            guide.setup(model, blank)
    guide.to(like)
    if not list(guide.parameters()):
        _first_call(guide, blank_batch(*sizes, covariates).to(like.device, like.dtype))


def _first_call(guide: nn.Module, batch: RowBatch) -> None:
    """Run a guide that makes its parameters when it is called for the first time, as Pyro's AutoGuides do."""
    with own_generators(batch.rows.device), torch.no_grad(), pyro.get_param_store().scope():
        guide(batch)


def fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load parameters, every one of them and no other.

    Raises:
        PlatewiseError: Naming the first that is missing, too many or of another shape.
    """
    expected = {name: tuple(x.shape) for name, x in module.state_dict().items()}
    got = {name: tuple(x.shape) for name, x in tensors.items()}
    for name in sorted(set(expected) | set(got)):
        if expected.get(name) != got.get(name):
            raise PlatewiseError(
                f"Expected {name} of shape {expected.get(name, 'none')} for {type(module).__name__}, "
                f"got {got.get(name, 'none')} in {path}. Is it the {type(module).__name__} of this fit?"
            )
    module.load_state_dict(dict(tensors))
