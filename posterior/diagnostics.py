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
from .covariates import Covariates
from .k_hat import k_hats
from .posterior_predictive import posterior_predictive_checks
from .references import references
from .restarts import compare_restarts
from .rows import are_latents_of_rows
from .simulated_fits import simulation_calibration_of
from .training import is_training_data
from .verdict import Evidence, Judgement, verdict

logger = logging.getLogger("platewise")

TABLES = ("references", "checks", "k_hats", "restarts", "simulation")


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What was found about a fit.

    Attributes:
        verdict: What the posterior may be used for and what not, one judgement per use.
        calibration: How held-out entries lie in their predictive distributions; None without any, and of whole rows.
        references: The fit beside simple references, on held-out entries or rows; None without training data.
        checks: Posterior predictive checks; None without training data.
        k_hats: Pareto k-hats by row, column, global and expected value; None without training data.
        restarts: Fits from other seeds beside this one, the first; None unless asked for.
        simulation: Ranks of true values in fits to simulated data, by quantity; None unless asked for.
        left_out: What could not be had, and why, in words.
    """

    verdict: list[Judgement]
    calibration: Calibration | None
    references: pd.DataFrame | None
    checks: pd.DataFrame | None
    k_hats: pd.DataFrame | None
    restarts: pd.DataFrame | None
    simulation: pd.DataFrame | None
    left_out: list[str]

    def to_dict(self) -> dict[str, Any]:
        """All of it, tables as lists of records, for JSON; numbers that are not finite are left as they are."""
        tables: dict[str, pd.DataFrame | None] = {name: getattr(self, name) for name in TABLES}
        return {
            "verdict": [asdict(judgement) for judgement in self.verdict],
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
            **{name: None if x is None else x.to_dict("records") for name, x in tables.items()},
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
        data: The training data; what the fit remembers if None. Without, k-hats, posterior predictive checks and
            references are left out.
        rows: Rows, and columns, that k-hats are taken of, at most.
        draws: Draws for each k-hat, and for a VAE's importance-weighted bound a fifth of them.
        n_samples: Draws where a predictive distribution is sampled.
        restarts: Further fits, from other seeds, to compare this one with: each takes as long as it did.
        replicates: Small data sets to draw from the model and to fit, by which the kind of fit is judged, and not this
            one (simulation-based calibration); 50 say something.
        covariates: Covariates of the rows of the fit, if it takes any that it did not read off columns of obs.
        seed: Seed of everything random.

    Raises:
        PlatewiseError: If `test` or `data` do not fit the fit, `test` are the training data, or a number is out of
            range.
    """
    held_out, given = _read(test), _read(fitted.data if data is None else data)
    _require_held_out(fitted, held_out)
    of_whole_rows = fitted.meaning["unstored"] == "zero" and are_latents_of_rows(fitted)
    pieces: dict[str, Any] = {"of_whole_rows": of_whole_rows}
    left_out: list[str] = []
    if given is None:
        left_out.append("k-hats, posterior predictive checks, references and restarts, which need the training data")
    else:
        about: dict[str, Any] = {"covariates": covariates, "seed": seed}
        pieces |= _of_training(fitted, given, rows, draws, about) | _of_refits(
            fitted, given, restarts, replicates, about
        )
        left_out += pieces["k_hats"].attrs.get("left_out", [])
    if held_out is None:
        left_out.append("calibration and references, which need held-out entries")
    else:
        of_test = {"covariates": None if of_whole_rows else covariates, "seed": seed, "data": given}
        pieces |= _of_held_out(fitted, held_out, n_samples, draws, of_test)
    evidence = Evidence(**pieces)
    found = {name: getattr(evidence, name) for name in ("calibration", *TABLES)}
    return Diagnosis(verdict(evidence), **found, left_out=left_out)


def _of_training(fitted: Fitted, data: ad.AnnData, rows: int, draws: int, about: dict[str, Any]) -> dict[str, Any]:
    """What the training data tell."""
    logger.info("diagnose: k-hats of at most %d rows and columns", rows)
    found: dict[str, Any] = {"k_hats": k_hats(fitted, data, rows=rows, draws=draws, **about)}
    logger.info("diagnose: posterior predictive checks")
    found["checks"] = posterior_predictive_checks(fitted, data, **about)
    return found


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


def _of_held_out(fitted: Fitted, test: ad.AnnData, n_samples: int, draws: int, about: dict[str, Any]) -> dict[str, Any]:
    """What held-out entries tell, or whole rows."""
    logger.info("diagnose: held-out entries")
    found: dict[str, Any] = {}
    if not (fitted.meaning["unstored"] == "zero" and are_latents_of_rows(fitted)):
        found["calibration"] = calibration(fitted, test, n_samples=n_samples, **about)
    if about["data"] is not None:
        found["references"] = references(fitted, test, n_samples=n_samples, draws=max(draws // 5, 1), **about)
    return found


def _read(given: ad.AnnData | Path | str | None) -> Any:
    """A matrix in memory: several read-outs need it."""
    return read_h5ad(given) if isinstance(given, Path | str) else given


def _require_held_out(fitted: Fitted, test: ad.AnnData | None) -> None:
    """Check that entries to judge by are not those that the fit was made on."""
    if test is not None and is_training_data(fitted, test):
        raise PlatewiseError(
            "Expected entries held out of the fit to judge it by, got its training data. Pass the test part, or none."
        )
