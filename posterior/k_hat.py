"""Pareto k-hat of a fit: how far the guide is from what it stands for, block by block.

Over a million latents together k-hat says nothing but that there are many. So each is taken by itself:

| what         | drawn from the guide                   | weighed against, the rest at one joint draw of the guide |
|--------------|----------------------------------------|----------------------------------------------------------|
| `row`        | the latents of a row                   | their prior and the row's entries                        |
| `column`     | the latents of a column                | their prior and the column's entries                     |
| `global`     | all latents of the whole               | all priors and all entries                               |
| `functional` | the latents of a row and a column      | both priors, and the entries of either: what the         |
|              |                                        | expected value of their entry goes by                    |

k-hat up to the threshold: the guide's draws, weighted, reach this conditional. From 0.7 on they do not: the guide is
too narrow, off its place, or of another shape; or the conditional moves with what is held more than it is wide, as the
popular columns of a well fitted model do when their rows are uncertain: k-hat then says that the two depend on each
other, which a guide of independent blocks leaves out. How much wider that makes a block's marginal does not show.

References:
    Yao, Vehtari, Simpson and Gelman (2018), Yes, but did it work? Evaluating variational inference.
    Vehtari, Simpson, Gelman, Yao and Gabry (2024), Pareto smoothed importance sampling.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from jaxtyping import Int

from ..data.errors import PlatewiseError
from ..data.sites import Plate
from ..data.source import COUNT
from ..inference.fitted import Fitted
from .conditional_weights import Conditionals
from .covariates import Covariates
from .pareto import MIN_DRAWS, k_threshold, pareto_k
from .reader import reading
from .training import given_or_remembered, trained_on
from .weights_by_block import weights_of_columns, weights_of_globals, weights_of_pairs, weights_of_rows

COLUMNS = ["what", "name", "decile", "k_hat", "threshold", "draws"]
BATCH = 128  # rows, or columns, at once
MAX_OF_COLUMN = 20_000  # entries of a column that is asked about
MAX_OF_GLOBALS = 10**8  # entries times draws

Line = tuple[str, str, float, float, int]  # all but the threshold


def k_hats(
    fitted: Fitted,
    data: ad.AnnData | Path | str | None,
    *,
    rows: int = 100,
    draws: int = 1000,
    seed: int = 0,
    covariates: Covariates | None = None,
) -> pd.DataFrame:
    """Pareto k-hat of a sample of rows and columns, of globals, and of the expected value of some entries.

    Rows are sampled in equal numbers from each tenth by their number of training entries, columns likewise. What a
    model does not have is left out; so are columns and entries where a model observes whole rows, columns with more
    than 20,000 entries, and globals where 100 draws times the entries are more than 10^8, and what the
    guide has no density of by itself: `attrs["left_out"]` says so.

    Args:
        fitted: The fit; left as it is.
        data: The training data, or the path of their .h5ad; those of the fit if None.
        rows: Rows, and columns, to sample at most.
        draws: Draws of each; of globals fewer, where the entries are many.
        seed: Seed of the sample and of all draws.
        covariates: Covariates of the rows, if the model takes any.

    Returns:
        A table of `what` ("row", "column", "global" or "functional"), `name` (of an entry "row, column"), `decile` (1
        to 10 by number of training entries, fewest first; of an entry its row's; NaN for globals), `k_hat`,
        `threshold` (up to which so many draws can do), and `draws`. k-hat is inf where all weight is on a few draws,
        -inf where all draws weigh the same, and NaN where a density is no number.

    Raises:
        PlatewiseError: On fewer than 1 row or 100 draws, or data that are not the fit's.
    """
    _refuse_unfit(rows, draws)
    data = given_or_remembered(fitted, data, "the training data, whose entries weights are made of")
    with reading(fitted, seed, covariates, data) as reader:
        rng = np.random.default_rng(seed)
        candidates = np.sort(fitted.obs.index.get_indexer(trained_on(fitted)))
        row_sample = _stratified(fitted.obs[COUNT].to_numpy(), candidates, rows, rng)
        conditionals = Conditionals(reader, draws, reader.batch(np.sort(row_sample["at"].to_numpy())[:BATCH]))
        sampler = _Sampler(conditionals, row_sample, rows, rng)
        lines = [*sampler.rows(), *sampler.columns(), *sampler.globals(candidates), *sampler.functionals()]
    table = pd.DataFrame(lines, columns=[c for c in COLUMNS if c != "threshold"])
    table.insert(COLUMNS.index("threshold"), "threshold", [k_threshold(n) for n in table["draws"]])
    table.attrs["left_out"] = sampler.left_out
    return table


def over_threshold(table: pd.DataFrame) -> pd.Series:
    """Which k-hats of a table are over their threshold; where a density was no number, they are."""
    over: pd.Series = table["k_hat"].fillna(math.inf) > table["threshold"]
    return over


def by_kind(table: pd.DataFrame) -> pd.DataFrame:
    """K-hats by `what` they are of: `number`, `median`, `largest`, `threshold` (the least), and how many are `over`."""
    filled = table.fillna({"k_hat": math.inf}).assign(over=over_threshold(table))
    numbers = {"number": ("k_hat", "size"), "median": ("k_hat", "median"), "largest": ("k_hat", "max")}
    further = {"threshold": ("threshold", "min"), "over": ("over", "sum")}
    return filled.groupby("what", sort=False).agg(**numbers, **further).reset_index()


class _Sampler:
    """The lines of the table, and what is left out of it."""

    def __init__(self, conditionals: Conditionals, rows: pd.DataFrame, n: int, rng: np.random.Generator) -> None:
        self.conditionals, self.row_sample, self.n, self.rng = conditionals, rows, n, rng
        self.fitted, self.draws = conditionals.reader.fitted, conditionals.draws
        self.left_out: list[str] = []

    def rows(self) -> Iterator[Line]:
        """Lines of rows."""
        if not self._has("rows", "rows"):
            return
        names = self.fitted.obs.index.to_numpy()
        for some in _parts(self.row_sample):
            found = pareto_k(weights_of_rows(self.conditionals, some["at"].to_numpy()))
            yield from self._lines("row", names[some["at"]], some["decile"], found)

    def columns(self) -> Iterator[Line]:
        """Lines of columns."""
        if not self._has_columns("columns"):
            return
        counts, names = self.fitted.var[COUNT].to_numpy(), self.fitted.var.index.to_numpy()
        few = np.flatnonzero(counts <= MAX_OF_COLUMN)
        if len(few) < len(counts):
            self.left_out.append(f"k-hats of {len(counts) - len(few)} columns with more than {MAX_OF_COLUMN} entries")
        for some in _parts(_stratified(counts, few, self.n, self.rng)):
            found = pareto_k(weights_of_columns(self.conditionals, some["at"].to_numpy()))
            yield from self._lines("column", names[some["at"]], some["decile"], found)

    def globals(self, rows: Int[np.ndarray, " k"]) -> Iterator[Line]:
        """The line of all globals together."""
        if not self._has("global", "globals"):
            return
        whole = "rows" in self.conditionals.observed_in
        entries = len(rows) * self.fitted.n_cols if whole else int(self.fitted.obs[COUNT].iloc[rows].sum())
        draws = min(self.draws, MAX_OF_GLOBALS // max(entries, 1))
        if draws < MIN_DRAWS:
            self.left_out.append(f"k-hats of globals: {MIN_DRAWS} draws of {entries} entries are too many")
            return
        found = pareto_k(weights_of_globals(self.conditionals, rows, draws))
        names = [name for name, plate in self.conditionals.places.items() if plate == "global"]
        yield "global", ", ".join(names), math.nan, float(found[0]), draws

    def functionals(self) -> Iterator[Line]:
        """Lines of entries, one for each of some sampled rows."""
        training = self.conditionals.reader.training
        if not (training is not None and self.conditionals.has("rows") and self._has_columns("expected values")):
            return
        rows, cols = (side.index.to_numpy() for side in (self.fitted.obs, self.fitted.var))
        counts, pairs = self.fitted.var[COUNT].to_numpy(), []
        for row, decile in self.row_sample.drop_duplicates("decile").itertuples(index=False):
            stored = training.indices[training.indptr[row] : training.indptr[row + 1]]
            stored = stored[counts[stored] <= MAX_OF_COLUMN]
            pairs += [(row, self.rng.choice(stored), decile)] if len(stored) else []
        if pairs:
            row, col, deciles = map(np.array, zip(*pairs, strict=True))
            found = pareto_k(weights_of_pairs(self.conditionals, row, col))
            names = [f"{rows[i]}, {cols[j]}" for i, j in zip(row, col, strict=True)]
            yield from self._lines("functional", names, deciles, found)

    def _has_columns(self, what: str) -> bool:
        """Whether columns have latents, and entries of their own."""
        if not self._has("cols", what):
            return False
        if "rows" in self.conditionals.observed_in:
            self.left_out.append(f"k-hats of {what}: the model observes whole rows")
            return False
        return True

    def _has(self, plate: Plate, what: str) -> bool:
        """Whether there are latents in a plate that the guide has a density of by themselves."""
        if plate not in self.conditionals.places.values():
            return False
        if not self.conditionals.has(plate):
            self.left_out.append(f"k-hats of {what}: the guide has no density of them by themselves")
            return False
        return True

    def _lines(self, what: str, names: Any, deciles: Any, found: np.ndarray) -> Iterator[Line]:
        for name, decile, k in zip(names, deciles, found, strict=True):
            yield what, str(name), float(decile), float(k), self.draws


def _refuse_unfit(rows: int, draws: int) -> None:
    if rows < 1 or draws < MIN_DRAWS:
        raise PlatewiseError(
            f"Expected at least 1 row and {MIN_DRAWS} draws, got {rows} and {draws}. Leave them out for the defaults."
        )


def _stratified(counts: np.ndarray, candidates: np.ndarray, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Positions (`at`) of about n of the candidates, ascending, and the `decile` of each by its count."""
    order = candidates[np.argsort(counts[candidates], kind="stable")]
    found = []
    for decile, part in enumerate(np.array_split(order, 10), 1):
        share = n // 10 + (decile <= n % 10)
        at = np.sort(rng.choice(part, min(share, len(part)), replace=False))
        found.append(pd.DataFrame({"at": at, "decile": decile}))
    return pd.concat(found, ignore_index=True)


def _parts(sample: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """So many at a time, in ascending order."""
    for start in range(0, len(sample), BATCH):
        yield sample.iloc[start : start + BATCH].sort_values("at")
