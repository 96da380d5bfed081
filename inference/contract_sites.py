"""A guide's sites beside the model's: the same names, shapes and plates, and parameters that live in modules."""

from __future__ import annotations

from typing import Any

import pyro

from ..data.errors import PlatewiseError
from .contract_runs import Run


def refuse_global_parameters(*runs: Run) -> None:
    """Check that no parameter comes from Pyro's store; PyroParam attributes leave a mark in a trace as well.

    Raises:
        PlatewiseError: Naming one that does.
    """
    store = pyro.get_param_store()
    for run in runs:
        for name, site in run.trace.nodes.items():
            if site["type"] == "param" and getattr(site["fn"], "__self__", None) is store:
                raise PlatewiseError(
                    f"Expected parameters to be PyroParam attributes of a module, got pyro.param({name!r})"
                    f"{run.lines.of(name)}, which would not be trained. Make it an attribute."
                )


def require_same_sites(p: Run, q: Run) -> None:
    """Check that the guide samples the model's latent sites, besides auxiliary ones of its own.

    Raises:
        PlatewiseError: Naming those that it lacks or has too many.
    """
    missing, extra = set(p.latents) - set(q.latents), set(q.latents) - set(p.latents)
    extra = {name for name in extra if not q.latents[name]["infer"].get("is_auxiliary")}
    changes = [f"add {name!r}{p.lines.of(name)} to it" for name in sorted(missing)]
    changes += [f"remove {name!r}{q.lines.of(name)} from it" for name in sorted(extra)]
    if changes:
        remedy = ", ".join(changes)
        raise PlatewiseError(
            f"Expected the guide to sample the model's latent sites {sorted(p.latents)}, got {sorted(q.latents)}. "
            f"{remedy[0].upper()}{remedy[1:]}."
        )


def refuse_discrete_latents(p: Run, q: Run) -> None:
    """Check that discrete latent sites have draws with gradients in the guide, which none but fixed values have.

    Raises:
        PlatewiseError: Naming one that has not.
    """
    for name, site in p.latents.items():
        if _is_discrete(site["fn"]) and not q.latents[name]["fn"].has_rsample:
            raise PlatewiseError(
                f"Expected continuous latent sites, got {name!r} of {type(site['fn']).__name__}, which is "
                f"discrete{p.lines.of(name)}. Sum it out in the model."
            )


def require_same_plates(p: Run, q: Run) -> None:
    """Check a guide's shapes, of which others broadcast, and its plates of rows, without which scales differ, silently.

    Raises:
        PlatewiseError: Naming a site that is not as in the model.
    """
    for name, site in p.latents.items():
        other, line = q.latents[name], q.lines.of(name)
        expected, got = (f"{tuple(s['fn'].batch_shape)} + {tuple(s['fn'].event_shape)}" for s in (site, other))
        if got != expected:
            raise PlatewiseError(
                f"Expected the guide to sample {name!r} of shape {expected} (plates + event), as the model does, got "
                f"{got}{line}. Open the model's plates around it, and use .to_event() as the model does."
            )
        if p.plate_of(name) == "rows" != q.plate_of(name):
            raise PlatewiseError(
                f"Expected the guide to sample {name!r} in the plate of the batch's rows, got it outside{line}. Open "
                f"`with batch.row_plate({site['cond_indep_stack'][0].name!r}):` (create_plates= of Pyro's automatic "
                "guides)."
            )


def _is_discrete(fn: Any) -> bool:
    """Whether a distribution says that its values are; a person's own need not have a support."""
    try:
        return bool(fn.support.is_discrete)
    except NotImplementedError:
        return False
