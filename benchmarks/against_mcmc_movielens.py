"""Coordinate ascent beside Gibbs on u1 of MovieLens 100K: scores, and ratios of standard deviations by activity."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import anndata as ad
import numpy as np
import scipy.sparse as sp
from gibbs import Cells, ratings_of
from gibbs_chains import Chains, gibbs
from platewise.data.compiled import Array
from platewise.data.ratings import read_ratings
from platewise.data.source import COUNT
from platewise.guides import RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.inference.fitted import Fitted
from platewise.models import LatentFactor
from platewise.posterior import predict
from platewise.posterior.blocks import Request
from platewise.posterior.deciles import by_training_entries
from platewise.posterior.deciles import tenths as in_tenths
from platewise.posterior.held_out import held_out
from platewise.posterior.predictive import NormalPredictive
from scipy.special import ndtr
from tables import cell

TOLERANCES: dict[str, dict[str, Any]] = {"default": {}, "1e-5": {"tolerance": 1e-5, "sweeps": 2000}}
SCALES = frozenset({"user", "item", "noise"})
LEVEL = 0.9
HEADINGS = [
    "posterior", "rank", "RMSE", "log density", "90 % covers", "mean sd", "mean sd of expectations", "R-hat", "ESS",
    "sweeps", "seconds",
]  # fmt: skip
TENTHS = [str(k) for k in range(1, 11)]
DECILE_HEADINGS = ["sd of guide / sd of Gibbs", "rank", "by", *TENTHS, "5 % of entries below", "5 % above"]


class Run(NamedTuple):
    """How long Gibbs runs."""

    chains: int
    sweeps: int
    warmup: int
    seed: int


@dataclass(frozen=True)
class Predicted:
    """A predictive of the test entries.

    Attributes:
        mean: Means.
        sd: Standard deviations.
        expected_sd: Standard deviations of the expectations, without the noise.
        density: Log density of what was observed, nats.
        cdf: Probability of less than what was observed.
        about: The last cells of its line: R-hat, ESS, sweeps, seconds.
    """

    mean: Array
    sd: Array
    expected_sd: Array
    density: Array
    cdf: Array
    about: list[str]

    def figures(self, value: Array) -> list[str]:
        """The cells of its line."""
        inside = np.abs(self.cdf - 0.5) <= LEVEL / 2
        numbers = {
            np.sqrt(np.mean((self.mean - value) ** 2)): ".4f",
            self.density.mean(): ".4f",
            inside.mean(): ".3f",
            self.sd.mean(): ".4f",
            self.expected_sd.mean(): ".4f",
        }
        return [*(cell(float(x), form) for x, form in numbers.items()), *self.about]


def compared(folder: Path, rank: int, run: Run) -> tuple[list[list[str]], list[list[str]]]:
    """Lines of scores, and of ratios by tenth of the test entries, at one rank."""
    train, test = read_ratings(folder / "u1.base"), read_ratings(folder / "u1.test")
    scores, ratios = [], []
    for tolerance, options in TOLERANCES.items():
        start = time.perf_counter()
        fit = coordinate_ascent.fit(
            LatentFactor(rank), RowBlockNormal(), train, seed=run.seed, progress=False, **options
        )
        seconds = time.perf_counter() - start
        request, guide = held_out(fit, test), f"row-block, tolerance {tolerance}"
        ours = of_guide(fit, test, request.value, ["-", "-", str(len(fit.history)), f"{seconds:.1f}"])
        scores.append([guide, str(rank), *ours.figures(request.value)])
        for name, learned in (("scales of this fit", frozenset[str]()), ("learned scales", SCALES)):
            if learned and tolerance != "default":
                continue  # learned scales do not know where they began
            theirs = of_gibbs(fit, train, request, learned, run)
            scores.append([f"Gibbs, {name}", str(rank), *theirs.figures(request.value)])
            ratios += ratios_of(fit, request, ours, theirs, [f"{guide} / {name}", str(rank)])
    return scores, ratios


def of_guide(fit: Fitted, test: ad.AnnData, value: Array, about: list[str]) -> Predicted:
    """The closed-form predictive of a fit: a normal of the right two moments."""
    entries = test.X.tocoo()
    pairs = test.obs_names[entries.row], test.var_names[entries.col]
    rating, expected = (predict(fit, *pairs, of=of) for of in ("rating", "mean"))
    normal = NormalPredictive(rating["mean"].to_numpy(), rating["sd"].to_numpy())
    cdf = ndtr((value - normal.mean) / normal.sd)
    return Predicted(normal.mean, normal.sd, expected["sd"].to_numpy(), normal.log_density(value), cdf, about)


def of_gibbs(fit: Fitted, train: ad.AnnData, request: Request, learned: frozenset[str], run: Run) -> Predicted:
    """The predictive of chains, rows and columns without training entries among them."""
    entries = train.X.tocoo()
    model: Any = fit.model
    shape = fit.n_rows + len(request.rows.new), fit.n_cols + len(request.cols.new)
    ratings = ratings_of(sp.csr_matrix((entries.data, (entries.row, entries.col)), shape))
    at = Cells(request.rows.code, request.cols.code, request.value)
    start = time.perf_counter()
    lengths: dict[str, Any] = run._asdict()
    chains: Chains = gibbs(ratings, model.scales(), at, learned=learned, **lengths)
    rhat, ess = chains.mixing()
    seconds = time.perf_counter() - start
    about = [f"{rhat:.3f}", f"{ess:.0f}", f"{run.chains} x {run.sweeps}", f"{seconds:.0f}"]
    expected_sd = np.sqrt(chains.variance)
    return Predicted(chains.mean, chains.sd, expected_sd, chains.density, chains.cdf, about)


def ratios_of(fit: Fitted, request: Request, ours: Predicted, theirs: Predicted, name: list[str]) -> list[list[str]]:
    """Ratios of mean standard deviations by tenth of the entries: of ratings, and of their expectations."""
    lines = []
    for side, parts in tenths(fit, request).items():
        for what, ratio in (("ratings", "sd"), ("expectations", "expected_sd")):
            a, b = getattr(ours, ratio), getattr(theirs, ratio)
            means = [a[part].mean() / b[part].mean() for part in parts]
            figures = [f"{x:.3f}" for x in (*means, *np.quantile(a / b, [0.05, 0.95]))]
            lines.append([*name, f"{what}, {side}", *figures])
    return lines


def tenths(fit: Fitted, request: Request) -> dict[str, list[Array]]:
    """Positions of the test entries, fewest training entries first, in ten parts; ties as `evaluate` sorts them."""
    rows, cols, every = request.rows, request.cols, np.arange(len(request))
    sides = {"user": (rows, cols, fit.obs[COUNT]), "item": (cols, rows, fit.var[COUNT])}
    return {side: in_tenths(every, by_training_entries(*about)) for side, about in sides.items()}
