"""Entries that are far out in their predictive distribution: surprising counts of a cell, odd ratings of a user."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import anndata as ad
import numpy as np
import pandas as pd

from ..data.errors import PlatewiseError
from ..inference.fitted import Fitted
from .covariates import Covariates
from .false_discovery import FalseDiscovery
from .names import as_asked
from .scored_entries import Entries, Scored, Scoring, is_closed, scored_by_draws, scored_by_moments
from .tails import Tail, require_tail

LEVELS = (1e-2, 1e-3, 1e-4)  # at which a table says how many entries fell below


def anomalies(
    fitted: Fitted,
    data: ad.AnnData,
    *,
    n: int = 1000,
    draws: int = 100,
    tail: Tail | str = "two-sided",
    entries: Entries | str = "stored",
    covariates: Covariates | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank entries by how improbable the posterior predictive finds them.

    Of counts, p = P(X > x) + u P(X = x) with u uniform, which makes p uniform where the model holds; two-sided,
    2 min(p, 1 - p). Where entries not stored are zeros, a stored count is compared with counts that are not zero,
    P(X > x | X > 0): that it is stored says as much, and without it rare genes' single counts would come first. With
    `entries="all"` nothing is taken as given, and a count where none was to be expected is surprising, too.

    An entry of the training data has helped to place its own row: its tail probability is larger than that of the same
    entry held out, and a large outlier bends its row's posterior towards itself. What is found is found all the same;
    what is not may still be there. Rows that the fit never saw are scored as well, by their own entries (VAE) or by the
    prior (factor models); with a VAE the total of a row, outliers included, is taken as its library size.

    Args:
        fitted: A fit of a VAE, or of a factor model with closed-form predictive moments.
        data: The entries to score, on the columns of the fit: of its training data or of others.
        n: How many to return, most surprising first.
        draws: Draws of each row's embedding, over which tail probabilities are averaged; a factor model needs none.
        tail: "upper" makes large values surprising, "lower" small ones, "two-sided" both.
        entries: "stored", or "all": zeros that are not stored too, in blocks of some rows.
        covariates: Those of the fit, if it has any.
        seed: Seed of the draws, and of u. The same seed gives the same table.

    Returns:
        One line per entry: `row` and `col` (ids of the original type), `value` as the fit took it (log-normalised, if
        it was), predictive mean `expected` and `sd` (of counts, zeros included), `tail_probability`, `p_adjusted`
        (Benjamini and Hochberg, over all entries scored, whether returned or not), `sign` (1 above the predictive
        median, -1 below) and `log_tail_probability`, by which lines are ranked even where the probability is too small
        for a floating-point number. In `attrs`: `"scored"`, how many entries were; `"calibration"`, the share of
        them below 0.01, 0.001 and 0.0001: where it is far above these, so are the small probabilities from the
        truth, and only the ranking is to be read; `"p_adjusted"`, "exact" or, past 16.8 million entries, "at most 0.1 %
        above".

    Raises:
        PlatewiseError: If an option is out of range, the fit has no such predictive, or the data do not fit it.

    References:
        Dunn and Smyth (1996), Randomized quantile residuals; Benjamini and Hochberg (1995).
    """
    _require_options(n, draws, entries)
    require_tail(tail)
    how = Scoring(draws, str(tail), str(entries), seed)
    scored = (scored_by_moments if is_closed(fitted) else scored_by_draws)(fitted, data, covariates, how)
    found = _Best(n)
    found.add_all(scored)
    return found.table(fitted.meaning)


class _Best:
    """The most surprising entries so far, and what is to be known of all others."""

    def __init__(self, n: int) -> None:
        self.n, self.all = n, FalseDiscovery()
        self.below = np.zeros(len(LEVELS), dtype=np.int64)
        self.best: Scored | None = None

    def add_all(self, blocks: Iterable[Scored]) -> None:
        """Take entries block by block; of equal ones the first stay."""
        for block in blocks:
            self.all.add(block.log_p)
            self.below += [(block.log_p < np.log(level)).sum() for level in LEVELS]
            if self.best is not None and len(self.best.log_p) == self.n:
                block = block.take(block.log_p < self.best.log_p[-1])
            both = block if self.best is None else self.best.beside(block)
            self.best = both.take(np.argsort(both.log_p, kind="stable")[: self.n])

    def table(self, about: dict[str, Any]) -> pd.DataFrame:
        """The result."""
        if self.best is None or not self.all.n:
            raise PlatewiseError("Expected entries to score, got none. Check the matrix, or ask for all entries.")
        best = self.best
        numbers = {
            "value": best.value,
            "expected": best.expected,
            "sd": best.sd,
            "tail_probability": np.exp(best.log_p),
            "p_adjusted": np.exp(self.all.adjusted(best.log_p)),
            "sign": best.sign,
            "log_tail_probability": best.log_p,
        }
        ids = {"row": as_asked(best.row, about["row_ids"]), "col": as_asked(best.col, about["col_ids"])}
        frame = pd.DataFrame(ids | numbers)
        frame.attrs = {
            "scored": self.all.n,
            "calibration": {f"{level:g}": float(x / self.all.n) for level, x in zip(LEVELS, self.below, strict=True)},
            "p_adjusted": "exact" if self.all.is_exact else "at most 0.1 % above",
        }
        return frame


def _require_options(n: int, draws: int, entries: str) -> None:
    for name, value, usual in (("n", n, 1000), ("draws", draws, 100)):
        if value < 1:
            raise PlatewiseError(f"Expected {name} of at least 1, got {value}. {usual} is usual.")
    if entries not in get_args(Entries):
        raise PlatewiseError(f"Expected entries among {', '.join(get_args(Entries))}, got {entries!r}. Choose one.")
