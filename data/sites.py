"""The sites of a model's trace: which are latent, and in whose plate each stands."""

from __future__ import annotations

from typing import Any, Literal

from pyro.poutine.subsample_messenger import _Subsample
from pyro.poutine.trace_struct import Trace

from .batches import RowBatch

Plate = Literal["rows", "cols", "entries", "global"]


def sample_sites(trace: Trace) -> dict[str, Any]:
    """All sample sites of a trace: latent, observed and deterministic; not the plates."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not isinstance(site["fn"], _Subsample)
    }


def latent_sites(trace: Trace) -> dict[str, Any]:
    """The sample sites of a trace that are not observed, plates and deterministic sites left out."""
    return {name: site for name, site in sample_sites(trace).items() if not site["is_observed"]}


def observed_sites(trace: Trace) -> dict[str, Any]:
    """The observed sites of a trace, deterministic sites left out."""
    return {
        name: site
        for name, site in sample_sites(trace).items()
        if site["is_observed"] and not site["infer"].get("_deterministic")
    }


def deterministic_sites(trace: Trace) -> dict[str, Any]:
    """The sites that `pyro.deterministic` recorded."""
    return {name: site for name, site in sample_sites(trace).items() if site["infer"].get("_deterministic")}


def plate_of(site: Any, trace: Trace, batch: RowBatch) -> Plate:
    """Whose plate a site stands in: the batch's rows, all columns, the batch's entries, or none of them."""
    opened = {id(trace.nodes[frame.name]["value"]) for frame in site["cond_indep_stack"]}
    known: dict[Plate, object] = {"rows": batch.rows, "cols": batch.cols, "entries": batch.index}
    return next((plate for plate, index in known.items() if id(index) in opened), "global")
