"""What exact updates need to go on as if they had never stopped, in tensors: everything but the rows' blocks.

A sweep begins with the rows' blocks, which depend on the columns' and, where rows have a noise of their own, on that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .affine import Affine, Frame
from .bound import Scales
from .factor_state import FactorState, Floors
from .log_precisions import Precisions
from .moments import Moments, Sums


def tensors_of(state: FactorState) -> dict[str, Tensor]:
    """A state's tensors by name; those that updates replace, and never write to, are not copied."""
    items, frame = state.items, state.frame
    numbers = [state.mu.mean, state.mu.variance, state.scales.noise, state.floors.noise, items.sums.logdet, frame.gain]
    tensors = {} if state.trail is None else {"trail": state.trail}
    tensors |= _of_precisions(state.precisions)
    return tensors | {
        "item_mean": items.mean,
        "item_cov": items.cov[:1] if items.cov.stride(0) == 0 else items.cov,
        "item_first": items.sums.first,
        "item_second": items.sums.second,
        "frame": torch.stack([frame.users.matrix, frame.items.matrix]),
        "shifts": torch.stack([frame.users.shift, frame.items.shift]),
        "variances": torch.stack([state.scales.user, state.scales.item]),
        "floors": torch.stack([state.floors.user, state.floors.item]),
        "numbers": torch.tensor(numbers, dtype=torch.float64),
    }


def restore(state: FactorState, tensors: Mapping[str, Tensor]) -> None:
    """Put a state back where its tensors were taken."""
    x = {name: tensor.cpu() for name, tensor in tensors.items()}
    mean, variance, noise, noise_floor, logdet, gain = x["numbers"].tolist()
    place, n = state.items.mean, len(x["item_mean"])
    sums = Sums(n, x["item_first"], x["item_second"], logdet)
    state.items = Moments(x["item_mean"].to(place), x["item_cov"].to(place).expand(n, -1), sums, state.factorised)
    state.trail = x["trail"].to(place) if "trail" in x else None
    users, items = (Affine(x["frame"][side], x["shifts"][side]) for side in range(2))
    state.frame = Frame(users, items, gain)
    state.mu = replace(state.mu, mean=mean, variance=variance)
    state.scales = Scales(x["variances"][0], x["variances"][1], noise, state.scales.mu)
    state.floors = Floors(noise_floor, x["floors"][0], x["floors"][1])
    state.precisions = _precisions_from(state.precisions, x)


def _of_precisions(precisions: Precisions) -> dict[str, Tensor]:
    """Log precisions: of each side means and variances (2, n), and the shape."""
    sides = {"user": precisions.users, "item": precisions.items}
    tensors = {f"{name}_precisions": torch.stack([x.mean, x.variance]) for name, x in sides.items() if x}
    shapes = {f"{name}_shape": torch.tensor(x.shape, dtype=torch.float64) for name, x in sides.items() if x}
    return tensors | shapes


def _precisions_from(old: Precisions, x: Mapping[str, Tensor]) -> Precisions:
    """Log precisions as they were stored."""
    sides = []
    for name, side in (("user", old.users), ("item", old.items)):
        if side is not None:
            mean, variance = x[f"{name}_precisions"].to(side.mean)
            side = replace(side, mean=mean, variance=variance, shape=float(x[f"{name}_shape"]))
        sides.append(side)
    return Precisions(*sides)
