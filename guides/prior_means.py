"""A model run with every latent at its prior's mean: where a guide starts must not hang on one random draw."""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.subsample_messenger import _Subsample
from torch import Tensor
from torch.distributions import biject_to


class PriorMeans(Messenger):
    """Gives each latent site its mean given the sites before it; the middle of its support where it has none."""

    def _pyro_sample(self, msg: Any) -> None:
        if msg["value"] is None and not isinstance(msg["fn"], _Subsample):
            msg["value"] = _centre(msg["fn"])


def _centre(prior: Any) -> Tensor:
    try:
        mean: Tensor = prior.mean.expand(prior.shape())
    except NotImplementedError:
        mean = torch.full(prior.shape(), torch.nan)
    if mean.isfinite().all() or prior.support.is_discrete:
        return mean
    bijection = biject_to(prior.support)
    middle: Tensor = bijection(mean.new_zeros(bijection.inverse_shape(prior.shape())))
    return middle
