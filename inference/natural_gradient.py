"""Stochastic natural gradients for bilinear Gaussian models: rows stream by, from memory or from disk.

First passes take random blocks of rows: the exact local update of each row's block, then a step along the natural
gradient of the columns' blocks and the grand mean, that is, a weighted mean of natural parameters with weight
(t + 1)^-forgetting on the newest. The scales wait: set from few rows they would prune factors for good. Later passes
only sum up what the rows say of the columns and update those and all globals once, at rate one: coordinate ascent,
streamed, whose bound is exact. Rows' blocks are held for the block in hand alone; a last pass writes them if the guide
holds rows, and otherwise they are recomputed when they are read (`fold_in`).

Memory: 8 (p + d) bytes a column twice, 4 (2 p + 3 d) bytes a row of the block in hand, d = r + 1, p = d (d + 1) / 2; no
more for more rows.

References:
    Hoffman, Blei, Wang and Paisley (2013), Stochastic variational inference.
    Robbins and Monro (1951), A stochastic approximation method.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import anndata as ad
import pandas as pd
import pyro
import torch
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.loader import RowLoader
from ..data.source import COUNT, Source, source_of
from .bound import Residual
from .device import own_generators, pick_device
from .entries import batch_matrix
from .factor_modules import read_state, require_exact_updates, require_streamed, write_blocks, write_state
from .factor_state import OUT_OF_HAND, PRECISION_LOST, FactorState
from .fitted import Fitted, describe_source
from .interrupt import interrupts
from .item_statistics import Tally
from .options import options_of, require_positive, require_whole
from .progress import Bar, progress_bar
from .resume import inputs_of
from .start import START_ROWS, set_up
from .wording import all_of, counted


@dataclass(frozen=True)
class Options:
    """What a person may set.

    Attributes:
        passes: Passes over the rows.
        random_passes: How many of them, the first, take random blocks and step after each; None takes one where there
            are two passes or more.
        batch_rows: Rows in a block; None takes a sixteenth of the rows, at least 256 and at most 32,768.
        forgetting: Rate at which steps shrink, above 0.5 and at most 1 (Robbins and Monro).
        momentum: What of a later pass's change of the columns' means is added once more before the next.
    """

    passes: int = 8
    random_passes: int | None = None
    batch_rows: int | None = None
    forgetting: float = 0.7
    momentum: float = 0.8

    def __post_init__(self) -> None:
        require_positive(self, "passes", "batch_rows")
        require_whole(self, "passes", "random_passes", "batch_rows")
        if not 0 <= self.first_passes < self.passes:
            raise PlatewiseError(
                f"Expected random_passes of 0 or more, and more passes than that, got {self.random_passes} of "
                f"{self.passes} passes. Raise passes."
            )
        if not 0.5 < self.forgetting <= 1:
            raise PlatewiseError(f"Expected forgetting above 0.5 and at most 1, got {self.forgetting}.")
        if not 0 <= self.momentum < 1:
            raise PlatewiseError(f"Expected momentum from 0 to below 1, got {self.momentum}.")

    @property
    def first_passes(self) -> int:
        """Passes of random blocks."""
        return min(1, int(self.passes) - 1) if self.random_passes is None else self.random_passes


@dataclass
class State:
    """A fit in progress.

    Attributes:
        factors: Columns, scales, and the rows and data of the block in hand.
        tally: What the rows said of the columns.
        loader: Blocks of rows.
        count: Entries of each column, (m,).
        options: The options.
        steps: Random blocks seen.
        records: One per pass: epoch, step, elbo, sigma, seconds, entries_per_second.
    """

    factors: FactorState
    tally: Tally
    loader: RowLoader
    count: Tensor
    options: Options
    steps: int
    records: list[dict[Any, Any]]


def fit(
    model: nn.Module,
    guide: nn.Module,
    data: ad.AnnData | Path | str,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Fitted:
    """Fit a guide to a bilinear Gaussian model's posterior, and the model's scales, by stochastic natural gradients.

    Args:
        model: The model, such as `LatentFactor`, of a matrix with missing entries; its scales are set in place.
        guide: The guide, `RowBlockNormal` or `MeanFieldNormal`, gone on from if it has parameters; set in place. Made
            with `hold_rows=False` it keeps no rows, and read-outs recompute them from the training data.
        data: The matrix, or the path of an .h5ad to stream from.
        seed: Seed of the starting values and of the order of rows.
        device: "auto" (a GPU if there is one), "cpu", "cuda", ...
        progress: Whether to show a bar.
        dtype: Precision of blocks and values; sums and factorisations are in float64.
        **options: Fields of `Options`.

    Returns:
        The fit. `history` has one line per pass; its bound is an estimate in random passes and exact in later ones.
        Ctrl-C ends it early, after the pass in hand.

    Raises:
        PlatewiseError: On options or data, or on a model or guide without exact updates.
    """
    settings = options_of(Options, options)
    require_exact_updates(model, guide, "natural gradients")
    require_streamed(model)
    source = source_of(data, unstored="missing", needed_by=type(model).__name__)
    place = pick_device(device)
    with own_generators(place), pyro.validation_enabled(False), torch.no_grad():
        torch.manual_seed(seed)
        loader = RowLoader(source.rows, _batch_rows(settings, len(source.obs)), seed, place, dtype=dtype)
        state = init(model, guide, loader, source, settings)
        stopped, converged = _run(state, progress)
        state.factors.settle()
        write_state(replace(state.factors, users=None), model, guide)
        if guide.hold_rows:
            _write_rows(state, model, guide)
    about: dict[str, Any] = describe_source(source) | {"data": Path(data) if isinstance(data, str) else data}
    about["state"] = {"inputs": inputs_of(loader)}
    ends = (seed, pd.DataFrame(state.records), stopped, converged)
    return Fitted(model, guide, "natural-gradient", asdict(settings), *ends, **about)


def init(model: nn.Module, guide: nn.Module, loader: RowLoader, source: Source, options: Options) -> State:
    """The state that model and guide are in, made from some rows if they are new."""
    is_new = set_up(model, guide, loader)
    look = _look(loader)
    factors = read_state(model, guide, batch_matrix(look, float(look.value.double().mean())))
    if is_new:
        factors.calm()
    m, d = factors.items.mean.shape
    count = torch.tensor(source.var[COUNT].to_numpy(), dtype=torch.float64, device=loader.device)
    return State(factors, Tally.empty(m, d, loader.device), loader, count, options, 0, [])


def step(state: State, batch: RowBatch) -> None:
    """One natural-gradient step from a random block of rows; none from rows without entries."""
    if not len(batch.value):
        return
    factors, tally = state.factors, state.tally
    rate = (state.steps + 1) ** -state.options.forgetting
    tally.decay(1 - rate)
    _add(state, batch, rate)
    factors.items = tally.items(state.count, factors.given_items(), factors.items.mean, factors.factorised).moments
    _take_sums(state, tally.residual(state.loader.source.nnz))
    factors.update_mean()
    state.steps += 1


def accumulate(state: State, batches: Iterable[RowBatch]) -> None:
    """One pass that updates the columns once, at its end, and the globals: a sweep of coordinate ascent."""
    factors, options = state.factors, state.options
    m, d = factors.items.mean.shape
    state.tally = Tally.empty(m, d, state.loader.device)
    factors.extrapolate(options.momentum)
    for batch in batches:
        _add(state, batch, 1.0)
    half = state.tally.items(state.count, factors.given_items(), factors.items.mean, factors.factorised)
    factors.items = half.moments
    _take_sums(state, state.tally.residual_under(half))
    factors.finish_sweep()


def _add(state: State, batch: RowBatch, weight: float) -> None:
    """The exact update of a block of rows, and what it says of the columns."""
    factors = state.factors
    factors.matrix = batch_matrix(batch, factors.mu.centre)
    factors.update_users()
    assert factors.users is not None
    assert factors.residual is not None
    state.tally.add(factors.matrix, factors.users, factors.residual, weight)


def _take_sums(state: State, residual: Residual) -> None:
    """Let globals be updated from sums over all rows, and not over the block in hand."""
    factors = state.factors
    assert factors.users is not None
    factors.users = factors.users._replace(sums=state.tally.users(state.loader.source.shape[0]))
    factors.residual = residual


def _run(state: State, shown: bool) -> tuple[str, bool | None]:
    """All passes, or until Ctrl-C; why it stopped."""
    options = state.options
    with interrupts() as pressed, progress_bar("passes", options.passes, 0, shown) as bar:
        for k in range(options.passes):
            start, before = time.perf_counter(), replace(state.factors)
            if not math.isfinite(elbo := _pass(state, k)):
                state.factors = before
                return f"{PRECISION_LOST} in pass {k + 1}, which was undone", False
            _record(state, elbo, start, bar)
            if pressed() and k + 1 < options.passes:
                return f"interrupted after pass {k + 1} of {options.passes}; fit again to have them all", False
    done = all_of(counted(options.passes, "pass", "passes"))
    return f"{done} done; the bound changed by {_change(state):.1e} of itself in the last", None


def _pass(state: State, k: int) -> float:
    """The k-th pass; the bound, NaN where numbers got out of hand."""
    try:
        if k < state.options.first_passes:
            for batch in state.loader.epoch(k):
                step(state, batch)
        else:
            accumulate(state, state.loader.in_order())
        return state.factors.elbo()
    except OUT_OF_HAND:
        return math.nan


def _record(state: State, elbo: float, start: float, bar: Bar) -> None:
    done, nnz = len(state.records), state.loader.source.nnz
    seconds = time.perf_counter() - start
    before = state.records[-1]["seconds"] if done else 0.0
    sigma = math.sqrt(state.factors.scales.noise)
    about = {"epoch": done + 1, "step": done + 1, "elbo": elbo, "sigma": sigma}
    state.records.append(about | {"seconds": before + seconds, "entries_per_second": nnz / seconds})
    bar.advance(done + 1)
    bar.report(elbo / nnz, nnz / seconds)


def _change(state: State) -> float:
    if len(state.records) < 2:
        return math.inf
    before, after = (record["elbo"] for record in state.records[-2:])
    return float(after - before) / max(abs(after), state.loader.source.nnz)


def _write_rows(state: State, model: Any, guide: Any) -> None:
    """One more pass, for the blocks of all rows."""
    factors, first = state.factors, 0
    for batch in state.loader.in_order():
        factors.matrix = batch_matrix(batch, factors.mu.centre)
        factors.update_users()
        assert factors.users is not None
        write_blocks(guide, model.factor_sites[1], factors.users, first)
        first += len(batch.rows)


def _look(loader: RowLoader) -> RowBatch:
    """Some random rows, as many as it takes to have entries."""
    n = START_ROWS
    while not len((look := loader.look(n)).value):
        n *= 2
    return look


def _batch_rows(options: Options, n_rows: int) -> int:
    return options.batch_rows or min(max(math.ceil(n_rows / 16), 256), 32768)
