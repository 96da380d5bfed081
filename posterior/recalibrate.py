"""Recalibration: a temperature on the noise, and the predictive's shape, found on entries the fit was not trained on.

Where intervals of held-out entries hold too few or too many of them, the noise is multiplied by a factor, in each part
of the rows by activity, that makes a calibration split most likely (Guo, Pleiss, Sun and Weinberger 2017, temperature
scaling, for normals: Laves, Ihler, Fast, Kahrs and Ortmaier 2020). It mends widths, not means, and not what made them
wrong: noise by row and column in the model does that. What all entries have in common, a skew or whole stars, a
monotone map of their places in the predictive mends then (Kuleshov, Fenner and Ermon 2018).
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

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
from .covariates import Covariates
from .drawn_moments import drawn_moments
from .held_out import held_out
from .moments import knows_moments, latents, moments
from .noise_law import OF_NORMAL, NoiseLaw, has_uncertain_noise, noise_law
from .predictive import MAX_ENTRIES, Settings, predictives
from .reader import Reader, reading
from .recalibration_shape import LEAST_OF_SHAPE, learned_shape

LEAST = 500  # entries in a part: the temperature's standard error is then 3 %
WIDEST = math.log(20.0)  # temperatures are between 1/20 and 20

Numbers = Float[np.ndarray, " e"]


def recalibrate(
    fitted: Fitted,
    calibration: ad.AnnData | Path | str,
    *,
    parts: int = 10,
    shape: bool | None = None,
    covariates: Covariates | None = None,
) -> Fitted:
    """The same fit with its noise as wide, and its predictive of the shape, that a calibration split says they are.

    The fit's model and guide are shared with the new one, and unchanged. What reads the noise of an entry (`evaluate`,
    `predict`, `recommend`, `anomalies`, `diagnose`) takes the new one; `generate` draws from the program.
    Means of predictions stay the model's. Posterior predictive checks take the noise, not the shape.

    Args:
        fitted: The fit; an earlier recalibration of it is replaced.
        calibration: Entries that it was not trained on, and that no figure will be reported on; or their .h5ad.
        parts: Parts of the rows by number of training entries, each with its temperature; fewer where a part would have
            less than 500 entries.
        shape: Whether to learn the shape, too, one for all entries; None to do so from 2,000 entries on. It is left as
            it is where what is learned does not predict entries better that it was not learned from.
        covariates: Covariates of the rows of the fit, if it takes any that it did not read off columns of obs.

    Raises:
        PlatewiseError: If the likelihood is no normal or the fit takes entries not stored as zeros, if `calibration`
            are its training data or have no entries of rows and columns it knows, or parts is below 1.
    """
    if parts < 1:
        raise PlatewiseError(f"Expected parts of at least 1, got {parts}. 10 is usual.")
    if fitted.meaning["unstored"] == "zero":
        raise PlatewiseError(
            "Expected a fit whose entries not stored are missing, got one that takes them as observed zeros. "
            "Recalibrate fits of ratings; of counts, choose another likelihood or dispersion, and judge it by diagnose."
        )
    adata = calibration if isinstance(calibration, ad.AnnData) else read_h5ad(calibration)
    digest = fingerprint(adata)
    if digest == fitted.fingerprint:
        raise PlatewiseError(
            "Expected entries that the fit was not trained on, got its training data. Split a part off, and fit again."
        )
    plain = replace(fitted, recalibration=None)
    request = _known(held_out(plain, adata))
    shape = _may_have_shape(shape, len(request))
    n_training = fitted.obs[COUNT].to_numpy()[request.rows.code]
    edges = _edges(n_training, parts)
    found = Recalibration((1.0,) * (len(edges) + 1), edges, len(request), digest)
    with reading(plain, 0, covariates) as reader:
        terms = _terms(reader, request)
    part = found.part_of(n_training)
    best = tuple(_temperature(terms.take(part == k)) for k in range(len(edges) + 1))
    wide = replace(fitted, recalibration=replace(found, temperatures=best))
    return _with_shape(wide, request, covariates) if shape else wide


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


def _may_have_shape(asked: bool | None, n: int) -> bool:
    if asked and n < LEAST_OF_SHAPE:
        raise PlatewiseError(
            f"Expected at least {LEAST_OF_SHAPE:,} calibration entries to learn a shape, got {n:,}. Keep more, or "
            "leave the shape as it is."
        )
    return n >= LEAST_OF_SHAPE if asked is None else asked


def _with_shape(wide: Fitted, request: Request, covariates: Covariates | None) -> Fitted:
    """The same with a map of places, where the entries ask for one."""
    pit, rng = np.empty(len(request)), np.random.default_rng(0)
    with reading(wide, 0, covariates) as reader:
        for block, predictive in predictives(reader, request, Settings()):
            pit[block.at] = predictive.pit(request.value[block.at], rng.random(len(block.at)))
    found = learned_shape(pit)
    if found is None or wide.recalibration is None:
        return wide
    mended = replace(wide.recalibration, knots=found.knots, density=found.density)
    return replace(wide, recalibration=mended)


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


class _Terms(NamedTuple):
    """Of each entry: squared error, variance of its expectation, and the law of its noise's variance."""

    square: Numbers
    variance: Numbers
    noise: Float[np.ndarray, "e k"]
    weight: Float[np.ndarray, " k"]

    def take(self, at: np.ndarray) -> _Terms:
        """Those of some entries."""
        return _Terms(self.square[at], self.variance[at], self.noise[at], self.weight)


def _terms(reader: Reader, request: Request) -> _Terms:
    if not knows_moments(reader):
        mean, variance, of_noise = drawn_moments(reader, request)
        return _Terms((request.value - mean) ** 2, variance, of_noise[:, None], np.ones(1))
    square, variance = np.empty(len(request)), np.empty(len(request))
    parts = OF_NORMAL if has_uncertain_noise(reader.fitted.model) else 1
    noise, weight = np.empty((len(request), parts)), np.ones(1)
    for block in request.blocks(reader, MAX_ENTRIES):
        q = latents(reader, block)
        mean, variance[block.at], of_noise = (x.double().cpu().numpy() for x in moments(reader, block, q))
        square[block.at] = (request.value[block.at] - mean) ** 2
        law = noise_law(reader.fitted.model, block, q) or NoiseLaw(of_noise[:, None], np.ones(1))
        noise[block.at], weight = law.variance, law.weight
    return _Terms(square, variance, noise, weight)


def _temperature(terms: _Terms) -> float:
    """The factor on the noise's standard deviation under which entries are most likely; 1 where there are none."""
    if not len(terms.square):
        return 1.0
    square, variance = terms.square[:, None], terms.variance[:, None]

    def surprise(log_factor: float) -> float:
        total = variance + math.exp(2 * log_factor) * terms.noise
        twice = np.log(total) + square / total
        if len(terms.weight) > 1:
            least = twice.min(1, keepdims=True)
            twice = least[:, 0] - 2 * np.log(np.exp(0.5 * (least - twice)) @ terms.weight)
        return float(np.mean(twice))

    found = minimize_scalar(surprise, bounds=(-WIDEST, WIDEST), method="bounded", options={"xatol": 1e-5})
    return math.exp(float(found.x))
