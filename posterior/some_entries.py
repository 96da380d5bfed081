"""The distribution of some elements of many, without working the others out."""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from torch import Tensor


# `Any`: the base of distributions in Pyro is a `typing.Callable`, which run-time type checks warn of
def of_some(many: Any, at: Tensor) -> Any:
    """The distribution of some elements of a distribution of independent ones.

    Args:
        many: A distribution without event dimensions.
        at: Their places (k,) among all, one after the other.
    """
    if isinstance(many, dist.ZeroInflatedDistribution):
        gate = many.gate_logits.expand(many.batch_shape).reshape(-1)[at]
        return dist.ZeroInflatedDistribution(of_some(many.base_dist, at), gate_logits=gate, validate_args=False)
    given = [name for name in many.arg_constraints if name in vars(many)]
    if "logits" in given:  # probabilities that were worked out from them are kept beside them
        given = [name for name in given if name != "probs"]
    values = {name: getattr(many, name).expand(many.batch_shape).reshape(-1)[at] for name in given}
    return type(many)(**values, validate_args=False)
