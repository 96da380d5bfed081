"""Whether predictive intervals hold what they say, on held-out entries: coverage and PIT, overall and in parts.

The probability integral transform (PIT) of an entry is its place in its predictive distribution, F(y), from 0 to 1.
Where predictions are calibrated, PITs are uniform, and a central interval at level p holds a share p of the entries:
those with |F(y) - 1/2| <= p / 2. Of counts, whose F has steps, a place on the step is drawn at random, without which
intervals of calibrated predictions would hold too many; where the ends of the step are known, shares are what they are
on average over such draws. Ratings are whole stars, too, but what is judged is the normal
that predicts them, which is continuous: their PITs are taken as they are.

Rows that are described whole (a VAE) are judged by one half of their counts given the other (`calibrated_rows`).

Errors are binomial, as if entries were independent; entries of one row are not quite, and share what the fit got wrong
about it: the true errors are larger.

References:
    Dawid (1984), Present position and potential developments: the prequential approach.
    Czado, Gneiting and Held (2009), Predictive model assessment for count data.
    Gneiting, Balabdaoui and Raftery (2007), Probabilistic forecasts, calibration and sharpness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ..data.source import COUNT
from ..data.storage import read_h5ad
from ..inference.fitted import Fitted
from .blocks import Request
from .calibrated_rows import places_in_rows
from .covariates import Covariates
from .deciles import by_training_entries, tenths
from .judged_entries import judged_entries
from .noise import predictive_in_words
from .predictive import Method, SampledPredictive, Settings, predictives
from .reader import Reader, reading
from .rows import are_latents_of_rows
from .scores import LEVELS

COUNTS_IN_PART = "a count on the end of an interval inside in part"
COUNTS_INSIDE = "a count on the end of an interval is inside: shares are higher than above"  # of references
BINS = 20
STANDARD_ERRORS = 3.0  # a share is off where it is farther than this from what it should be ...
MARGIN = {True: 0.015, False: 0.02}  # ... and farther than this: overall, in a part
MARGIN_OF_BIN = 0.01
TAILS = 0.01, 0.001  # probabilities beyond which a tail begins ...
EXPECTED = 10  # ... where so many entries are expected there
SORTED_BY = {"row": "activity of the row", "column": "popularity of the column", "predicted": "predicted value"}
OF_HALVES = {"row": "size of the half that was shown", "column": "training rows that have the column"}
DRAWS_OF_ROWS = 5  # times fewer draws of a row's latents than of an entry: likelihoods are exact given these


@dataclass(frozen=True, eq=False)
class Calibration:
    """How held-out entries lie in their predictive distributions.

    Attributes:
        pit: PIT of each entry, between 0 and 1.
        orders: Entries in ascending order of training entries of their row ("row"), of their column ("column"), and of
            their predictive mean ("predicted"): for ten equal parts each.
        predictive: What was judged, in words: "moment-matched normal", "moment-matched normals mixed over the noise" or
            "sampled", whether it was recalibrated, and of counts how they are taken; or one half of each row's counts.
        n_unknown: Entries whose row or column the fit never saw: they have the prior predictive.
        sorted_by: What each of the orders is by, in words.
        steps: F below each entry and F at it, where both are known: PITs are then places between them at random, and
            shares of entries are averages over all such places.
        of_counts: Whether entries are counts, drawn anew to judge them: `evaluate` takes one on the end of an interval
            as inside, and here it is in part.
    """

    pit: Float[np.ndarray, " e"]
    orders: dict[str, Int[np.ndarray, " e"]]
    predictive: str
    n_unknown: int = 0
    sorted_by: Mapping[str, str] = field(default_factory=lambda: dict(SORTED_BY))
    steps: Float[np.ndarray, "e 2"] | None = None
    of_counts: bool = False

    def between(self, low: float, high: float) -> Float[np.ndarray, " e"]:
        """How much of each entry lies between two places: 0 or 1, or the part of its step."""
        inside = ((self.pit >= low) & (self.pit <= high)).astype(np.float64)
        if self.steps is None:
            return inside
        start, end = self.steps.T
        part = np.clip(np.minimum(end, high) - np.maximum(start, low), 0, None)
        return np.divide(part, end - start, out=inside, where=end > start)

    def table(self) -> pd.DataFrame:
        """Coverage of central intervals.

        Returns:
            One line per part and level: `by` ("all", "row", "column", "predicted"), `part` (1 to 10, lowest first; 0 of
            all), `level`, `coverage`, `se` (its binomial standard error if the level were right), `n` entries, and
            `off`: farther from the level than 3 standard errors, and than 0.015 (all) or 0.02 (a part).
        """
        inside = np.stack([self.between((1 - level) / 2, (1 + level) / 2) for level in LEVELS], axis=1)
        parts = [("all", 0, inside)]
        parts += [(by, k + 1, x) for by, order in self.orders.items() for k, x in enumerate(tenths(inside, order))]
        lines = [_line(by, part, level, x) for by, part, of in parts for level, x in zip(LEVELS, of.T, strict=True)]
        return pd.DataFrame(lines, columns=["by", "part", "level", "coverage", "se", "n", "off"])

    def pit_histogram(self) -> pd.DataFrame:
        """Shares of PITs in 20 bins: `left`, `right`, `share`, `se` (binomial, if uniform) and `off`.

        Off is a share farther from 0.05 than 3 standard errors, and than 0.01.

        A hump says that predictions are too wide, a bowl too narrow, a slope that they are too low or too high.
        """
        edges, se = np.linspace(0, 1, BINS + 1), _standard_error(1 / BINS, len(self.pit))
        if self.steps is None:
            share = np.histogram(self.pit, BINS, (0, 1))[0] / len(self.pit)
        else:
            share = np.array([self.between(low, high).mean() for low, high in pairwise(edges.tolist())])
        off = np.abs(share - 1 / BINS) > max(STANDARD_ERRORS * se, MARGIN_OF_BIN)
        return pd.DataFrame({"left": edges[:-1], "right": edges[1:], "share": share, "se": se, "off": off})

    @property
    def kolmogorov(self) -> float:
        """Kolmogorov's distance of the PITs from uniform: the most by which shares below a PIT are off."""
        n, pit = len(self.pit), np.sort(self.pit)
        above, below = np.arange(1, n + 1) / n - pit, pit - np.arange(n) / n
        return float(max(above.max(), below.max()))

    def tails(self) -> pd.DataFrame:
        """Shares of entries in the outermost 1 % and 0.1 % on either side: `tail`, `nominal`, `share`, `se` and `off`.

        Off is a share that is half as large again as it should be, or two thirds of it, and by 3 standard errors. The
        outermost 0.1 % are there where at least 10 entries are expected in them.
        """
        lines = [
            _line_of_tail(side, nominal, self.between(*ends))
            for nominal in TAILS
            if nominal == TAILS[0] or len(self.pit) * nominal >= EXPECTED
            for side, ends in (("lower", (0.0, nominal)), ("upper", (1 - nominal, 1.0)))
        ]
        return pd.DataFrame(lines, columns=["tail", "nominal", "share", "se", "off"])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the PITs themselves, ready for JSON."""
        tables = {"coverage": self.table(), "pit_histogram": self.pit_histogram(), "tails": self.tails()}
        about = {
            "n": len(self.pit),
            "n_unknown": self.n_unknown,
            "predictive": self.predictive,
            "kolmogorov": self.kolmogorov,
        }
        return about | {name: table.to_dict("records") for name, table in tables.items()}


def calibration(
    fitted: Fitted,
    test: ad.AnnData | Path | str,
    *,
    method: Method | str = "auto",
    n_samples: int = 500,
    covariates: Covariates | None = None,
    data: ad.AnnData | Path | str | None = None,
    seed: int = 0,
) -> Calibration:
    """Judge the predictive distributions of held-out entries by where the entries lie in them.

    Args:
        fitted: The fit.
        test: Held-out entries, or the path of their .h5ad, aligned by name. Where entries not stored are observed
            zeros, all cells of its rows, of some rows at random if there are more than 262,144 cells. Of a VAE, rows
            of counts, whose molecules are divided at random: one half is judged, 65,536 entries of 512 rows at most,
            by what the guide says of the row from the other (Batson, Royer and Webber 2019).
        method: "closed-form" (a normal matched in its first two moments, or such normals mixed over an uncertain
            noise), "sampled", or "auto": closed where there is one.
        n_samples: Draws where the predictive is sampled; of a row's latents in a VAE a fifth of them.
        covariates: Covariates of the rows of the fit, if the model takes any; of a VAE, of the rows of `test`.
        data: The training data, for a guide that reads a row's entries.
        seed: Seed of the draws.

    Raises:
        PlatewiseError: If `test` does not fit the fit, or if this is a VAE of values that are no counts.
    """
    if fitted.meaning["unstored"] == "zero" and are_latents_of_rows(fitted):
        return _of_halves(fitted, test, covariates, max(n_samples // DRAWS_OF_ROWS, 1), seed)
    settings = Settings(method, "rating", n_samples)
    request = judged_entries(fitted, test, seed)
    with reading(fitted, seed, covariates, data) as reader:
        pit, mean, of_counts = _places(reader, request, settings, np.random.default_rng(seed))
        words = predictive_in_words(fitted, settings.is_closed(reader)) + f", {COUNTS_IN_PART}" * of_counts
    rows, cols = request.rows, request.cols
    orders = (
        by_training_entries(rows, cols, fitted.obs[COUNT]),
        by_training_entries(cols, rows, fitted.var[COUNT]),
        np.lexsort((cols.code, rows.code, mean)),
    )
    n_unknown = int((~(rows.known & cols.known)).sum())
    named = dict(zip(SORTED_BY, orders, strict=True))
    return Calibration(pit, named, words, n_unknown, of_counts=of_counts)


def _of_halves(
    fitted: Fitted, test: ad.AnnData | Path | str, covariates: Covariates | None, draws: int, seed: int
) -> Calibration:
    """Calibration of one half of each row's counts given the other."""
    rows = test if isinstance(test, ad.AnnData) else read_h5ad(test)
    found = places_in_rows(fitted, rows, covariates, draws=draws, seed=seed)
    having = fitted.var[COUNT].to_numpy()[found.col]
    orders = {
        "row": np.lexsort((found.col, found.row, found.size)),
        "column": np.lexsort((found.row, found.col, having)),
        "predicted": np.lexsort((found.col, found.row, found.mean)),
    }
    row = fitted.meaning["row_name"]
    words = f"one half of each {row}'s counts given the other, {draws} draws"
    return Calibration(found.pit, orders, words, sorted_by=SORTED_BY | OF_HALVES, steps=found.steps)


def _places(
    reader: Reader, request: Request, settings: Settings, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " e"], Float[np.ndarray, " e"], bool]:
    """PIT and predictive mean of each entry, and whether all are of counts."""
    pit, mean, of_counts = np.empty(len(request)), np.empty(len(request)), True
    for block, predictive in predictives(reader, request, settings):
        pit[block.at] = predictive.pit(request.value[block.at], rng.random(len(block.at)))
        mean[block.at] = predictive.mean
        of_counts = of_counts and isinstance(predictive, SampledPredictive) and predictive.is_of_counts
    return pit, mean, of_counts


def _line(by: str, part: int, level: float, inside: np.ndarray) -> tuple[str, int, float, float, float, int, bool]:
    n = len(inside)
    share, se = (float(inside.mean()) if n else math.nan), _standard_error(level, n)
    off = abs(share - level) > max(STANDARD_ERRORS * se, MARGIN[by == "all"])  # NaN is not off
    return by, part, level, share, se, n, bool(off)


def _standard_error(p: float, n: int) -> float:
    return math.sqrt(p * (1 - p) / n) if n else math.nan


def _line_of_tail(side: str, nominal: float, inside: np.ndarray) -> tuple[str, float, float, float, bool]:
    share, se = float(inside.mean()), _standard_error(nominal, len(inside))
    off = not 2 / 3 <= share / nominal <= 3 / 2 and abs(share - nominal) > STANDARD_ERRORS * se
    return side, nominal, share, se, off
