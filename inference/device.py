"""Where a fit runs, and its generators of random numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ..data.errors import PlatewiseError


def pick_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one.

    Raises:
        PlatewiseError: If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PlatewiseError(f"Expected a device of this machine, got {name!r}. Use 'auto' or 'cpu'.") from error
    return device


def own_generators(device: torch.device) -> AbstractContextManager[None]:
    """A block whose random numbers leave those of the caller, on the CPU and on a device, as they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def generator_states(device: torch.device | str) -> dict[str, Tensor]:
    """States of the generators that a fit on a device draws from, by name."""
    states = {"rng": torch.get_rng_state()}
    if torch.device(device).type == "cuda":
        states["cuda_rng"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(tensors: dict[str, Tensor], device: torch.device | str) -> None:
    """Take generators' states out of `tensors` and put them back, those of a GPU where the fit runs on one."""
    torch.set_rng_state(tensors.pop("rng").cpu())
    state = tensors.pop("cuda_rng", None)
    if state is not None and torch.device(device).type == "cuda":
        torch.cuda.set_rng_state(state.cpu(), device)
