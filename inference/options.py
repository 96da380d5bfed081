"""Checks that the options of all algorithms share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, TypeVar

from ..data.errors import PlatewiseError

T = TypeVar("T")


def options_of(kind: type[T], given: Mapping[str, Any]) -> T:
    """An algorithm's options from keyword arguments.

    Raises:
        PlatewiseError: If it has no such option, or a value is out of its range.
    """
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := set(given) - known:
        raise PlatewiseError(f"Expected options among {sorted(known)}, got {sorted(unknown)}. Check the spelling.")
    return kind(**given)


def require_positive(options: Any, *names: str) -> None:
    """Check that options that are given are numbers, above 0 and finite.

    Raises:
        PlatewiseError: Naming the first that is not.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not (isinstance(value, Real) and 0 < float(value) < math.inf):
            raise PlatewiseError(f"Expected {name} above 0, got {value!r}. Leave it out for the default.")


def require_whole(options: Any, *names: str) -> None:
    """Check that options that are given are whole numbers, and not floats that happen to be whole.

    Raises:
        PlatewiseError: Naming the first that is not.
    """
    for name in names:
        if (value := getattr(options, name)) is not None and not isinstance(value, Integral):
            raise PlatewiseError(f"Expected {name} as a whole number, got {value!r}. Write it without a point.")
