"""What a model and a guide must keep to, checked on one batch before a fit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pyro
import torch
from pyro import poutine
from pyro.nn import PyroModule
from pyro.poutine.trace_struct import Trace
from torch import nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.sites import latent_sites, observed_sites, plate_of


def check_contract(model: Any, guide: Any, batch: RowBatch) -> None:
    """Run guide and model once and compare their sites.

    Raises:
        PlatewiseError: Naming the site or plate that breaks the contract, and what to do.
    """
    with torch.no_grad(), pyro.get_param_store().scope():
        q, p = (poutine.trace(module).get_trace(batch) for module in (guide, model))
        _refuse_global_parameters(p, q)
        _same_sites(p, q)
        _plates_take_the_batch(p, batch)
        _same_plates(p, q, batch)
        _observed_shapes(poutine.trace(poutine.replay(model, q)).get_trace(batch))


@contextmanager
def one_line() -> Iterator[None]:
    """Errors without the shapes of a trace, which Pyro appends to them."""
    try:
        yield
    except PlatewiseError as error:
        raise PlatewiseError(str(error).splitlines()[0]) from error


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


def _name(x: Any) -> str:
    return f"the class {x.__name__}" if isinstance(x, type) else type(x).__name__


def _refuse_global_parameters(*traces: Trace) -> None:
    """PyroParam attributes leave a mark in a trace as well; they do not come from the store."""
    store = pyro.get_param_store()
    sites = [(name, site) for t in traces for name, site in t.nodes.items() if site["type"] == "param"]
    names = [name for name, site in sites if getattr(site["fn"], "__self__", None) is store]
    if names:
        raise PlatewiseError(
            f"Expected parameters to be PyroParam attributes of a module, got pyro.param({names[0]!r}), which would "
            "not be trained. Make it an attribute."
        )


def _same_sites(p: Trace, q: Trace) -> None:
    missing, extra = set(latent_sites(p)) - set(latent_sites(q)), set(latent_sites(q)) - set(latent_sites(p))
    extra = {name for name in extra if not q.nodes[name]["infer"].get("is_auxiliary")}
    if missing or extra:
        raise PlatewiseError(
            f"Expected the guide to sample the model's latent sites {sorted(latent_sites(p))}, got "
            f"{sorted(latent_sites(q))}. Add or remove sites in the guide."
        )


def _plates_take_the_batch(p: Trace, batch: RowBatch) -> None:
    """A plate of `n_rows` that draws its own indices learns nothing, silently."""
    for name, site in (latent_sites(p) | observed_sites(p)).items():
        for frame in site["cond_indep_stack"]:
            if frame.full_size == batch.n_rows and frame.size < batch.n_rows and plate_of(site, p, batch) != "rows":
                raise PlatewiseError(
                    f"Expected plate {frame.name!r} of site {name!r} to take the batch's rows, got one that draws its "
                    f"own. Write `with batch.row_plate({frame.name!r}):`."
                )


def _same_plates(p: Trace, q: Trace, batch: RowBatch) -> None:
    """A guide's site of another shape broadcasts, and one outside the row plate has another scale, silently."""
    for name, site in latent_sites(p).items():
        expected, got = (f"{tuple(s['fn'].batch_shape)} + {tuple(s['fn'].event_shape)}" for s in (site, q.nodes[name]))
        if got != expected:
            raise PlatewiseError(
                f"Expected the guide to sample {name!r} of shape {expected} (plates + event), as the model does, got "
                f"{got}. Open the model's plates around it, and use .to_event() as the model does."
            )
        if plate_of(site, p, batch) == "rows" != plate_of(q.nodes[name], q, batch):
            raise PlatewiseError(
                f"Expected the guide to sample {name!r} in the plate of the batch's rows, got it outside. Open `with "
                f"batch.row_plate({site['cond_indep_stack'][0].name!r}):` (create_plates= of Pyro's automatic guides)."
            )


def _observed_shapes(p: Trace) -> None:
    for name, site in observed_sites(p).items():
        plates = {frame.dim: frame.size for frame in site["cond_indep_stack"] if frame.dim is not None}
        nesting = max((-dim for dim in plates), default=0)
        expected = torch.Size([plates.get(dim, 1) for dim in range(-nesting, 0)])
        got = site["fn"].log_prob(site["value"]).shape
        if got != expected:
            raise PlatewiseError(
                f"Expected observed site {name!r} with log-probabilities of its plates' shape {tuple(expected)}, got "
                f"{tuple(got)}. Something broadcasts: use dim=-1 plates and .to_event() for the other axes."
            )
