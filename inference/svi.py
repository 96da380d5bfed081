"""Stochastic variational inference with mini-batches of rows, for any model and guide of the contract.

Climbs the evidence lower bound by Adam on one batch of rows at a time, the expected log-likelihood in closed form
where model and guide allow it and sampled otherwise. A step costs O(batch + n_cols), whatever the number of rows.

References:
    Hoffman, Blei, Wang and Paisley (2013), Stochastic variational inference.
    Kingma and Welling (2014), Auto-encoding variational Bayes (reparameterised draws).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pyro
import torch
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.loader import RowLoader
from ..data.source import Source, source_of
from .contract import check_contract
from .device import pick_device
from .elbo import Likelihood, elbo_of
from .fitted import Fitted, blank_batch, describe_covariates, describe_source
from .interrupt import interrupts
from .optimizer import PairedAdam, one_cycle
from .progress import Bar, progress_bar
from .protocols import Initialises, SetsUp


@dataclass(frozen=True)
class Options:
    """What a person may set.

    Attributes:
        epochs: Passes over the rows.
        batch_rows: Rows per step; None takes a twelfth of the rows, at least 16 and at most 4096.
        learning_rate: Adam's step size at its peak, in prior standard deviations.
        warmup: Fraction of the steps over which it rises to the peak.
        final: What it falls to at the end, as a fraction of the peak.
        betas: Adam's decay rates for dense parameters.
        row_betas: The same for row tables, whose rows are seen once an epoch.
        clip_norm: Bound on the gradient's norm, of the loss in nats per entry.
        likelihood: "closed-form", "sampled", or "auto": closed where there is one.
        particles: Draws per step where the likelihood is sampled.
        check_every: Steps between reads of the counter of skipped steps.
        max_skipped: Non-finite steps skipped before the fit ends.
    """

    epochs: int = 60
    batch_rows: int | None = None
    learning_rate: float = 0.5
    warmup: float = 0.1
    final: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    row_betas: tuple[float, float] = (0.5, 0.9)
    clip_norm: float = 10.0
    likelihood: Likelihood = "auto"
    particles: int = 1
    check_every: int = 50
    max_skipped: int = 20

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_rows", "learning_rate", "clip_norm", "particles", "check_every", "max_skipped"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise PlatewiseError(f"Expected {name} above 0, got {value}. Leave it out for the default.")


HISTORY = ("epoch", "step", "elbo", "seconds", "entries_per_second", "learning_rate", "skipped")


@dataclass
class State:
    """A fit in progress: everything that a step changes, and what it reads.

    Attributes:
        elbo: The bound as a module over model and guide.
        optimizer: Moments of every parameter.
        loader: Batches of rows.
        options: The options.
        total: Steps in the whole fit.
        step: Steps done.
        sums: Sums over the epoch in hand, float64, on the device: bound, and share of rows that counted.
        seconds: Training time so far.
        epochs: History, one record an epoch.
    """

    elbo: nn.Module
    optimizer: PairedAdam
    loader: RowLoader
    options: Options
    total: int
    step: int
    sums: Tensor
    seconds: float
    epochs: list[dict[str, float]]


def fit(
    model: nn.Module,
    guide: nn.Module,
    data: ad.AnnData | Path | str,
    *,
    seed: int = 0,
    device: str = "auto",
    covariates: Mapping[str, np.ndarray] | None = None,
    resume: Fitted | None = None,
    progress: bool = True,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Fitted:
    """Fit a guide to a model's posterior, and the model's own parameters, by stochastic variational inference.

    Args:
        model: The model; its parameters are trained in place.
        guide: The guide; made for the model if it has no parameters yet, trained in place.
        data: The matrix, or the path of an .h5ad to stream from.
        seed: Seed of everything random.
        device: "auto" (a GPU if there is one), "cpu", "cuda", ...
        covariates: Arrays per row, handed to the model in each batch.
        resume: An interrupted fit of the same model, guide, data and options, to go on with.
        progress: Whether to show a bar.
        dtype: Precision of parameters and values.
        **options: Fields of `Options`.

    Returns:
        The fit. Ctrl-C ends it early, with the state so far; so do too many non-finite steps.

    Raises:
        PlatewiseError: On options, data, or a model and guide that do not fit together.
    """
    settings = _options(options)
    source = source_of(data, unstored=getattr(model, "unstored", None), needed_by=type(model).__name__)
    place = pick_device(device)
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []), pyro.validation_enabled(False):
        torch.manual_seed(seed)
        loader = _loader(source, settings, seed, place, dict(covariates or {}), dtype)
        state = init(model, guide, loader, settings)
        if resume is not None:
            _restore(state, resume, source)
        stopped, converged = _run(state, progress)
        return _fitted(model, guide, state, source, seed, stopped, converged)


def init(model: nn.Module, guide: nn.Module, loader: RowLoader, options: Options) -> State:
    """Make parameters, check the contract on one batch, and choose the bound.

    Raises:
        PlatewiseError: If model and guide break the contract.
    """
    n_rows, n_cols = loader.source.shape
    batch = next(loader.epoch(0))
    model.to(loader.device, loader.dtype)
    if isinstance(guide, SetsUp) and not list(guide.parameters()):
        starts = model.initialise(batch) if isinstance(model, Initialises) else {}
        blank = blank_batch(n_rows, n_cols, describe_covariates(loader.covariates))
        guide.setup(model, blank.to(loader.device, loader.dtype), starts)
    guide.to(loader.device, loader.dtype)
    check_contract(model, guide, batch)
    elbo = elbo_of(model, guide, batch, options.likelihood, options.particles)
    optimizer = PairedAdam(elbo, options.betas, options.row_betas, options.clip_norm)
    sums = torch.zeros(2, dtype=torch.float64, device=loader.device)
    return State(elbo, optimizer, loader, options, options.epochs * len(loader), 0, sums, 0.0, [])


def step(state: State, batch: RowBatch) -> None:
    """One step up the bound, without waiting for the device."""
    state.optimizer.zero_grad()
    elbo = state.elbo(batch)
    (-elbo / state.loader.source.nnz).backward()
    finite = state.optimizer.step(_learning_rate(state)) & elbo.isfinite()
    share = len(batch.rows) / batch.n_rows
    estimate = torch.stack([elbo.detach().double(), torch.ones_like(state.sums[0])]) * share
    state.sums += torch.where(finite, estimate, 0.0)
    state.step += 1


def _learning_rate(state: State) -> float:
    options = state.options
    return one_cycle(state.step / state.total, options.learning_rate, options.warmup, options.final)


def _run(state: State, shown: bool) -> tuple[str, bool | None]:
    """Steps to the end, to Ctrl-C, or to too many non-finite steps; why it stopped, and whether it converged."""
    per_epoch, options = len(state.loader), state.options
    with interrupts() as pressed, progress_bar("svi", state.total, state.step, shown) as bar:
        for epoch in range(state.step // per_epoch, options.epochs):
            start = time.perf_counter()
            for batch in state.loader.epoch(epoch, start=state.step % per_epoch):
                step(state, batch)
                if state.step % options.check_every == 0:
                    bar.advance(state.step)
                    if _too_many_skipped(state):
                        return _diverged(state), False
                if pressed():
                    state.seconds += time.perf_counter() - start
                    return f"interrupted after step {state.step} of {state.total}; resume to go on", False
            _close_epoch(state, epoch, start, bar)
        return _ended(state)


def _ended(state: State) -> tuple[str, bool | None]:
    if _too_many_skipped(state):
        return _diverged(state), False
    return f"all {state.options.epochs} epochs done; convergence was not tested", None


def _too_many_skipped(state: State) -> bool:
    return int(state.optimizer.skipped) > min(state.options.max_skipped, state.total // 2)


def _diverged(state: State) -> str:
    return (
        f"{int(state.optimizer.skipped)} of {state.step} steps had a gradient that was not finite; the parameters are "
        "those of the last good step. Lower the learning rate, or look for extreme values in the data"
    )


def _close_epoch(state: State, epoch: int, start: float, bar: Bar) -> None:
    """Read the epoch's sums (this waits for the device) and write them to the history."""
    bound, share = state.sums.tolist()
    state.sums.zero_()
    seconds = time.perf_counter() - start
    state.seconds += seconds
    speed = state.loader.source.nnz / seconds
    record = {
        "epoch": epoch + 1,
        "step": state.step,
        "elbo": bound / share if share else math.nan,
        "seconds": state.seconds,
        "entries_per_second": speed,
        "learning_rate": _learning_rate(state),
        "skipped": int(state.optimizer.skipped),
    }
    state.epochs.append(record)
    bar.advance(state.step)
    bar.report(record["elbo"] / state.loader.source.nnz, speed)


def _options(given: Mapping[str, Any]) -> Options:
    known = {field.name for field in fields(Options)}
    if unknown := set(given) - known:
        raise PlatewiseError(f"Expected options among {sorted(known)}, got {sorted(unknown)}. Check the spelling.")
    return Options(**given)


def _loader(
    source: Source,
    options: Options,
    seed: int,
    device: torch.device,
    covariates: dict[str, np.ndarray],
    dtype: torch.dtype,
) -> RowLoader:
    n_rows = source.rows.shape[0]
    for name, values in covariates.items():
        if len(values) != n_rows:
            raise PlatewiseError(f"Expected covariate {name!r} with {n_rows} rows, got {len(values)}.")
    batch_rows = options.batch_rows or min(max(math.ceil(n_rows / 12), 16), 4096)
    return RowLoader(source.rows, batch_rows, seed, device, covariates, dtype)


def _fitted(
    model: nn.Module,
    guide: nn.Module,
    state: State,
    source: Source,
    seed: int,
    stopped: str,
    converged: bool | None,
) -> Fitted:
    tensors = state.optimizer.state_dict() | {
        "sums": state.sums,
        "progress": torch.tensor([state.step, state.seconds], dtype=torch.float64),
        "rng": torch.get_rng_state(),
    }
    covariates = describe_covariates(state.loader.covariates)
    about = describe_source(source) | {"covariates": covariates, "state": tensors}
    history = pd.DataFrame(state.epochs, columns=list(HISTORY))
    return Fitted(model, guide, "svi", asdict(state.options), seed, history, stopped, converged, **about)


def _restore(state: State, earlier: Fitted, source: Source) -> None:
    """Put a fit back where it was interrupted.

    Raises:
        PlatewiseError: If it was another fit, or there is nothing to go on with.
    """
    if not earlier.state:
        raise PlatewiseError("Expected a fit with its optimiser's state, got one without. Fit again.")
    if earlier.fingerprint != source.fingerprint:
        raise PlatewiseError("Expected the data that the fit was made on, got others (fingerprints differ).")
    if Options(**earlier.options) != state.options:
        raise PlatewiseError(f"Expected the options of the interrupted fit, {earlier.options}, got others.")
    tensors = dict(earlier.state)
    torch.set_rng_state(tensors.pop("rng").cpu())
    done, state.seconds = tensors.pop("progress").tolist()
    state.step, state.sums = int(done), tensors.pop("sums").to(state.sums.device)
    state.epochs = earlier.history.to_dict("records")
    state.optimizer.load_state_dict(tensors)
