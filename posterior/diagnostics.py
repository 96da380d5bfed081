"""Everything that tells how good a posterior is, in one call: what was found, and what it may be used for."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd

from ..data.errors import PlatewiseError
from ..data.storage import read_h5ad
from ..inference.fitted import Fitted
from .calibration import Calibration, calibration
from .column_checks import ColumnChecks
from .covariates import Covariates
from .judgement import Answer, Evidence, Judgement
from .k_hat import k_hats
from .loo import SubsampledLoo, require_enough, subsampled_loo
from .posterior_predictive import predictive_checks
from .references import references
from .restarts import compare_restarts
from .rows import are_latents_of_rows
from .simulated_fits import simulation_calibration_of
from .thinned import NoCounts
from .training import is_training_data
from .verdict import verdict

logger = logging.getLogger("platewise")

TABLES = ("references", "checks", "k_hats", "restarts", "simulation")
OF_TRAINING = "k-hats, posterior predictive checks, leave-one-out, references and restarts"
NO_HALVES = "only rows of counts can be divided into a half to read and a half to judge, and these are none"
ENTRIES_OVER = 0.01  # share of left-out entries whose k-hat may be over the threshold


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What was found about a fit.

    Attributes:
        verdict: What the posterior may be used for and what not, one judgement per use.
        calibration: How held-out entries lie in their predictive distributions; None without any, and of whole rows of
            values that are no counts.
        references: The fit beside simple references, on held-out entries or rows; None without training data.
        checks: Posterior predictive checks; None without training data.
        k_hats: Pareto k-hats by row, column, global and expected value; None without training data.
        restarts: Fits from other seeds beside this one, the first; None unless asked for.
        simulation: Ranks of true values in fits to simulated data, by quantity; None unless asked for.
        columns: Posterior predictive checks of each column; None without training data, and where entries not stored
            are missing.
        loo: Leave-one-out of a sample of training entries; None without training data, or if it was left out.
        left_out: What could not be had, and why, in words.
    """

    verdict: list[Judgement]
    calibration: Calibration | None
    references: pd.DataFrame | None
    checks: pd.DataFrame | None
    k_hats: pd.DataFrame | None
    restarts: pd.DataFrame | None
    simulation: pd.DataFrame | None
    columns: ColumnChecks | None
    loo: SubsampledLoo | None
    left_out: list[str]

    def to_dict(self) -> dict[str, Any]:
        """All of it, tables as lists of records, for JSON; numbers that are not finite are left as they are."""
        tables: dict[str, pd.DataFrame | None] = {name: getattr(self, name) for name in TABLES}
        return {
            "verdict": [asdict(judgement) for judgement in self.verdict],
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            **{name: None if x is None else x.to_dict("records") for name, x in tables.items()},
            "columns": None if self.columns is None else self.columns.to_dict(),
            "loo": None if self.loo is None else self.loo.to_dict(),
            "left_out": self.left_out,
        }


def diagnose(
    fitted: Fitted,
    *,
    test: ad.AnnData | Path | str | None = None,
    data: ad.AnnData | Path | str | None = None,
    rows: int = 100,
    draws: int = 1000,
    n_samples: int = 500,
    loo: int = 1000,
    restarts: int = 0,
    replicates: int = 0,
    covariates: Covariates | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Say how good a posterior is.

    Args:
        fitted: The fit.
        test: Held-out entries; of a VAE, and where entries not stored are zeros, rows. Without, predictions are not
            judged.
        data: The training data; what the fit remembers if None. Without, k-hats, posterior predictive checks,
            leave-one-out and references are left out.
        rows: Rows, and columns, that k-hats are taken of, at most.
        draws: Draws for each k-hat and for leave-one-out, and for a VAE's importance-weighted bound a fifth of them.
        n_samples: Draws where a predictive distribution is sampled.
        loo: Training entries to sample for leave-one-out, which takes some seconds; 0 leaves it out.
        restarts: Further fits, from other seeds, to compare this one with: each takes as long as it did.
        replicates: Small data sets to draw from the model and to fit, by which the kind of fit is judged, and not this
            one (simulation-based calibration); 50 say something.
        covariates: Covariates of the rows of the fit, if it takes any that it did not read off columns of obs.
        seed: Seed of everything random.

    Raises:
        PlatewiseError: If `test` or `data` do not fit the fit, `test` are the training data, or a number is out of
            range.
    """
    if loo:
        require_enough(loo, draws)
    held_out, given = _read(test), _read(fitted.data if data is None else data)
    _require_held_out(fitted, held_out)
    of_whole_rows = fitted.meaning["unstored"] == "zero" and are_latents_of_rows(fitted)
    pieces: dict[str, Any] = {"of_whole_rows": of_whole_rows}
    beside: dict[str, Any] = {"columns": None, "loo": None, "left_out": []}
    about: dict[str, Any] = {"covariates": covariates, "seed": seed}
    if given is None:
        beside["left_out"].append(f"{OF_TRAINING}, which need the training data")
    else:
        pieces["k_hats"] = _k_hats(fitted, given, rows, draws, about)
        pieces["checks"], beside["columns"] = _checks(fitted, given, about)
        beside["loo"], unfit = _left_one_out(fitted, given, loo, draws, about)
        beside["left_out"] += [*pieces["k_hats"].attrs.get("left_out", []), *unfit]
        pieces |= _of_refits(fitted, given, restarts, replicates, about)
    if held_out is None:
        beside["left_out"].append("calibration and references, which need held-out entries")
    else:
        of_test = {"covariates": None if of_whole_rows else covariates, "seed": seed, "data": given}
        of_held_out, unfit = _of_held_out(fitted, held_out, n_samples, draws, of_test)
        pieces |= of_held_out
        beside["left_out"] += unfit
    evidence = Evidence(**pieces)
    judgements = [*verdict(evidence), *([] if beside["loo"] is None else [leave_one_out(beside["loo"])])]
    return Diagnosis(judgements, **{name: getattr(evidence, name) for name in ("calibration", *TABLES)}, **beside)


def leave_one_out(found: SubsampledLoo) -> Judgement:
    """Whether leave-one-out densities may be compared with another fit's: at most one k-hat in 100 is too large."""
    figures = f"{found.over.sum()} of {len(found.over):,} k-hats over {found.threshold:.2f}; {found.meaning}"
    answer: Answer = "yes" if found.over.mean() <= ENTRIES_OVER else "no"
    return Judgement("comparisons with other fits by leave-one-out", answer, figures)


def _k_hats(fitted: Fitted, data: ad.AnnData, rows: int, draws: int, about: dict[str, Any]) -> pd.DataFrame:
    logger.info("diagnose: k-hats of at most %d rows and columns", rows)
    return k_hats(fitted, data, rows=rows, draws=draws, **about)


def _checks(fitted: Fitted, data: ad.AnnData, about: dict[str, Any]) -> tuple[pd.DataFrame, ColumnChecks | None]:
    logger.info("diagnose: posterior predictive checks")
    found = predictive_checks(fitted, data, **about)
    return found.statistics, found.columns


def _left_one_out(
    fitted: Fitted, data: ad.AnnData, n: int, draws: int, about: dict[str, Any]
) -> tuple[SubsampledLoo | None, list[str]]:
    """Leave-one-out where it is asked for, or why there is none."""
    if n == 0:
        return None, []
    logger.info("diagnose: leave-one-out of at most %d entries", n)
    try:
        return subsampled_loo(fitted, data, n=n, draws=draws, **about), []
    except PlatewiseError as error:  # of a model that has no entries to leave out
        return None, [f"leave-one-out: {error}"]


def _of_refits(
    fitted: Fitted, data: ad.AnnData, restarts: int, replicates: int, about: dict[str, Any]
) -> dict[str, Any]:
    """What further fits tell, where they are asked for."""
    found: dict[str, Any] = {}
    if restarts:
        logger.info("diagnose: %d restarts", restarts)
        further = about | {"seed": about["seed"] + 1}
        found["restarts"] = compare_restarts(fitted, data, restarts=restarts, **further)
    if replicates:
        logger.info("diagnose: %d fits to simulated data", replicates)
        ranks = simulation_calibration_of(fitted, data, replicates=replicates, **about)
        found["simulation"] = ranks.table().reset_index()
    return found


def _of_held_out(
    fitted: Fitted, test: ad.AnnData, n_samples: int, draws: int, about: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """What held-out entries tell, or whole rows, and what they do not."""
    logger.info("diagnose: held-out entries")
    found: dict[str, Any] = {}
    left_out = []
    try:
        found["calibration"] = calibration(fitted, test, n_samples=n_samples, **about)
    except NoCounts as error:
        found["unjudged"] = NO_HALVES
        left_out.append(f"calibration: {error}")
    if about["data"] is not None:
        found["references"] = references(fitted, test, n_samples=n_samples, draws=max(draws // 5, 1), **about)
    return found, left_out


def _read(given: ad.AnnData | Path | str | None) -> Any:
    """A matrix in memory: several read-outs need it."""
    return read_h5ad(given) if isinstance(given, Path | str) else given


def _require_held_out(fitted: Fitted, test: ad.AnnData | None) -> None:
    """Check that entries to judge by are not those that the fit was made on."""
    if test is not None and is_training_data(fitted, test):
        raise PlatewiseError(
            "Expected entries held out of the fit to judge it by, got its training data. Pass the test part, or none."
        )
