"""Observed values: those that their likelihood can have, with one finite log-probability for each element of plates."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import MaskedDistribution, Unit
from pyro.distributions.util import scale_and_mask
from torch import Tensor
from torch.distributions import constraints

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from .constraint_words import SHOWN, elementwise, first_violation, in_words
from .contract_runs import TRIES, Run, run, undisturbed

UNBOUNDED = ("Normal", "StudentT", "Laplace", "Cauchy")  # families, as transforms may not say where they lead
BOUNDED = tuple(
    type(x)
    for x in (constraints.positive, constraints.nonnegative, constraints.less_than(0.0), constraints.unit_interval)
)


def require_support(p: Run) -> None:
    """Check that observed values are in the support of their distributions, masked sites left out.

    Raises:
        PlatewiseError: Naming the site, what its values may be, and the first that may not.
    """
    for name, site in p.observed.items():
        support = _support(site)
        wrong = None if support is None else first_violation(support, site["value"])
        if wrong is not None:
            raise PlatewiseError(
                f"Expected values of observed site {name!r} to be {in_words(support)}, as {_law(site)} has them, got "
                f"{wrong}{p.lines.of(name)}. Choose a likelihood for such values, or change the data."
            )


def require_guide_support(p: Run, q: Run) -> None:
    """Check that a guide keeps to where the prior has mass: that no site with bounds is drawn from the whole line.

    Raises:
        PlatewiseError: Naming the site, and what its values may be.
    """
    for name, site in p.latents.items():
        support = elementwise(_support(site))
        if isinstance(support, BOUNDED) and (law := _law(q.latents[name])) in UNBOUNDED:
            raise PlatewiseError(
                f"Expected the guide to draw {name!r} from {in_words(support)}, as {_law(site)} in the model has them, "
                f"got draws of {law}, which are any{q.lines.of(name)}. Transform a normal: "
                "dist.TransformedDistribution(normal, biject_to(support)), or dist.LogNormal for numbers above 0."
            )


def require_finite(model: Any, guide: Any, batch: RowBatch) -> None:
    """Check that log-probabilities of observed values are finite at draws from the guide.

    Raises:
        PlatewiseError: If some are not at any of several draws, naming the site and the first such value.
    """
    told = None
    with undisturbed(model, guide, batch):
        for _ in range(TRIES):
            q = run(guide, batch)
            told = _not_finite(run(poutine.replay(model, q.trace), batch))
            if told is None:
                return
    if told is not None:
        raise PlatewiseError(told)


def _not_finite(p: Run) -> str | None:
    for name, site in p.observed.items():
        log_prob = scale_and_mask(_log_prob(name, site, p), 1.0, site["mask"])
        wrong = ~log_prob.isfinite()
        if wrong.any():
            law = "" if isinstance(site["fn"], Unit) else f" under {_law(site)}"  # Unit: pyro.factor
            return (
                f"Expected finite log-probabilities of observed site {name!r}, got {log_prob[wrong][0]:g}"
                f"{_place(site['value'], wrong, p.batch)}{law}{p.lines.of(name)}. Choose a likelihood that has such "
                "values, or keep its parameters within bounds: softplus in place of .exp(), no logarithm of 0 or less."
            )
    return None


def _place(value: Tensor, wrong: Tensor, batch: RowBatch) -> str:
    """The first value with a wrong log-probability; the row, where a row's values have one together."""
    if value.shape[: wrong.ndim] == wrong.shape and value.numel():
        numbers = [f"{x:g}" for x in value[wrong][0].flatten()[:SHOWN].tolist()]
        return f" for the value {', '.join(numbers)}"
    if wrong.shape == batch.rows.shape:
        return f" for row {batch.rows[wrong][0]}"
    return ""


def require_shapes(p: Run, remedy: str = "use dim=-1 plates and .to_event() for the other axes") -> None:
    """Check that observed sites have log-probabilities of the shape of their plates.

    Args:
        p: The run.
        remedy: What to do about one that broadcasts.

    Raises:
        PlatewiseError: Naming the site, and the two shapes.
    """
    for name, site in p.observed.items():
        plates = {frame.dim: frame.size for frame in site["cond_indep_stack"] if frame.dim is not None}
        nesting = max((-dim for dim in plates), default=0)
        expected = torch.Size([plates.get(dim, 1) for dim in range(-nesting, 0)])
        got = _log_prob(name, site, p).shape
        if got != expected:
            raise PlatewiseError(
                f"Expected observed site {name!r} with log-probabilities of its plates' shape {tuple(expected)}, got "
                f"{tuple(got)}{p.lines.of(name)}. Something broadcasts: {remedy}."
            )


def _log_prob(name: str, site: Any, p: Run) -> Tensor:
    fn, value = site["fn"], site["value"]
    try:
        with pyro.validation_enabled(False):
            log_prob: Tensor = fn.log_prob(value)
    except PlatewiseError as error:
        raise PlatewiseError(f"{error} This is observed site {name!r}{p.lines.of(name)}.") from error
    except (ValueError, RuntimeError) as error:
        expected, got = (tuple(x) for x in (fn.batch_shape + fn.event_shape, value.shape))
        if expected == got:
            raise
        raise PlatewiseError(
            f"Expected values of observed site {name!r} of shape {expected}, got {got}{p.lines.of(name)}. Pass "
            "obs=batch.value in batch.entries(...), and one value for each row in batch.row_plate(...)."
        ) from error
    return log_prob


def _support(site: Any) -> Any:
    """The constraint on a site's values; None where it has none that can be checked, or some values do not count."""
    if site["mask"] is not None or isinstance(site["fn"], MaskedDistribution):
        return None
    try:
        support = site["fn"].support
    except NotImplementedError:
        return None
    return None if constraints.is_dependent(support) else support


def _law(site: Any) -> str:
    """Name of a site's family, without the wrappers that plates and events put around it."""
    fn = site["fn"]
    while hasattr(fn, "base_dist") and type(fn).__name__ in ("Independent", "ExpandedDistribution"):
        fn = fn.base_dist
    return type(fn).__name__
