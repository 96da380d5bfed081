"""The entries of whole rows as independent variables, where a model observes rows and not entries.

A row likelihood is one event of a row, whose parameters may depend on the row's total. Where a block has all entries of
its rows, each entry's own distribution is known, given the latents.
"""

from __future__ import annotations

from typing import Any

import pyro.distributions as dist
from jaxtyping import Float
from torch import Tensor

from ..data.errors import PlatewiseError
from ..models.multinomial_rows import MultinomialRows
from .blocks import Block


class EntriesOfRows:
    """The entries of a block's rows, row by row, given the latents: (b * n_cols,) of them.

    Args:
        likelihood: The rows, a `RowLikelihood`.
        block: The block, which has all entries of its rows.

    Raises:
        PlatewiseError: If it has some of them only, or entries depend on each other.
    """

    # `Any`: the base of likelihoods in Pyro is a `typing.Callable`, which run-time type checks warn of
    def __init__(self, likelihood: Any, block: Block) -> None:
        if not block.has_whole_rows:
            raise PlatewiseError(
                "Expected whole rows for a model that observes rows, whose entries go by their total, got some "
                "entries. Use evaluate for rows, denoise for expectations."
            )
        rows: Any = None if isinstance(likelihood, MultinomialRows) else likelihood.dense()
        if not isinstance(rows, dist.Independent):
            raise PlatewiseError(
                f"Expected rows of entries that are independent given the latents, got {type(likelihood).__name__}. "
                "Use score_rows."
            )
        self._likelihood, self._entries, self._n_cols = likelihood, rows.base_dist, block.batch.n_cols

    @property
    def mean(self) -> Float[Tensor, " e"]:
        """Expectation of each entry."""
        return self._likelihood.mean.reshape(-1)

    def sample(self) -> Float[Tensor, " e"]:
        """A draw of each entry."""
        drawn: Tensor = self._entries.sample()
        return drawn.reshape(-1)

    def log_prob(self, value: Float[Tensor, " e"]) -> Float[Tensor, " e"]:
        """Log density or mass of each entry."""
        found: Tensor = self._entries.log_prob(value.reshape(-1, self._n_cols))
        return found.reshape(-1)
