"""Loops compiled for the CPU."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def compiled(function: Callable[..., Any]) -> Any:
    """Compile on the first call and keep the result on disk, where a folder can be written to.

    Sums may be reordered; NaN and infinity keep their meaning.
    """
    function = inspect.unwrap(function)  # a check of annotations around it cannot be compiled
    options: dict[str, Any] = {"nogil": True, "fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder for the cache
        return numba.njit(**options)(function)
