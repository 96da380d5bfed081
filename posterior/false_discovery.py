"""Benjamini-Hochberg adjustment of the smallest of many probabilities that arrive in blocks.

    adjusted_k = min over l >= k of p_(l) M / l,    p_(1) <= ... <= p_(M)

asks for all M of them, not for the smallest alone. Up to `LIMIT` are kept, and the adjustment is exact. Beyond, they
are counted in bins 2^-10 wide in log p; the minimum is then taken at the upper ends of bins: never below the exact
value, and at most 0.1 % above it (below exp(-1024), it is only known to be below that end times M).

References:
    Benjamini and Hochberg (1995), Controlling the false discovery rate.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

LIMIT = 1 << 24  # probabilities kept: 128 MB
BINS, PER_NAT = 1 << 20, 1 << 10

Logs = Float[np.ndarray, " n"]


class FalseDiscovery:
    """Log-probabilities seen so far.

    Args:
        limit: How many are kept before they are counted in bins.

    Attributes:
        n: How many there were, M.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.n, self._limit = 0, limit
        self._kept: list[Logs] = []
        self._counts: Int[np.ndarray, " bins"] | None = None

    @property
    def is_exact(self) -> bool:
        """Whether all of them are kept."""
        return self._counts is None

    def add(self, log_p: Logs) -> None:
        """Take some more."""
        self.n += len(log_p)
        self._kept.append(log_p)
        if self._counts is None and self.n > self._limit:
            self._counts = np.zeros(BINS, dtype=np.int64)
        if self._counts is not None:
            for part in self._kept:
                self._counts += np.bincount(_bins(part), minlength=BINS)
            self._kept.clear()

    def adjusted(self, smallest: Logs) -> Logs:
        """Logs of adjusted probabilities, at most 0.

        Args:
            smallest: The smallest of all that were added, ascending.
        """
        if not len(smallest):
            return smallest
        own = smallest + np.log(self.n) - np.log(np.arange(1, len(smallest) + 1))
        own[-1] = min(own[-1], self._least_beyond(smallest))
        return np.minimum(np.minimum.accumulate(own[::-1])[::-1], 0)

    def _least_beyond(self, smallest: Logs) -> float:
        """The least log p_(l) M / l of those l that are beyond the smallest."""
        k = len(smallest)
        if self._counts is None:
            others = np.sort(np.concatenate(self._kept))[k:]
            ranks = np.arange(k + 1, self.n + 1)
        else:
            bins = np.flatnonzero(self._counts)[::-1]  # of ascending probability
            ranks, others = self._counts[bins].cumsum(), -bins / PER_NAT
            ranks, others = ranks[ranks > k], others[ranks > k]
        return float((others - np.log(ranks)).min() + np.log(self.n)) if len(others) else np.inf


def _bins(log_p: Logs) -> Int[np.ndarray, " n"]:
    """Bin b holds log p from -(b + 1) / PER_NAT, excluded, to -b / PER_NAT."""
    return np.minimum(-log_p * PER_NAT, BINS - 1).astype(np.int64)
