"""Whether predictive intervals hold what they say, on held-out entries: coverage and PIT, overall and in parts.

The probability integral transform (PIT) of an entry is its place in its predictive distribution, F(y), from 0 to 1.
Where predictions are calibrated, PITs are uniform, and a central interval at level p holds a share p of the entries:
those with |F(y) - 1/2| <= p / 2. Of counts, whose F has steps, a place on the step is drawn at random, without which
intervals of calibrated predictions would hold too many. Ratings are whole stars, too, but what is judged is the normal
that predicts them, which is continuous: their PITs are taken as they are.

Errors are binomial, as if entries were independent; entries of one row are not quite, and share what the fit got wrong
about it: the true errors are larger.

References:
    Dawid (1984), Present position and potential developments: the prequential approach.
    Czado, Gneiting and Held (2009), Predictive model assessment for count data.
    Gneiting, Balabdaoui and Raftery (2007), Probabilistic forecasts, calibration and sharpness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from ..data.source import COUNT
from ..inference.fitted import Fitted
from .blocks import Request
from .covariates import Covariates
from .deciles import by_training_entries, tenths
from .judged_entries import judged_entries
from .noise import predictive_in_words
from .predictive import Method, Settings, predictives
from .reader import Reader, reading
from .scores import LEVELS

BINS = 20
STANDARD_ERRORS = 3.0  # a share is off where it is farther than this from what it should be ...
MARGIN = {True: 0.015, False: 0.02}  # ... and farther than this: overall, in a part
MARGIN_OF_BIN = 0.01
TAIL = 0.01  # probability beyond which a tail begins
WHAT = ("row", "column", "predicted")


@dataclass(frozen=True, eq=False)
class Calibration:
    """How held-out entries lie in their predictive distributions.

    Attributes:
        pit: PIT of each entry, between 0 and 1.
        orders: Entries in ascending order of training entries of their row ("row"), of their column ("column"), and of
            their predictive mean ("predicted"): for ten equal parts each.
        predictive: What was judged: "moment-matched normal" or "sampled", and whether it was recalibrated.
        n_unknown: Entries whose row or column the fit never saw: they have the prior predictive.
    """

    pit: Float[np.ndarray, " e"]
    orders: dict[str, Int[np.ndarray, " e"]]
    predictive: str
    n_unknown: int = 0

    def table(self) -> pd.DataFrame:
        """Coverage of central intervals.

        Returns:
            One line per part and level: `by` ("all", "row", "column", "predicted"), `part` (1 to 10, lowest first; 0 of
            all), `level`, `coverage`, `se` (its binomial standard error if the level were right), `n` entries, and
            `off`: farther from the level than 3 standard errors, and than 0.015 (all) or 0.02 (a part).
        """
        parts = [("all", 0, self.pit)]
        parts += [(by, k + 1, x) for by, order in self.orders.items() for k, x in enumerate(tenths(self.pit, order))]
        lines = [_line(by, part, level, pit) for by, part, pit in parts for level in LEVELS]
        return pd.DataFrame(lines, columns=["by", "part", "level", "coverage", "se", "n", "off"])

    def pit_histogram(self) -> pd.DataFrame:
        """Shares of PITs in 20 bins: `left`, `right`, `share`, `se` (binomial, if uniform) and `off`.

        Off is a share farther from 0.05 than 3 standard errors, and than 0.01.

        A hump says that predictions are too wide, a bowl too narrow, a slope that they are too low or too high.
        """
        share = np.histogram(self.pit, BINS, (0, 1))[0] / len(self.pit)
        edges, se = np.linspace(0, 1, BINS + 1), _standard_error(1 / BINS, len(self.pit))
        off = np.abs(share - 1 / BINS) > max(STANDARD_ERRORS * se, MARGIN_OF_BIN)
        return pd.DataFrame({"left": edges[:-1], "right": edges[1:], "share": share, "se": se, "off": off})

    @property
    def kolmogorov(self) -> float:
        """Kolmogorov's distance of the PITs from uniform: the most by which shares below a PIT are off."""
        n, pit = len(self.pit), np.sort(self.pit)
        above, below = np.arange(1, n + 1) / n - pit, pit - np.arange(n) / n
        return float(max(above.max(), below.max()))

    def tails(self) -> pd.DataFrame:
        """Shares of entries in the outermost 1 % on either side: `tail`, `nominal`, `share`, `se` and `off`.

        Off is a share that is half as large again as it should be, or two thirds of it, and by 3 standard errors.
        """
        se = _standard_error(TAIL, len(self.pit))
        shares = {"lower": (self.pit < TAIL).mean(), "upper": (self.pit > 1 - TAIL).mean()}
        lines = [(name, TAIL, float(x), se, _tail_is_off(float(x), se)) for name, x in shares.items()]
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
            zeros, all cells of its rows, of some rows at random if there are more than 262,144 cells.
        method: "closed-form" (a normal matched in its first two moments), "sampled", or "auto": closed where there is
            one.
        n_samples: Draws where the predictive is sampled.
        covariates: Covariates of the rows, if the model takes any.
        data: The training data, for a guide that reads a row's entries.
        seed: Seed of the draws.

    Raises:
        PlatewiseError: If the fit predicts no entries (a VAE), or `test` does not fit it.
    """
    settings = Settings(method, "rating", n_samples)
    request = judged_entries(fitted, test, seed)
    with reading(fitted, seed, covariates, data) as reader:
        words = predictive_in_words(fitted, settings.is_closed(reader))
        pit, mean = _places(reader, request, settings, np.random.default_rng(seed))
    rows, cols = request.rows, request.cols
    orders = (
        by_training_entries(rows, cols, fitted.obs[COUNT]),
        by_training_entries(cols, rows, fitted.var[COUNT]),
        np.lexsort((cols.code, rows.code, mean)),
    )
    n_unknown = int((~(rows.known & cols.known)).sum())
    return Calibration(pit, dict(zip(WHAT, orders, strict=True)), words, n_unknown)


def _places(
    reader: Reader, request: Request, settings: Settings, rng: np.random.Generator
) -> tuple[Float[np.ndarray, " e"], Float[np.ndarray, " e"]]:
    """PIT and predictive mean of each entry."""
    pit, mean = np.empty(len(request)), np.empty(len(request))
    for block, predictive in predictives(reader, request, settings):
        pit[block.at] = predictive.pit(request.value[block.at], rng.random(len(block.at)))
        mean[block.at] = predictive.mean
    return pit, mean


def _line(by: str, part: int, level: float, pit: np.ndarray) -> tuple[str, int, float, float, float, int, bool]:
    n = len(pit)
    share, se = (float((np.abs(pit - 0.5) <= level / 2).mean()) if n else math.nan), _standard_error(level, n)
    off = abs(share - level) > max(STANDARD_ERRORS * se, MARGIN[by == "all"])  # NaN is not off
    return by, part, level, share, se, n, bool(off)


def _standard_error(p: float, n: int) -> float:
    return math.sqrt(p * (1 - p) / n) if n else math.nan


def _tail_is_off(share: float, se: float) -> bool:
    return not 2 / 3 <= share / TAIL <= 3 / 2 and abs(share - TAIL) > STANDARD_ERRORS * se
