"""Ranges of rows on as many threads as the entry point allowed: `torch.get_num_threads()`."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")
Range = tuple[int, int]


class Scratch:
    """Arrays that a thread uses again: fresh memory costs as much as what is done with it."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def zeros(self, key: int, n: int, width: int) -> np.ndarray:
        """Zeros of float64, (n, width), in the thread's buffer of a key: what was there before is gone."""
        buffers: dict[Any, np.ndarray] = self._of_thread.__dict__
        if key not in buffers or len(buffers[key]) < n * width:
            buffers[key] = np.empty(n * width)
        out = buffers[key][: n * width].reshape(n, width)
        out.fill(0.0)
        return out


def ranges(n: int, step: int) -> list[Range]:
    """`[0, n)` cut into ranges of `step`, the last one shorter."""
    return [(first, min(first + step, n)) for first in range(0, n, step)]


def in_parallel(work: Callable[[Range], T], over: Iterable[Range]) -> list[T]:
    """Results of `work`, which must let go of the interpreter's lock, in the order of the ranges.

    The calling thread works too: torch's own threads, which wait for more by spinning, may hold the other cores. After
    an error no further range is begun. `work` may not call this in turn: it would wait for itself.
    """
    todo = list(over)
    results: list[Any] = [None] * len(todo)
    turns = iter(range(len(todo)))  # shared: `next` is atomic
    n_others = min(torch.get_num_threads(), len(todo)) - 1
    take = partial(_take, turns, work, todo, results)
    others = [_pool(n_others, os.getpid()).submit(take) for _ in range(n_others)]
    try:
        take()
    finally:
        wait(others)
    for other in others:
        other.result()
    return results


def _take(turns: Iterator[int], work: Callable[[Range], Any], todo: list[Range], results: list[Any]) -> None:
    """Work on ranges until no turn is left."""
    try:
        for k in turns:
            results[k] = work(todo[k])
    except BaseException:
        deque(turns, maxlen=0)  # none is left for the others
        raise


@cache
def _pool(n_threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that stay, as starting them takes milliseconds a sweep; a forked process has none and gets its own."""
    return ThreadPoolExecutor(n_threads)
