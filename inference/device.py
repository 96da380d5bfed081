"""Where a fit runs."""

from __future__ import annotations

import torch

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
