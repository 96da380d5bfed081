"""Modules described in plain text, and made again from it."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from .contract import Program, as_module, require_module
from .covariates import blank_batch
from .device import own_generators
from .own_source import Copies, Gathered, own_source, require_one_file, what_went_wrong
from .protocols import Allocates, needs_setup

Kind = Literal["model", "guide"]
_DESCRIPTIONS = ({"class", "config"}, {"class", "config", "source"})  # keys of what `described` returns
_MADE = "_made_by"  # attribute of a module that `make` made: what was called, and with which settings


def make(called: Any, kind: Kind, settings: Mapping[str, Any]) -> nn.Module:
    """A model or guide of a person's own, that remembers what made it.

    Args:
        called: A class, or for a guide any function that returns one; for a model also a plain function of the batch.
        kind: What it is to be.
        settings: Arguments.

    Raises:
        PlatewiseError: In one line, if it cannot be made so, or needs a file beside its own.
    """
    require_one_file(called)
    if kind == "model" and inspect.isroutine(called):
        return as_module(called)
    try:
        module = called(**settings)
    except PlatewiseError:
        raise
    except Exception as error:  # whatever a person's own code may raise
        source = own_source(called)
        where = source.path if source else Path(called.__module__)
        raise PlatewiseError(
            f"Expected the {kind} {called.__qualname__} made with {dict(settings) or 'no settings'}, got "
            f"{what_went_wrong(error, where)}"
        ) from error
    require_module(kind, module)
    module.__dict__[_MADE] = (called, dict(settings))
    made: nn.Module = module
    return made


def described(module: nn.Module, sources: Gathered | None = None) -> dict[str, Any]:
    """Class of a module and its settings: the arguments that make one like it, in words that JSON has.

    Args:
        module: The module. Its settings are those that `make` gave it, or else its attribute `config` where its class
            takes them; modules among them are described likewise.
        sources: Takes in the source of what is not Platewise's own, where there is a file of it.

    Returns:
        `class` and `config`, and of a person's own also `source`, the name of the copy. `config` is None where the
        settings are not known, or are none that JSON has.
    """
    own, config = made_by(module)
    if config is not None:
        config = {name: described(x, sources) if isinstance(x, nn.Module) else x for name, x in config.items()}
    if own.__module__.startswith("platewise."):
        return {"class": f"{own.__module__}:{own.__qualname__}", "config": config}
    source = own_source(own) if sources is not None else None
    if sources is None or source is None:
        return {"class": f"{own.__module__}:{own.__qualname__}", "config": {}}
    name = f"{source.path.stem}:{own.__qualname__}"
    return {"class": name, "config": config if _fits_json(config) else None, "source": sources.add(source)}


def made_by(module: nn.Module) -> tuple[Any, dict[str, Any] | None]:
    """What was called to make a module, and the settings it was called with; None if these are not known."""
    if isinstance(module, Program):
        return module.function, {}
    made: tuple[Any, dict[str, Any] | None] | None = getattr(module, _MADE, None)
    return made or (type(module), _settings(module))


def _settings(module: nn.Module) -> dict[str, Any] | None:
    """The attribute `config`, if the class can be called with it: a subclass may inherit one that is not its own."""
    own, config = type(module), getattr(module, "config", None)
    if own.__module__.startswith("platewise."):
        return config if isinstance(config, dict) else {}
    if any(own.__init__ is base.__init__ for base in (nn.Module, PyroModule)):
        return {}
    taken = inspect.signature(own)
    if isinstance(config, dict) and _binds(taken, config):
        return config
    return None if taken.parameters else {}


def _binds(taken: inspect.Signature, config: Mapping[str, Any]) -> bool:
    try:
        taken.bind(**config)
    except TypeError:
        return False
    return True


def _fits_json(config: Any) -> bool:
    """Whether settings come back from JSON as they were, but for tuples, which are lists there."""
    try:
        return bool(json.loads(json.dumps(config)) == _with_lists(config))
    except (TypeError, ValueError):
        return False


def _with_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_lists(x) for key, x in value.items()}
    return [_with_lists(x) for x in value] if isinstance(value, list | tuple) else value


def rebuild(description: Mapping[str, Any], kind: Kind, given: Any = None, copies: Copies | None = None) -> nn.Module:
    """The caller's own module, or one made again: of Platewise's classes, or from a copy of its source.

    Args:
        description: What `described` said.
        kind: What it is to be.
        given: The module itself, or a model's plain function, where the caller has it.
        copies: Copies of source in the run directory.

    Raises:
        PlatewiseError: If it is not one of Platewise's own and neither given nor trusted, or this version lacks it.
    """
    if given is not None:
        module: nn.Module = as_module(given) if kind == "model" else given
        return module
    where, _, qualname = description["class"].partition(":")
    if copies is not None and "source" in description:
        return _from_source(description, kind, qualname, copies)
    if not where.startswith(f"platewise.{kind}s."):
        raise PlatewiseError(
            f"Expected the {kind} {qualname} of this fit, which is not one of Platewise's own, got none. "
            f"Make it as for the fit and pass load(..., {kind}={qualname}(...))."
        )
    try:
        called = getattr(importlib.import_module(where), qualname)
        made: nn.Module = called(**_with_modules(description["config"], kind, copies))
    except (ImportError, AttributeError, TypeError) as error:
        raise PlatewiseError(
            f"Expected a {kind} that this version of Platewise has, got {qualname} of {where}. "
            "Read it with the version that wrote it, or fit again."
        ) from error
    return made


def _from_source(description: Mapping[str, Any], kind: Kind, qualname: str, copies: Copies) -> nn.Module:
    module = copies.module(description["source"], kind, qualname)
    called: Any = module
    for name in qualname.split("."):
        called = getattr(called, name, None)
    if called is None or description["config"] is None:
        got = "no such name" if called is None else "settings that are not known, or that JSON could not hold"
        raise PlatewiseError(
            f"Expected {qualname} and its settings in {copies.run}, got {got}. Make it as for the fit and pass "
            f"load(..., {kind}=...); a class whose `config` is a dict of plain arguments is made again by itself."
        )
    return make(called, kind, _with_modules(description["config"], kind, copies))


def _with_modules(config: Mapping[str, Any], kind: Kind, copies: Copies | None) -> dict[str, Any]:
    """Settings with a module for each description of one."""
    return {
        name: rebuild(x, kind, None, copies) if isinstance(x, dict) and set(x) in _DESCRIPTIONS else x
        for name, x in config.items()
    }


def allocate(
    model: nn.Module, guide: nn.Module, sizes: tuple[int, int], covariates: Mapping[str, Any], like: Tensor
) -> None:
    """Give a model and a guide their parameters, of the right shapes; what these hold does not matter yet.

    Args:
        model: The model.
        guide: The guide; made for the model unless it has been.
        sizes: Numbers of rows and columns.
        covariates: Shape per row and dtype of each covariate.
        like: A tensor of the device and dtype they are to have.
    """
    if isinstance(model, Allocates) and not list(model.parameters()):
        with own_generators(like.device):
            model.allocate(blank_batch(*sizes, covariates))
    model.to(like)
    if needs_setup(guide):
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
