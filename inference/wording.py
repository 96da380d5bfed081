"""Numbers in the words that a fit ends with."""

from __future__ import annotations


def counted(n: int, one: str, many: str) -> str:
    """`1 epoch`, `1,000 epochs`."""
    return f"{n:,} {one if n == 1 else many}"


def all_of(words: str) -> str:
    """`1 epoch` as it is; `all 3 epochs`."""
    return words if words.startswith("1 ") else f"all {words}"
