"""What a model and a guide must keep to, checked on one batch before a fit."""

from __future__ import annotations

from typing import Any

import torch
from pyro import poutine
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
    for kind, module in (("model", model), ("guide", guide)):
        if not isinstance(module, nn.Module):
            raise PlatewiseError(
                f"Expected the {kind} to be an nn.Module called as {kind}(batch), got {type(module).__name__}. Put its "
                "statements into the forward method of a PyroModule."
            )
    with torch.no_grad():
        q = poutine.trace(guide).get_trace(batch)
        p = poutine.trace(poutine.replay(model, q)).get_trace(batch)
    _refuse_global_parameters(p, q)
    _same_sites(p, q)
    _plates_take_the_batch(p, batch)
    _observed_shapes(p)


def _refuse_global_parameters(*traces: Trace) -> None:
    names = [name for t in traces for name, site in t.nodes.items() if site["type"] == "param"]
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
