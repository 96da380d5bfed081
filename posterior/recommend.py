"""The items that a user would rate highest, among those not yet seen.

This ranks by predicted rating: it answers "of the items that you have not rated, which would you like best?". It is not
a prediction of what will be consumed next: people choose what to watch before they rate it, and a rating model, which
never learns from the choice, ranks well-liked rarities above what everybody sees (Recall@k near zero on MovieLens is
normal). For that question fit a model of which entries exist.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..data.errors import PlatewiseError
from ..data.preparation import is_expression
from ..data.source import COUNT
from ..inference.fitted import Fitted
from .blocks import Request
from .covariates import Covariates
from .names import Aligned, align, align_seen, as_asked, names_of, require_known
from .predict import intervals
from .predictive import Method, Of, Settings
from .reader import Reader, reading

By = Literal["mean", "lower"]

MAX_SCORES = 1 << 20  # users times items scored at once
HIGHEST, MOST_RATED = "highest predicted", "unknown {row}: most rated"


def recommend(
    fitted: Fitted,
    users: object,
    k: int = 10,
    *,
    data: ad.AnnData | Path | str | None = None,
    exclude_seen: bool = True,
    items: object | None = None,
    exclude: object | None = None,
    by: By | str = "mean",
    of: Of | str = "rating",
    level: float = 0.9,
    method: Method | str = "auto",
    n_samples: int = 500,
    covariates: Covariates | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The k items of highest predicted rating for each user, those already rated left out.

    Ranking by predicted rating is not predicting what will be consumed: see the module's docstring. With `by="lower"`
    an item is ranked by what it is almost surely worth at least, which passes over items that the data say little
    about.
    A user whom the fit never saw gets the items with most training entries, and `reason` says so.

    Users are scored in groups of about a million scores, whatever their number.

    Args:
        fitted: The fit.
        users: Ids of rows, one or many.
        k: Items per user; fewer where fewer are left.
        data: The training data (or the path of their .h5ad), which know what a user has rated; those of the fit where
            it still has them.
        exclude_seen: Whether to leave out what a user has rated.
        items: Ids of the only columns to recommend from.
        exclude: Ids of columns never to recommend; ids that the fit does not know are passed over.
        by: Rank by predictive "mean", or by the "lower" end of its interval.
        of: What mean, sd and interval are of: "rating" with the noise of a single rating, "mean" without.
        level: Probability of the interval.
        method: "closed-form", "sampled", or "auto".
        n_samples: Draws where the predictive is sampled.
        covariates: Covariates of the rows, if the model takes any.
        seed: Seed of the draws.

    Returns:
        A table with `user`, `rank` (from 1), `item`, `title` (where `var` has one), `mean`, `sd`, `lower`, `upper` and
        `reason`, k lines a user, users in the order given.

    Raises:
        PlatewiseError: If the fit is of expression, if seen items are to be left out and there are no training data, if
            those are not the fit's, if `items` are not the fit's, or no item is left.
    """
    require_rates(fitted)
    settings = Settings(method, of, n_samples)
    _check(k, by)
    offer = _offer(fitted, items, exclude)
    asked = names_of(users)
    size = max(MAX_SCORES // len(offer), 1)
    data = fitted.data if data is None and exclude_seen else data
    with reading(fitted, seed, covariates, data) as reader:
        seen = _seen(reader) if exclude_seen else None
        groups = [
            _Group(reader, asked[start : start + size], offer, settings, level).best(k, by, seen)
            for start in range(0, len(asked), size)
        ]
    if not groups:
        raise PlatewiseError("Expected at least one id to recommend for, got none. Name some.")
    return _titled(fitted, pd.concat(groups, ignore_index=True))


class _Group:
    """Scores of some users and all items on offer."""

    def __init__(self, reader: Reader, asked: np.ndarray, offer: np.ndarray, settings: Settings, level: float) -> None:
        self.fitted, self.asked, self.offer = reader.fitted, asked, offer
        self.rows = align_seen(asked, reader.fitted, "obs")
        n, m = len(asked), len(offer)
        rows = self.rows.take(np.repeat(np.arange(n), m))
        cols = Aligned(np.tile(offer, n), reader.fitted.n_cols, [])
        numbers = intervals(reader, Request(rows, cols, np.zeros(n * m)), settings, level)
        self.scores = {name: x.reshape(n, m) for name, x in numbers.items()}

    def best(self, k: int, by: str, seen: sp.csr_matrix | None) -> pd.DataFrame:
        """The first k items of each user."""
        return pd.concat([self._table(i, self._order(i, by, seen)[:k]) for i in range(len(self.asked))])

    def _order(self, i: int, by: str, seen: sp.csr_matrix | None) -> np.ndarray:
        """Positions in the offer, best first, of what user i has not seen; equal ones in the order of the fit."""
        if not self.rows.known[i]:
            return np.argsort(-self.fitted.var[COUNT].to_numpy()[self.offer], kind="stable")
        order = np.argsort(-self.scores[by][i], kind="stable")
        if seen is None:
            return order
        row = self.rows.code[i]
        rated = seen.indices[seen.indptr[row] : seen.indptr[row + 1]]
        return order[~np.isin(self.offer[order], rated)]

    def _table(self, i: int, at: np.ndarray) -> pd.DataFrame:
        row, col = self.fitted.meaning["row_name"], self.fitted.meaning["col_name"]
        reason = HIGHEST if self.rows.known[i] else MOST_RATED.format(row=row)
        table = {row: self.asked[i], "rank": np.arange(1, len(at) + 1), col: self.offer[at]}
        numbers = {name: x[i, at] for name, x in self.scores.items()}
        return pd.DataFrame(table | numbers | {"reason": reason})


def _titled(fitted: Fitted, table: pd.DataFrame) -> pd.DataFrame:
    """Ids of the original type for names and codes, and titles where there are some."""
    meaning = fitted.meaning
    row, col = meaning["row_name"], meaning["col_name"]
    code = table[col].to_numpy(dtype=np.int64)
    table[row] = as_asked(table[row].to_numpy(), meaning["row_ids"])
    table[col] = as_asked(fitted.var.index.to_numpy()[code], meaning["col_ids"])
    if "title" in fitted.var:
        table.insert(3, "title", fitted.var["title"].to_numpy()[code])
    return table


def require_rates(fitted: Fitted) -> None:
    """Check that there is something to recommend.

    Raises:
        PlatewiseError: If the fit is of expression: counts, or entries made from counts.
    """
    if is_expression(fitted.meaning):
        of = fitted.meaning["col_name"]
        raise PlatewiseError(
            f"Expected a fit of ratings to recommend from, got one of {of} expression. Ask predict for a {of}'s values."
        )


def _check(k: int, by: str) -> None:
    if k < 1:
        raise PlatewiseError(f"Expected k of at least 1, got {k}. 10 is usual.")
    if by not in get_args(By):
        raise PlatewiseError(f"Expected by among {get_args(By)}, got {by!r}. Choose one.")


def _offer(fitted: Fitted, items: object | None, exclude: object | None) -> np.ndarray:
    """Codes of the items to choose from."""
    col = fitted.meaning["col_name"]
    offer = np.arange(fitted.n_cols) if items is None else np.unique(require_known(items, fitted.var.index, col))
    if exclude is not None:
        offer = np.setdiff1d(offer, align(names_of(exclude), fitted.var.index).code)
    if not len(offer):
        raise PlatewiseError(f"Expected some {col}s to recommend from, got none left. Loosen items= or exclude=.")
    return offer


def _seen(reader: Reader) -> sp.csr_matrix:
    if reader.training is None:
        raise PlatewiseError(
            "Expected the training data, which know what a user has rated, got none. Pass data=, or exclude_seen=False."
        )
    return reader.training
