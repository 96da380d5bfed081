"""Observed values: those that their likelihood can have, with one log-probability for each element of their plates."""

from __future__ import annotations

from typing import Any

import pyro
import torch
from pyro.distributions import MaskedDistribution
from torch import Tensor
from torch.distributions import constraints

from ..data.errors import PlatewiseError
from .constraint_words import first_violation, in_words
from .contract_runs import Run


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
