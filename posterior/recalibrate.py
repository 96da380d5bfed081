"""Recalibration: a temperature on the noise, found on entries that the fit was not trained on.

Where intervals of held-out entries hold too few or too many of them, the noise is multiplied by a factor, in each part
of the rows by activity, that makes a calibration split most likely (Guo, Pleiss, Sun and Weinberger 2017, temperature
scaling, for normals: Laves, Ihler, Fast, Kahrs and Ortmaier 2020). It mends widths, not means, and not what made them
wrong: noise by row and column in the model does that.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from ..data.errors import PlatewiseError
from ..data.source import COUNT
from ..data.storage import fingerprint, read_h5ad
from ..inference.fitted import Fitted
from ..inference.recalibration import Recalibration
from .blocks import Request
from .held_out import held_out
from .moments import knows_moments, moments, refuse_without_moments
from .predictive import MAX_ENTRIES
from .reader import Reader, reading

LEAST = 500  # entries in a part: the temperature's standard error is then 3 %
WIDEST = math.log(20.0)  # temperatures are between 1/20 and 20

Numbers = Float[np.ndarray, " e"]


def recalibrate(fitted: Fitted, calibration: ad.AnnData | Path | str, *, parts: int = 10) -> Fitted:
    """The same fit with its noise as wide as a calibration split says it is.

    The fit's model and guide are shared with the new one, and unchanged. What reads the noise of an entry (`evaluate`,
    `predict`, `recommend`, `anomalies`, `diagnose`) takes the new one, and says so; `generate` draws from the program.

    Args:
        fitted: The fit; an earlier recalibration of it is replaced.
        calibration: Entries that it was not trained on, and that no figure will be reported on; or their .h5ad.
        parts: Parts of the rows by number of training entries, each with its temperature; fewer where a part would have
            less than 500 entries.

    Raises:
        PlatewiseError: If the fit has no closed-form predictive or takes entries not stored as zeros, if `calibration`
            are its training data or have no entries of rows and columns it knows, or parts is below 1.
    """
    if parts < 1:
        raise PlatewiseError(f"Expected parts of at least 1, got {parts}. 10 is usual.")
    if fitted.meaning["unstored"] == "zero":
        raise PlatewiseError(
            "Expected a fit whose entries not stored are missing, got one that takes them as observed zeros. "
            "Recalibrate fits of ratings."
        )
    adata = calibration if isinstance(calibration, ad.AnnData) else read_h5ad(calibration)
    digest = fingerprint(adata)
    if digest == fitted.fingerprint:
        raise PlatewiseError(
            "Expected entries that the fit was not trained on, got its training data. Split a part off, and fit again."
        )
    plain = replace(fitted, recalibration=None)
    request = _known(held_out(plain, adata))
    n_training = fitted.obs[COUNT].to_numpy()[request.rows.code]
    edges = _edges(n_training, parts)
    found = Recalibration((1.0,) * (len(edges) + 1), edges, len(request), digest)
    with reading(plain, 0) as reader:
        terms = _terms(reader, request)
    part = found.part_of(n_training)
    best = tuple(_temperature(*(x[part == k] for x in terms)) for k in range(len(edges) + 1))
    return replace(fitted, recalibration=replace(found, temperatures=best))


def temperatures(fitted: Fitted) -> pd.DataFrame:
    """One line a part: least and most training entries of its rows, rows, and its temperature.

    Raises:
        PlatewiseError: If the fit was not recalibrated.
    """
    if fitted.recalibration is None:
        raise PlatewiseError("Expected a fit that was recalibrated, got one that was not. Call recalibrate first.")
    counts = fitted.obs[COUNT].to_numpy()
    part = fitted.recalibration.part_of(counts)
    lines = [
        {"least": counts[part == k].min(), "most": counts[part == k].max(), "rows": int((part == k).sum()), "factor": t}
        for k, t in enumerate(fitted.recalibration.temperatures)
        if (part == k).any()
    ]
    return pd.DataFrame(lines)


def _known(request: Request) -> Request:
    """The entries whose row and column the fit knows: the others have the prior's predictive."""
    at = np.flatnonzero(request.rows.known & request.cols.known)
    if not len(at):
        raise PlatewiseError(
            "Expected calibration entries of rows and columns that the fit knows, got none. Split entries, not rows."
        )
    return Request(request.rows.take(at), request.cols.take(at), request.value[at])


def _edges(n_training: np.ndarray, parts: int) -> tuple[float, ...]:
    """Numbers of training entries that part the entries into equal parts, as far as ties allow."""
    k = max(min(parts, len(n_training) // LEAST), 1)
    at = np.quantile(n_training, np.arange(1, k) / k, method="inverted_cdf")
    return tuple(float(x) for x in np.unique(at) if x < n_training.max())


def _terms(reader: Reader, request: Request) -> tuple[Numbers, Numbers, Numbers]:
    """Of each entry: squared error, variance of its expectation, and variance of its noise."""
    if not knows_moments(reader):
        raise refuse_without_moments(reader)
    square, variance, noise = (np.empty(len(request)) for _ in range(3))
    for block in request.blocks(reader, MAX_ENTRIES):
        mean, variance[block.at], noise[block.at] = (x.double().cpu().numpy() for x in moments(reader, block))
        square[block.at] = (request.value[block.at] - mean) ** 2
    return square, variance, noise


def _temperature(square: Numbers, variance: Numbers, noise: Numbers) -> float:
    """The factor on the noise's standard deviation under which entries are most likely; 1 where there are none."""
    if not len(square):
        return 1.0

    def surprise(log_factor: float) -> float:
        total = variance + math.exp(2 * log_factor) * noise
        return float(np.mean(np.log(total) + square / total))

    found = minimize_scalar(surprise, bounds=(-WIDEST, WIDEST), method="bounded", options={"xatol": 1e-5})
    return math.exp(float(found.x))
