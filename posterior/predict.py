"""Predictions with intervals, for pairs of rows and columns."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from ..data.errors import PlatewiseError
from ..inference.fitted import Fitted
from .blocks import Request
from .covariates import Covariates
from .names import align_seen, as_asked, names_of
from .predictive import Method, Of, Settings, predictives
from .reader import Reader, reading


def predict(
    fitted: Fitted,
    users: object,
    items: object,
    *,
    level: float = 0.9,
    of: Of | str = "rating",
    method: Method | str = "auto",
    n_samples: int = 500,
    covariates: Covariates | None = None,
    data: ad.AnnData | Path | str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Predict entries: one line for each pair of a user and an item.

    An interval of `level=0.9` is central: it is meant to hold the entry (`of="rating"`), or its expectation
    (`of="mean"`, which leaves out the noise of a single rating), with probability 0.9. Both treat learned scales as
    known.

    Args:
        fitted: The fit.
        users: Ids of rows, one or many. One goes with many items, and the other way round; otherwise pairs are formed
            one by one. `42`, `"42"` and `np.int64(42)` are the same.
        items: Ids of columns, one or many.
        level: Probability of the interval, between 0 and 1.
        of: "rating" for the entry, noise included; "mean" for its expectation.
        method: "closed-form" (a normal matched in its first two moments, or such normals mixed over an uncertain
            noise), "sampled", or "auto": closed where there is one.
        n_samples: Draws where it is sampled.
        covariates: Covariates of the rows, if the model takes any: those of the fit, or pandas objects by id.
        data: The training data, for a guide that reads a row's entries.
        seed: Seed of the draws.

    Returns:
        A table with the pairs as ids of the original type (columns named as in the training data, say `user` and
        `item`), `mean`, `sd`, `lower` and `upper` in the units of the entries, and `known_user` and `known_item`:
        where one is False, the fit never saw that id, and the line is the prior predictive.

    Raises:
        PlatewiseError: On ids that do not pair up, a level outside (0, 1), or an option that there is not.
    """
    settings = Settings(method, of, n_samples)
    row_names, col_names = _paired(names_of(users), names_of(items))
    rows, cols = align_seen(row_names, fitted, "obs"), align_seen(col_names, fitted, "var")
    request = Request(rows, cols, np.zeros(len(row_names)))
    with reading(fitted, seed, covariates, data) as reader:
        numbers = intervals(reader, request, settings, level)
    row, col = fitted.meaning["row_name"], fitted.meaning["col_name"]
    ids = {
        row: as_asked(row_names, fitted.meaning["row_ids"]),
        col: as_asked(col_names, fitted.meaning["col_ids"]),
    }
    return pd.DataFrame(ids | numbers | {f"known_{row}": rows.known, f"known_{col}": cols.known})


def intervals(reader: Reader, request: Request, settings: Settings, level: float) -> dict[str, np.ndarray]:
    """Mean, sd, lower and upper end of each entry of a request.

    Raises:
        PlatewiseError: On a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise PlatewiseError(f"Expected a level between 0 and 1, got {level}. 0.9 gives a 90 % interval.")
    numbers = {name: np.empty(len(request)) for name in ("mean", "sd", "lower", "upper")}
    for block, predictive in predictives(reader, request, settings):
        numbers["mean"][block.at], numbers["sd"][block.at] = predictive.mean, predictive.sd
        numbers["lower"][block.at], numbers["upper"][block.at] = predictive.interval(level)
    return numbers


def _paired(rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(rows) != len(cols) and 1 not in (len(rows), len(cols)):
        raise PlatewiseError(
            f"Expected as many users as items, or one of either, got {len(rows)} and {len(cols)}. Repeat ids to form "
            "the pairs you mean."
        )
    n = len(cols) if len(rows) == 1 else len(rows)
    return np.broadcast_to(rows, n), np.broadcast_to(cols, n)
