"""Leave-one-out: how well a fit would predict each of its training entries, had it not been there.

No fit is repeated. Draws z_s of the latents are weighed by how much less likely they are without the entry,

    p(y_i | y_-i)  ~  sum_s w_is p(y_i | z_s) / sum_s w_is        w_is = r_s / p(y_i | z_s)

the largest weights smoothed (PSIS). A random sample of entries is looked at and scaled to all, with the log predictive
density of every entry as a surrogate (difference estimator). What is left out is one entry, a rating or the count of a
gene in a cell, and what r_s is depends on the fit:

| fit                                  | r_s              | what it means                                              |
|--------------------------------------|------------------|------------------------------------------------------------|
| factor models, and any with latents  | 1                | the guide is taken for the posterior: where it is too      |
| of columns or of all                 |                  | narrow, so are these predictions. The ratio p / q of so    |
|                                      |                  | many latents would be on one draw                          |
| all latents of rows (a VAE)          | p(z, x) / q(z),  | draws are weighed to the posterior of the row's latents,   |
|                                      | of the row       | given decoder, dispersions and the row's total, which did  |
|                                      |                  | see the entry                                              |

Of a recalibrated fit, p(y_i | z) has the noise as a calibration split would have it, and the density without the entry
is that of the shape which the split asked for: R'(F(y_i)) sum_s w_is p(y_i | z_s) / sum_s w_is, F being the weighted
mean of distribution functions. Weights are of the noise that the fit was made with.

k-hat of an entry says whether its weights can do. It is over the threshold where one entry tells much about its row or
column: few entries, and little noise beside what is uncertain. Its density is then a guess: look at held-out entries.

References:
    Vehtari, Gelman and Gabry (2017), Practical Bayesian model evaluation using leave-one-out cross-validation and WAIC.
    Magnusson, Riis Andersen, Jonasson and Vehtari (2019), Bayesian leave-one-out cross-validation for large data.
    Magnusson, Riis Andersen, Jonasson and Vehtari (2020), Leave-one-out cross-validation for Bayesian model comparison
    in large data.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd

from ..data.errors import PlatewiseError
from ..data.source import COUNT
from ..inference.fitted import Fitted
from .covariates import Covariates
from .difference_estimator import Total, difference_estimate
from .loo_draws import LooDraws
from .loo_sample import LooSample, sampled
from .pareto import MIN_DRAWS, k_threshold
from .psis import smoothed
from .reader import reading
from .reshaped_predictive import reshaped
from .training import given_or_remembered
from .weighed_predictive import WeighedPredictive

PARTS = 10


@dataclass(frozen=True, eq=False)
class SubsampledLoo:
    """Leave-one-out of a sample of training entries.

    Attributes:
        elpd: Sum over all entries of the log density of each without itself, nats.
        p_loo: By how much the log densities of the entries with themselves are higher: the effective number of
            parameters.
        n_all: Entries that the sums are over: all training entries, or all cells of some rows at random, where
            entries not stored are zeros.
        pointwise: The sampled entries, those of rows with few training entries first: `row`, `col`, `n_entries` of the
            row, `value`, `elpd`, `lpd` (the log density with the entry), `surrogate`, `k_hat`, and `pit`, the place of
            the entry in its leave-one-out predictive distribution, between 0 and 1.
        corrected: Whether draws were weighed from the guide to the posterior; if not, the guide is taken for it.
        draws: The draws behind it, in the order of `pointwise`: for ArviZ's pictures.
        recalibrated: What was recalibrated of the predictives that are judged, in words; None if nothing was.
    """

    elpd: Total
    p_loo: Total
    n_all: int
    pointwise: pd.DataFrame
    corrected: bool
    draws: LooDraws
    recalibrated: str | None

    @property
    def threshold(self) -> float:
        """The k-hat up to which so many draws can do."""
        return k_threshold(len(self.draws.replicated))

    @property
    def over(self) -> pd.Series:
        """Which sampled entries have a k-hat over the threshold; where a density was no number, they do."""
        over: pd.Series = self.pointwise["k_hat"].fillna(math.inf) > self.threshold
        return over

    @property
    def meaning(self) -> str:
        """What was taken for the posterior, in words."""
        if self.corrected:
            return "draws are weighed to the posterior of the row's latents, given parameters trained on the entry, too"
        return "the guide is taken for the posterior: where it is too narrow, so are these predictions"

    def table(self) -> pd.DataFrame:
        """The sums: `what`, `estimate`, `standard_error`, and `sampling_error`, of looking at some entries only."""
        found = [
            (what, *(x / scale for x in (total.value, total.se, total.subsampling_se)))
            for what, total, scale in (
                ("log density, nats", self.elpd, 1),
                ("log density of an entry", self.elpd, self.n_all),
                ("effective parameters", self.p_loo, 1),
            )
        ]
        return pd.DataFrame(found, columns=["what", "estimate", "standard_error", "sampling_error"])

    def by_activity(self) -> pd.DataFrame:
        """The sampled entries in ten parts by the training entries of their row, fewest first.

        Returns:
            `part`, `n`, `fewest` and `most` training entries of a row, mean `elpd`, and `over`, the share of k-hats
            over the threshold.
        """
        table, places = self.pointwise.assign(over=self.over), np.array_split(np.arange(len(self.pointwise)), PARTS)
        parts = [table.iloc[at] for at in places]
        found = [
            (k, len(x), int(x["n_entries"].min()), int(x["n_entries"].max()), x["elpd"].mean(), x["over"].mean())
            for k, x in enumerate(parts, 1)
            if len(x)
        ]
        return pd.DataFrame(found, columns=["part", "n", "fewest", "most", "elpd", "over"])

    def to_dict(self) -> dict[str, Any]:
        """Everything but what was found entry by entry, ready for JSON."""
        return {
            "elpd": asdict(self.elpd),
            "elpd_per_entry": self.elpd.value / self.n_all,
            "p_loo": asdict(self.p_loo),
            "n": len(self.pointwise),
            "n_all": self.n_all,
            "draws": len(self.draws.replicated),
            "threshold": self.threshold,
            "over": int(self.over.sum()),
            "corrected": self.corrected,
            "meaning": self.meaning,
            "recalibrated": self.recalibrated,
            "by_activity": self.by_activity().to_dict("records"),
        }


def subsampled_loo(
    fitted: Fitted,
    data: ad.AnnData | Path | str | None = None,
    *,
    n: int = 1000,
    draws: int = 1000,
    covariates: Covariates | None = None,
    seed: int = 0,
) -> SubsampledLoo:
    """Estimate the leave-one-out log predictive density of the training entries from a sample of them.

    Args:
        fitted: The fit.
        data: The training data, or the path of their .h5ad; what the fit remembers if None.
        n: Entries to sample. Of a model that observes whole rows, 20 of each of n / 20 rows at random.
        draws: Draws of the latents.
        covariates: Covariates of the rows, if the model takes any.
        seed: Seed of the sample and of the draws.

    Raises:
        PlatewiseError: If there are no training data at hand, the model has not one likelihood of entries or of rows
            whose entries are independent given the latents, or `n` or `draws` are too small.
    """
    require_enough(n, draws)
    data = given_or_remembered(fitted, data, "the training data, to leave out entries of")
    with reading(fitted, seed, covariates, data) as reader:
        return _found(fitted, sampled(reader, n, draws, seed), np.random.default_rng(seed))


def require_enough(n: int, draws: int) -> None:
    """Check numbers of entries and draws.

    Raises:
        PlatewiseError: If they are too small.
    """
    if n < 2 or draws < MIN_DRAWS:
        raise PlatewiseError(
            f"Expected at least 2 entries and {MIN_DRAWS} draws for leave-one-out, got {n} and {draws}. Ask for more."
        )


def _found(fitted: Fitted, sample: LooSample, rng: np.random.Generator) -> SubsampledLoo:
    drawn = sample.draws
    weights, k_hat = smoothed(drawn.log_ratios)
    with_entry = smoothed(drawn.log_row)[0] if sample.corrected else np.full_like(weights, -math.log(len(weights)))
    without, with_it = (reshaped(WeighedPredictive(drawn, w), fitted) for w in (weights, with_entry))
    elpd, lpd = (x.log_density(sample.value) for x in (without, with_it))
    rows, cols = (table.index.to_numpy() for table in (fitted.obs, fitted.var))
    pointwise = pd.DataFrame(
        {
            "row": rows[sample.row],
            "col": cols[sample.col],
            "n_entries": fitted.obs[COUNT].to_numpy()[sample.row],
            "value": sample.value,
            "elpd": elpd,
            "lpd": lpd,
            "surrogate": sample.surrogate.without[sample.at],
            "k_hat": k_hat,
            "pit": without.pit(sample.value, rng.random(len(elpd))),
        }
    )
    total = difference_estimate(sample.surrogate.without, sample.at, elpd, sample.group)
    p_loo = difference_estimate(sample.surrogate.gain, sample.at, lpd - elpd, sample.group)
    words = None if fitted.recalibration is None else fitted.recalibration.in_words()
    return SubsampledLoo(total, p_loo, len(sample.surrogate.gain), pointwise, sample.corrected, drawn, words)
