"""Which options were given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def only_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options by name without those that are None, which were left alone."""
    return {name: value for name, value in options.items() if value is not None}
