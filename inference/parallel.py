"""Ranges of rows on as many threads as the entry point allowed: `torch.get_num_threads()`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
Range = tuple[int, int]


def ranges(n: int, step: int) -> list[Range]:
    """`[0, n)` cut into ranges of `step`, the last one shorter."""
    return [(first, min(first + step, n)) for first in range(0, n, step)]


def in_parallel(work: Callable[[Range], T], over: Iterable[Range]) -> list[T]:
    """Results of `work`, which must let go of the interpreter's lock, in the order of the ranges."""
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(work, over))
