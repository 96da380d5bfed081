"""Exact coordinate ascent for bilinear Gaussian models: every block's best posterior in turn.

There is no learning rate and no noise. A sweep updates all rows' blocks, all columns' blocks, the grand mean, the prior
scales and the noise, each to the maximum of the evidence lower bound given the rest, and then moves means and factors
without changing a prediction (`transforms`). The bound is exact after every sweep and cannot fall but by rounding.

A sweep costs e (p + 2 d) additions twice and (n + m) d^3 / 2 multiply-adds, d = r + 1 and p = d (d + 1) / 2 (see
`row_kernel`); where every entry is observed, O(e r + (n + m) r^2). Memory: 16 bytes an entry, 4 (p + d) bytes a row and
a column, and 4 (p + d) bytes for each row of the longer side.

References:
    Lim and Teh (2007), Variational Bayesian approach to movie rating prediction.
    Luttinen and Ilin (2010), Transformations in variational Bayesian factor analysis to speed up learning.
    Nakajima and Sugiyama (2011), Theoretical analysis of Bayesian matrix factorization.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd
import pyro
import torch
from torch import nn

from ..data.errors import PlatewiseError
from ..data.loader import RowLoader
from ..data.source import Source, source_of
from .device import own_generators, pick_device
from .entries import matrix_of
from .factor_modules import read_state, require_exact_updates, write_state
from .factor_resume import restore, tensors_of
from .factor_state import OUT_OF_HAND, PRECISION_LOST, FactorState
from .fitted import Fitted, describe_source
from .interrupt import interrupts
from .options import options_of, require_positive, require_whole
from .progress import Bar, progress_bar
from .resume import inputs_of, require_same_fit, take_up
from .start import START_ROWS, set_up
from .wording import all_of, counted


@dataclass(frozen=True)
class Options:
    """What a person may set.

    Attributes:
        sweeps: Most sweeps.
        tolerance: Change of the bound in one sweep, relative to it (or to one nat an entry, if that is more), at
            which the fit has ended. From some 5e-4 on the bound of a wide model gains by pruning factors, while
            predictions of ratings no longer improve; for the bound's own maximum take 1e-5 or less.
        accelerate: Whether to translate and rotate after each sweep, and to begin the next one ahead.
        momentum: How far ahead: what of a sweep's change of the columns' means is added to them once more.
    """

    sweeps: int = 100
    tolerance: float = 5e-4
    accelerate: bool = True
    momentum: float = 0.8

    def __post_init__(self) -> None:
        require_positive(self, "sweeps", "tolerance")
        require_whole(self, "sweeps")
        if not 0 <= self.momentum < 1:
            raise PlatewiseError(f"Expected momentum from 0 to below 1, got {self.momentum}. Leave it out for 0.8.")


@dataclass
class State:
    """A fit in progress.

    Attributes:
        factors: Blocks, scales, data.
        options: The options.
        records: One per sweep: epoch, step, elbo, sigma, seconds, entries_per_second.
    """

    factors: FactorState
    options: Options
    records: list[dict[Any, Any]]


def fit(
    model: nn.Module,
    guide: nn.Module,
    data: ad.AnnData | Path | str,
    *,
    seed: int = 0,
    device: str = "auto",
    resume: Fitted | None = None,
    progress: bool = True,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Fitted:
    """Fit a guide to a bilinear Gaussian model's posterior, and the model's scales, by exact coordinate ascent.

    Args:
        model: The model, such as `LatentFactor`; its scales are set in place.
        guide: The guide, `RowBlockNormal` or `MeanFieldNormal`: made for the model if it has no parameters yet, and
            gone on from if it has; set in place.
        data: The matrix, or the path of an .h5ad, which is read whole.
        seed: Seed of the starting values.
        device: "auto" (a GPU if there is one), "cpu", "cuda", ...
        resume: An interrupted fit of the same model, guide, data and options, to go on with.
        progress: Whether to show a bar.
        dtype: Precision of blocks and values; sums and factorisations are in float64.
        **options: Fields of `Options`.

    Returns:
        The fit. Ctrl-C ends it early, after the sweep in hand.

    Raises:
        PlatewiseError: On options or data, or on a model or guide without exact updates.
    """
    settings = options_of(Options, options)
    require_exact_updates(model, guide, "coordinate ascent")
    source = source_of(data, unstored=getattr(model, "unstored", None), needed_by=type(model).__name__)
    place = pick_device(device)
    with own_generators(place), pyro.validation_enabled(False), torch.no_grad():
        torch.manual_seed(seed)
        loader = RowLoader(source.rows, START_ROWS, seed, place, dtype=dtype)
        state = init(model, guide, loader, settings)
        if resume is not None:
            _restore(state, model, guide, resume, loader, source)
        stopped, converged = _run(state, progress)
        tensors = tensors_of(state.factors) | {"inputs": inputs_of(loader)}
        state.factors.settle()
        write_state(state.factors, model, guide)
    about: dict[str, Any] = describe_source(source) | {"data": Path(data) if isinstance(data, str) else data}
    about["state"] = tensors
    ends = (seed, pd.DataFrame(state.records), stopped, converged)
    return Fitted(model, guide, "coordinate-ascent", asdict(settings), *ends, **about)


def init(model: nn.Module, guide: nn.Module, loader: RowLoader, options: Options) -> State:
    """Read the matrix and the state that model and guide are in, made from some rows if they are new."""
    is_new = set_up(model, guide, loader)
    full = getattr(model, "unstored", "missing") == "zero"
    matrix = matrix_of(loader.source, full, loader.device, loader.dtype)
    factors = read_state(model, guide, matrix)
    if is_new:
        factors.calm()
    return State(factors, options, [])


def step(state: State) -> float:
    """One sweep; the bound after it, in nats.

    A sweep that began with extrapolated columns and lowers the bound is undone, and done again without. One whose bound
    is not finite is undone.
    """
    factors, before = state.factors, replace(state.factors)
    if state.options.accelerate:
        factors.extrapolate(state.options.momentum)
        last = state.records[-1]["elbo"] if state.records else -math.inf
        if (elbo := _sweep(factors, True)) >= last or (before.trail is None and math.isfinite(elbo)):
            return elbo
        state.factors = replace(before, trail=None)
    if not math.isfinite(elbo := _sweep(state.factors, state.options.accelerate)):
        state.factors = before
    return elbo


def _sweep(factors: FactorState, accelerate: bool) -> float:
    """All updates once; the bound, NaN where numbers got out of hand."""
    try:
        factors.update_users()
        factors.update_items()
        factors.finish_sweep(accelerate)
        return factors.elbo()
    except OUT_OF_HAND:
        return math.nan


def _run(state: State, shown: bool) -> tuple[str, bool | None]:
    """Sweeps to convergence, to their most, or to Ctrl-C; why it stopped, and whether it converged."""
    most = state.options.sweeps
    with interrupts() as pressed, progress_bar("sweeps", most, len(state.records), shown) as bar:
        while len(state.records) < most:
            start = time.perf_counter()
            if not math.isfinite(elbo := step(state)):
                return f"{PRECISION_LOST} in sweep {len(state.records) + 1}, which was undone", False
            _record(state, elbo, start, bar)
            if (ended := _ended(state)) is not None:
                return ended
            if pressed():
                return f"interrupted after sweep {len(state.records)} of at most {most}; resume to go on", False
    done = all_of(counted(most, "sweep", "sweeps"))
    return f"{done} done; the bound still changes by {_change(state):.1e} of itself a sweep", None


def _record(state: State, elbo: float, start: float, bar: Bar) -> None:
    matrix, done = state.factors.matrix, len(state.records)
    seconds = time.perf_counter() - start
    before = state.records[-1]["seconds"] if done else 0.0
    speed = len(matrix.rows.value) / seconds
    about = {"epoch": done + 1, "step": done + 1, "elbo": elbo, "sigma": math.sqrt(state.factors.scales.noise)}
    state.records.append(about | {"seconds": before + seconds, "entries_per_second": speed})
    bar.advance(done + 1)
    bar.report(elbo / matrix.n_entries, speed)


def _restore(
    state: State, model: nn.Module, guide: nn.Module, earlier: Fitted, loader: RowLoader, source: Source
) -> None:
    """Put a fit back where it was interrupted.

    Raises:
        PlatewiseError: If it was another fit, or there is nothing to go on with.
    """
    require_same_fit(earlier, "coordinate-ascent", asdict(state.options), loader, source.fingerprint)
    take_up(model, earlier.model)
    take_up(guide, earlier.guide)
    restore(state.factors, earlier.state)
    state.records = [dict(record) for record in earlier.history.to_dict("records")]


def _ended(state: State) -> tuple[str, bool] | None:
    """Why the fit is over, if it is."""
    done, change = len(state.records), _change(state)
    if change < -state.options.tolerance:
        return f"the bound fell by {-change:.1e} of itself in sweep {done}: rounding. Fit in float64", False
    if change <= state.options.tolerance:
        return f"converged: the bound changed by {change:.1e} of itself in sweep {done}{_at_floor(state)}", True
    return None


def _change(state: State) -> float:
    """Change of the bound in the last sweep, relative to the bound, or to one nat an entry if that is more."""
    if len(state.records) < 2:
        return math.inf
    before, after = (record["elbo"] for record in state.records[-2:])
    return (after - before) / max(abs(after), state.factors.matrix.n_entries)


def _at_floor(state: State) -> str:
    factors = state.factors
    if "noise" not in factors.learned or factors.scales.noise > factors.floors.noise:
        return ""
    return (
        f"; sigma is at its floor, {math.sqrt(factors.floors.noise):.3g}, a thousandth of the entries' spread: the "
        "factors explain the entries all but exactly"
    )
