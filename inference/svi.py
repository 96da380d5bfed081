"""Stochastic variational inference with mini-batches of rows, for any model and guide of the contract.

Climbs the evidence lower bound by Adam on one batch of rows at a time, the expected log-likelihood in closed form
where model and guide allow it and sampled otherwise. A step costs O(batch + n_cols), whatever the number of rows. A
fit takes a number of epochs, by one cycle of the step size, or stops itself, after some stages (`convergence`).

References:
    Hoffman, Blei, Wang and Paisley (2013), Stochastic variational inference.
    Kingma and Welling (2014), Auto-encoding variational Bayes (reparameterised draws).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import pyro
import torch
from torch import nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.loader import RowLoader
from ..data.source import COUNT, Source, source_of
from .contract import as_module, check_contract, one_line, require_module
from .contract_runs import run
from .convergence import Stages, stages_of
from .covariates import describe_covariates, read_covariates
from .device import own_generators, pick_device
from .elbo import ClosedFormELBO, SampledELBO, elbo_of
from .fitted import Fitted, describe_source
from .history import VALIDATION, History
from .interrupt import interrupts
from .observed import ObservedSites
from .optimizer import PairedAdam, one_cycle
from .progress import Bar, progress_bar
from .resume import require_same_covariates
from .start import set_up
from .svi_endings import Ending, diverged, ended, interrupted, too_many_skipped
from .svi_options import Options, chosen_options
from .svi_resume import restore, tensors_of
from .validation import Validation, held_out_of, require_rows_alone

__all__ = ["Options", "State", "elbo_of", "fit", "init", "step"]


@dataclass
class State:
    """A fit in progress: everything that a step changes, and what it reads.

    Attributes:
        elbo: The bound as a module over model and guide.
        optimizer: Moments of every parameter.
        loader: Batches of rows.
        options: The options.
        total: Steps in the whole fit, at most.
        step: Steps done.
        history: Epochs done, and sums over the one in hand.
        validation: Rows held out, and the best epoch by them; None if there are none.
        stages: Of a fit that stops itself; None for a number of epochs.
    """

    elbo: SampledELBO | ClosedFormELBO
    optimizer: PairedAdam
    loader: RowLoader
    options: Options
    total: int
    step: int
    history: History
    validation: Validation | None = None
    stages: Stages | None = None

    @property
    def is_done(self) -> bool:
        """Whether the fit ends before its last step: patience is exhausted, or another stage would gain too little."""
        exhausted = self.validation is not None and self.validation.exhausted
        return exhausted or (self.stages is not None and (self.stages.converged or self.stages.finished))


def fit(
    model: nn.Module | Callable[[RowBatch], Any],
    guide: nn.Module,
    data: ad.AnnData | Path | str | None,
    *,
    seed: int = 0,
    device: str = "auto",
    covariates: Mapping[str, Any] | None = None,
    resume: Fitted | None = None,
    progress: bool = True,
    dtype: torch.dtype = torch.float32,
    allow_empty: bool = False,
    **options: Any,
) -> Fitted:
    """Fit a guide to a model's posterior, and the model's own parameters, by stochastic variational inference.

    Args:
        model: The model; its parameters are trained in place. A plain function will do if it has none.
        guide: The guide; made for the model if it has no parameters yet, trained in place.
        data: The matrix, or the path of an .h5ad to stream from; None for no data, which is a matrix of 1 x 1 without
            entries: the guide then becomes the prior, as far as its family allows.
        seed: Seed of everything random.
        device: "auto" (a GPU if there is one), "cpu", "cuda", ...
        covariates: Of each an array with one row per row, handed to the model in each batch, or the name of a column of
            obs: labels become codes, real numbers are standardised (`obs_columns`).
        resume: An interrupted fit of the same model, guide, data and options, to go on with; or one that `max_epochs`
            cut off, the only option that may be another: with more of them it goes on as if it had always had them.
        progress: Whether to show a bar.
        dtype: Precision of parameters and values.
        allow_empty: Whether a matrix may have no entries; the loss is then in nats, and otherwise in nats per entry.
        **options: Fields of `Options`; else those that the model recommends. `epochs` that are given count as they
            are, whatever is recommended of the number of steps.

    Returns:
        The fit. Ctrl-C ends it early, with the state so far; so do too many non-finite steps. With
        `until="converged"`, parameters are averages of the last iterates, and the last bound of the history is theirs,
        over a pass of the data; `converged` is false where `max_epochs` came first. With `validation`, the
        parameters are those of the epoch with the best bound on the rows held out, the plates of the fit are of the
        other rows, and `obs` has all rows, with a column `held_out`.

    Raises:
        PlatewiseError: On options, data, or a model and guide that do not fit together.
    """
    model = as_module(model)
    settings = chosen_options(model, options)
    require_module("guide", guide)
    unstored = getattr(model, "unstored", None)
    source = source_of(data, unstored=unstored, needed_by=type(model).__name__, allow_empty=allow_empty)
    place = pick_device(device)
    with own_generators(place), pyro.validation_enabled(False):
        torch.manual_seed(seed)
        batch_rows = _batch_rows(settings, len(source.obs))
        about_rows, recorded = read_covariates(covariates or {}, source.obs, model)
        loader = RowLoader(source.rows, batch_rows, seed, place, about_rows, dtype)
        loader, validation = held_out_of(loader, source.obs[COUNT].to_numpy(), settings.validation, settings.patience)
        with one_line(), pyro.get_param_store().scope():
            state = init(model, guide, loader, settings, validation)
        if resume is not None:
            require_same_covariates(resume.covariates, recorded)
            restore(state, resume, source)
        stopped, converged = _run(state, progress)
        fitted = _fitted(state, source, stopped, converged)
    fitted.covariates |= recorded
    fitted.data = Path(data) if isinstance(data, str) else data
    return fitted


def init(
    model: nn.Module, guide: nn.Module, loader: RowLoader, options: Options, validation: Validation | None = None
) -> State:
    """Make parameters, check the contract on one batch, and choose the bound.

    Raises:
        PlatewiseError: If model and guide break the contract, or the model observes none of the entries.
    """
    batch = next(loader.epoch(0))
    try:
        set_up(model, guide, loader)
    except (ValueError, RuntimeError, IndexError):  # of a batch of one row and entry: sizes mean more on a real one
        run(model, batch)
        raise
    with ObservedSites() as observed:
        check_contract(model, guide, batch)
    if validation is not None:
        require_rows_alone(model, guide, batch)
    elbo = elbo_of(model, guide, batch, options.likelihood, options.particles)
    if not any(p.requires_grad for p in elbo.parameters()):
        raise PlatewiseError("Expected a model or a guide with parameters, got none to train. Add a latent site.")
    observed.require_some(loader.source.nnz)
    decay = options.weight_decay / _loss_unit(loader)
    optimizer = PairedAdam(elbo, options.betas, options.row_betas, options.clip_norm, decay)
    history = History(torch.zeros(2, dtype=torch.float64, device=loader.device))
    options = options.with_epochs_for(len(loader))
    stages = stages_of(elbo, optimizer, loader, options.learning_rate) if options.until == "converged" else None
    return State(elbo, optimizer, loader, options, options.most_epochs * len(loader), 0, history, validation, stages)


def step(state: State, batch: RowBatch) -> None:
    """One step up the bound, without waiting for the device."""
    state.optimizer.zero_grad()
    data, kl = state.elbo.terms(batch)
    elbo = data - kl
    ((_kl_weight(state) * kl - data) / _loss_unit(state.loader)).backward()
    if state.stages:
        state.stages.hold()
    finite = state.optimizer.step(_learning_rate(state), elbo)
    state.history.add(elbo, finite, len(batch.rows) / batch.n_rows)
    if state.stages:
        state.stages.note_step()
    state.step += 1


def _loss_unit(loader: RowLoader) -> int:
    """What the bound is divided by to be a loss: the number of entries, and 1 where there are none."""
    return max(loader.source.nnz, 1)


def _kl_weight(state: State) -> float:
    stages = state.stages  # the weight is 1 before averages begin
    within = stages.plan.first_window(0) * len(state.loader) if stages else state.total
    steps = state.options.kl_warmup * within
    return min((state.step + 1) / steps, 1.0) if steps else 1.0


def _learning_rate(state: State) -> float:
    options = state.options
    if state.stages is not None:
        return state.stages.learning_rate(state.step)
    return one_cycle(state.step / state.total, options.learning_rate, options.warmup, options.final)


def _run(state: State, shown: bool) -> Ending:
    """Steps to the end of epochs, stages or patience, to Ctrl-C, or to too many non-finite steps."""
    per_epoch, options = len(state.loader), state.options
    state.elbo.train()
    most = state.total if state.stages is None else None
    with interrupts() as pressed, progress_bar("svi", most, state.step, shown) as bar:
        for epoch in range(state.step // per_epoch, options.most_epochs):
            if state.is_done:
                break
            first, start = state.step % per_epoch, time.perf_counter()
            for batch in state.loader.epoch(epoch, start=first):
                step(state, batch)
                if state.step % options.check_every == 0:
                    bar.advance(state.step)
                    if too_many_skipped(state):
                        return diverged(state)
                if pressed() and state.step % per_epoch:
                    state.history.seconds += time.perf_counter() - start
                    return interrupted(state)
            _close_epoch(state, epoch, time.perf_counter() - start, 1 - first / per_epoch, bar)
            if pressed() and state.step < state.total and not (state.stages and state.is_done):
                return interrupted(state)
        return ended(state)


def _close_epoch(state: State, epoch: int, seconds: float, part: float, bar: Bar) -> None:
    """Write an epoch to the history; `part` of it took these seconds."""
    nnz = state.loader.source.nnz
    about: dict[str, Any] = {"epoch": epoch + 1, "step": state.step, "skipped": int(state.optimizer.skipped)}
    rate, start = _learning_rate(state), time.perf_counter()
    if state.validation is not None:
        about[VALIDATION] = state.validation.note(state.elbo, epoch + 1)
    if state.stages is not None:
        state.stages.close_epoch()
        bar.say(f"svi, stage {state.stages.number + 1}")
    state.history.seconds += time.perf_counter() - start
    record = state.history.close_epoch(seconds, part * nnz, **about, learning_rate=rate)
    bar.advance(state.step)
    if getattr(state.elbo.model, "unstored", None) == "zero":  # every entry counts: rows are what a person knows
        n_rows = state.loader.source.shape[0]
        bar.report_rows(record["elbo"] / n_rows, part * n_rows / max(seconds, 1e-9))
    elif nnz:
        bar.report(record["elbo"] / nnz, record["entries_per_second"])
    else:
        bar.report_total(record["elbo"])


def _batch_rows(options: Options, n_rows: int) -> int:
    return options.batch_rows or min(max(math.ceil(n_rows / 12), 16), 4096)


def _fitted(state: State, source: Source, stopped: str, converged: bool | None) -> Fitted:
    covariates = describe_covariates(state.loader.covariates)
    about = describe_source(source) | {"covariates": covariates, "state": tensors_of(state)}
    if state.validation is not None:
        about["obs"] = state.validation.marked(source.obs)
    options, history = asdict(state.options), state.history.table()
    modules: tuple[Any, Any] = (state.elbo.model, state.elbo.guide)
    return Fitted(*modules, "svi", options, state.loader.seed, history, stopped, converged, **about)
