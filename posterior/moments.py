"""Predictive moments in closed form, for models and guides that have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro import poutine
from torch import Tensor
from torch.distributions import Distribution

from ..data.errors import PlatewiseError
from ..inference.protocols import has_closed_form
from .blocks import Block
from .reader import Reader

Moments = tuple[Tensor, Tensor, Tensor]


def knows_moments(reader: Reader) -> bool:
    """Whether the model knows its predictive moments under this guide."""
    fitted = reader.fitted
    return has_closed_form(fitted.model, fitted.guide, fitted.blank_batch())


def latents(reader: Reader, block: Block) -> dict[str, Distribution]:
    """The distribution of each site on a block: the guide's.

    Of rows and columns that are new to the fit it is the prior's, at the posterior mean of whatever that depends on.
    """
    guide: Any = reader.fitted.guide
    q: dict[str, Distribution] = dict(guide.posterior(block.known))
    return q | _prior_blocks(reader, block, q) if block.new else q


def moments(reader: Reader, block: Block, q: Mapping[str, Distribution] | None = None) -> Moments:
    """Mean of each entry, variance of its expectation, and variance of the entry given that; each (e,).

    Args:
        reader: The fit.
        block: The entries.
        q: The distribution of each site, if it was looked up already.
    """
    model: Any = reader.fitted.model
    found: Moments = model.predictive_moments(block.batch, latents(reader, block) if q is None else q)
    return found


def _prior_blocks(reader: Reader, block: Block, q: dict[str, Distribution]) -> dict[str, Distribution]:
    new = [name for name in q if reader.places[name] in block.new]
    model: Any = reader.fitted.model
    centres = {name: _centre(site) for name, site in q.items() if name not in new}
    trace = poutine.trace(poutine.condition(model.prior, data=centres)).get_trace(block.batch)
    return {name: trace.nodes[name]["fn"] for name in new}


def _centre(q: Distribution) -> Tensor:
    try:
        return q.mean
    except NotImplementedError:
        return q.sample()


def refuse_without_moments(reader: Reader) -> PlatewiseError:
    """The error for a closed form that there is not."""
    model, guide = (type(part).__name__ for part in (reader.fitted.model, reader.fitted.guide))
    return PlatewiseError(
        f"Expected predictive moments of {model} under {guide} in closed form, got none. Use method='sampled'."
    )
