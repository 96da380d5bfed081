"""Sites and plates that change size with the batch: they belong to its rows or entries, and must say so.

A model is run on a batch and on fewer rows. What has another size then is of the batch's rows or entries, whatever
sizes agree by coincidence in one batch alone.
"""

from __future__ import annotations

from typing import Any, Literal

from pyro.distributions import Unit

from ..data.errors import PlatewiseError
from .contract_runs import Run

Kind = Literal["rows", "entries"]


def require_batch_plates(p: Run, q: Run, fewer: Run | None) -> None:
    """Check that what belongs to the batch's rows or entries stands in their plates.

    Args:
        p: The model on a batch.
        q: The guide on it.
        fewer: The model on fewer rows, if it can be run on them.

    Raises:
        PlatewiseError: Naming the site or plate, and its line.
    """
    for each in (p, fewer):
        if each is not None:
            _refuse_own_rows(each)
    for name in p.latents:
        kind = _changes_with(name, p, fewer)
        if "entries" in (kind, p.plate_of(name)):
            _refuse_forgotten_data(name, p, q)
        elif kind == "rows" and p.plate_of(name) == "global":
            raise PlatewiseError(_latent_outside(name, p))
    for name, site in p.observed.items():
        kind = None if isinstance(site["fn"], Unit) else _changes_with(name, p, fewer)  # a factor may scale itself
        if kind and fewer and p.plate_of(name) == "global" and _same_scale(site, fewer.trace.nodes[name]):
            raise PlatewiseError(_unscaled(name, p, kind))


def _refuse_own_rows(p: Run) -> None:
    """A plate of `n_rows` that draws its own indices learns nothing, silently."""
    for name, site in (p.latents | p.observed).items():
        for frame in site["cond_indep_stack"]:
            if frame.full_size == p.batch.n_rows and frame.size < p.batch.n_rows and p.plate_of(name) != "rows":
                raise PlatewiseError(
                    f"Expected plate {frame.name!r} of site {name!r} to take the batch's rows, got one that draws its "
                    f"own{p.lines.of(frame.name)}. Write `with batch.row_plate({frame.name!r}):`."
                )


def _changes_with(name: str, p: Run, fewer: Run | None) -> Kind | None:
    """What a site's size changes with, if it does; of an observed site, entries before rows."""
    if fewer is None or name not in fewer.trace.nodes:
        return None
    site = p.trace.nodes[name]
    shape, other = (tuple(each.trace.nodes[name]["value"].shape) for each in (p, fewer))
    if len(shape) != len(other):
        return None
    pairs = {(m, n) for m, n in zip(shape, other, strict=True) if m != n}
    sizes = {
        "rows": (len(p.batch.rows), len(fewer.batch.rows)),
        "entries": (len(p.batch.value), len(fewer.batch.value)),
    }
    order: tuple[Kind, ...] = ("entries", "rows") if site["is_observed"] else ("rows", "entries")
    return next((kind for kind in order if sizes[kind] in pairs), None)


def _refuse_forgotten_data(name: str, p: Run, q: Run) -> None:
    """A latent site per entry is one that nobody samples, or the only place where data could be."""
    if name not in q.latents or not p.observed:
        raise PlatewiseError(
            f"Expected the site {name!r} of the batch's entries to be observed, got a latent one{p.lines.of(name)}. "
            "Pass obs=batch.value."
        )


def _latent_outside(name: str, p: Run) -> str:
    """A latent site of the batch's rows without their plate."""
    b, site = len(p.batch.rows), p.trace.nodes[name]
    frame = next((f for f in site["cond_indep_stack"] if f.size == f.full_size == b), None)
    if frame is None:
        return (
            f"Expected latent site {name!r}, of the batch's {b} rows, in a plate of rows, got it in "
            f"none{p.lines.of(name)}. Write `with batch.row_plate(...):` around it."
        )
    return (
        f"Expected plate {frame.name!r} of site {name!r} to take the batch's rows, got one of the batch's size "
        f"{b}{p.lines.of(frame.name)}, which has no scale. Write `with batch.row_plate({frame.name!r}):`."
    )


def _unscaled(name: str, p: Run, kind: Kind) -> str:
    """An observed site of the batch whose scale is that of the batch alone."""
    frames = p.trace.nodes[name]["cond_indep_stack"]
    plate = frames[0].name if frames else kind
    where = f"plate {plate!r} of its own{p.lines.of(plate)}" if frames else f"no plate{p.lines.of(name)}"
    remedy = f"batch.{'entries' if kind == 'entries' else 'row_plate'}({plate!r})"
    return (
        f"Expected observed site {name!r} in the plate of the batch's {kind}, which scales it to all rows, got it in "
        f"{where}. Write `with {remedy}:`."
    )


def _same_scale(site: Any, other: Any) -> bool:
    return float(site["scale"]) == float(other["scale"])
