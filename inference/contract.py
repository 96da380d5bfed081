"""What a model and a guide must keep to, checked on one batch before a fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.nn import PyroModule
from torch import nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.program_lines import ProgramLines, line_of
from .contract_faults import explained
from .contract_particles import require_particles
from .contract_runs import require_parameters, run, run_on_fewer_rows, undisturbed
from .contract_sites import (
    refuse_discrete_latents,
    refuse_global_parameters,
    require_same_plates,
    require_same_sites,
)
from .contract_sizes import require_batch_plates
from .contract_values import require_finite, require_guide_support, require_shapes, require_support


def check_contract(model: Any, guide: Any, batch: RowBatch) -> None:
    """Run guide and model on a batch and compare their sites; run the model on fewer rows and compare its own.

    Costs a few steps of a fit, whatever the number of rows.

    Raises:
        PlatewiseError: Naming the site or plate that breaks the contract, its line, and what to do. Errors in a
            program that have nothing to do with the contract are let through.
    """
    with one_line(), torch.no_grad(), pyro.get_param_store().scope():
        try:
            _check(model, guide, batch)
        except PlatewiseError:
            raise
        except Exception:  # draws from a bad distribution break off first
            require_parameters(model, guide, batch)
            raise
        require_parameters(model, guide, batch)
        require_finite(model, guide, batch)


def _check(model: Any, guide: Any, batch: RowBatch) -> None:
    q, p = run(guide, batch), run(model, batch)
    refuse_global_parameters(p, q)
    require_batch_plates(p, q, run_on_fewer_rows(model, guide, batch))
    require_same_sites(p, q)
    refuse_discrete_latents(p, q)
    require_same_plates(p, q)
    require_guide_support(p, q)
    as_fitted = run(poutine.replay(model, q.trace), batch)
    require_support(as_fitted)
    require_shapes(as_fitted)


def check_particles(model: Any, guide: Any, batch: RowBatch, plate: AbstractContextManager[Any]) -> None:
    """Run guide and model in a plate of particles, which only programs that index from the right can stand.

    Raises:
        PlatewiseError: If they break off there, or naming an observed site that mixes the draws of particles.
    """
    with torch.no_grad(), undisturbed(model, guide, batch):
        require_particles(model, guide, batch, plate)


@contextmanager
def one_line() -> Iterator[None]:
    """Errors without the shapes of a trace, which Pyro appends to them, and with the line of the site they name."""
    lines = ProgramLines()
    try:
        with lines:
            yield
    except PlatewiseError as error:
        raise PlatewiseError(lines.added_to(str(error).splitlines()[0])) from error
    except (ValueError, RuntimeError, IndexError) as error:
        if (told := explained(error)) is not None:
            raise told from error
        raise


class Program(nn.Module):
    """A plain function of Pyro statements, as a model without parameters.

    Args:
        function: Called as `function(batch)`.
    """

    def __init__(self, function: Callable[[RowBatch], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, batch: RowBatch) -> Any:
        """Run the function's statements."""
        return self.function(batch)


def as_module(model: Any) -> nn.Module:
    """A model as a module: itself, or a plain function wrapped as one.

    Raises:
        PlatewiseError: If it is neither.
    """
    if inspect.isroutine(model):
        _require_a_batch("model", model, f"function {model.__name__}")
        return Program(model)
    require_module("model", model)
    return cast(nn.Module, model)


def require_module(kind: str, module: Any) -> None:
    """Check that a model or a guide is a module.

    Raises:
        PlatewiseError: If it is not.
    """
    if not isinstance(module, nn.Module):
        raise PlatewiseError(
            f"Expected the {kind} to be an nn.Module called as {kind}(batch), got {_name(module)}. Put its "
            "statements into the forward method of a PyroModule."
        )
    if isinstance(module, PyroModule) and not hasattr(module._pyro_context, "param_state"):
        raise PlatewiseError(
            f"Expected the {kind} {type(module).__name__} to be made after importing platewise, which keeps a module's "
            "parameters in the module, got one made before. Import platewise.data first."
        )
    _require_a_batch(kind, module.forward, f"forward of {type(module).__name__}")


def _require_a_batch(kind: str, program: Any, name: str) -> None:
    """Check that a program can be called with a batch alone, by its signature where it has one."""
    try:
        signature = inspect.signature(program)
    except ValueError:
        return
    try:
        signature.bind(None)
    except TypeError:
        code = getattr(inspect.unwrap(program), "__code__", None)
        raise PlatewiseError(
            f"Expected the {kind} to be called as {kind}(batch), got {name} with arguments {signature}"
            f"{line_of(code) if code else ''}. Let it take the batch alone: entries, sizes and covariates are in it."
        ) from None


def _name(x: Any) -> str:
    return f"the class {x.__name__}" if isinstance(x, type) else type(x).__name__
