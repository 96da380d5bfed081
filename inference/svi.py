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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import anndata as ad
import pyro
import torch
from torch import nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.loader import RowLoader
from ..data.source import Source, source_of
from .contract import as_module, check_contract, one_line, require_module
from .covariates import as_arrays, describe_covariates
from .device import generator_states, own_generators, pick_device, restore_generators
from .elbo import ClosedFormELBO, Likelihood, SampledELBO, elbo_of
from .fitted import Fitted, describe_source
from .history import History
from .interrupt import interrupts
from .optimizer import PairedAdam, one_cycle
from .options import options_of, require_positive, require_whole
from .progress import Bar, progress_bar
from .protocols import Recommends
from .resume import inputs_of, require_same_fit, take_up
from .start import set_up


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
        weight_decay: Penalty on the weights of networks (dense parameters with two axes or more) as the precision of
            a normal prior on each: half of it times the square, in nats against the bound on all the data.
        kl_warmup: Fraction of the steps over which the weight of the divergence rises from 0 to 1.
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
    weight_decay: float = 0.0
    kl_warmup: float = 0.0
    clip_norm: float = 10.0
    likelihood: Likelihood = "auto"
    particles: int = 1
    check_every: int = 50
    max_skipped: int = 20

    def __post_init__(self) -> None:
        counts = ("epochs", "batch_rows", "particles", "check_every", "max_skipped")
        require_positive(self, *counts, "learning_rate", "clip_norm")
        require_whole(self, *counts)
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise PlatewiseError(f"Expected weight_decay of 0 or more, got {self.weight_decay}. Leave it out for none.")
        for name in ("warmup", "final", "kl_warmup", "betas", "row_betas"):
            value = getattr(self, name)
            if not all(0 <= x < 1 for x in (value if isinstance(value, tuple) else (value,))):
                raise PlatewiseError(f"Expected {name} from 0 to below 1, got {value}. Leave it out for the default.")
        if self.likelihood not in get_args(Likelihood):
            raise PlatewiseError(f"Expected a likelihood among {get_args(Likelihood)}, got {self.likelihood!r}.")


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
        history: Epochs done, and sums over the one in hand.
    """

    elbo: SampledELBO | ClosedFormELBO
    optimizer: PairedAdam
    loader: RowLoader
    options: Options
    total: int
    step: int
    history: History


def fit(
    model: nn.Module | Callable[[RowBatch], Any],
    guide: nn.Module,
    data: ad.AnnData | Path | str,
    *,
    seed: int = 0,
    device: str = "auto",
    covariates: Mapping[str, Any] | None = None,
    resume: Fitted | None = None,
    progress: bool = True,
    dtype: torch.dtype = torch.float32,
    **options: Any,
) -> Fitted:
    """Fit a guide to a model's posterior, and the model's own parameters, by stochastic variational inference.

    Args:
        model: The model; its parameters are trained in place. A plain function will do if it has none.
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
    model = as_module(model)
    settings = options_of(Options, {**(model.recommended if isinstance(model, Recommends) else {}), **options})
    require_module("guide", guide)
    source = source_of(data, unstored=getattr(model, "unstored", None), needed_by=type(model).__name__)
    place = pick_device(device)
    with own_generators(place), pyro.validation_enabled(False):
        torch.manual_seed(seed)
        batch_rows, about_rows = _batch_rows(settings, len(source.obs)), as_arrays(covariates or {}, len(source.obs))
        loader = RowLoader(source.rows, batch_rows, seed, place, about_rows, dtype)
        with one_line(), pyro.get_param_store().scope():
            state = init(model, guide, loader, settings)
        if resume is not None:
            _restore(state, resume, source)
            take_up(model, resume.model)
            take_up(guide, resume.guide)
        stopped, converged = _run(state, progress)
        fitted = _fitted(state, source, stopped, converged)
    fitted.data = Path(data) if isinstance(data, str) else data
    return fitted


def init(model: nn.Module, guide: nn.Module, loader: RowLoader, options: Options) -> State:
    """Make parameters, check the contract on one batch, and choose the bound.

    Raises:
        PlatewiseError: If model and guide break the contract.
    """
    batch = next(loader.epoch(0))
    set_up(model, guide, loader)
    check_contract(model, guide, batch)
    elbo = elbo_of(model, guide, batch, options.likelihood, options.particles)
    if not any(p.requires_grad for p in elbo.parameters()):
        raise PlatewiseError("Expected a model or a guide with parameters, got none to train. Add a latent site.")
    optimizer = PairedAdam(
        elbo, options.betas, options.row_betas, options.clip_norm, options.weight_decay / loader.source.nnz
    )
    history = History(torch.zeros(2, dtype=torch.float64, device=loader.device))
    return State(elbo, optimizer, loader, options, options.epochs * len(loader), 0, history)


def step(state: State, batch: RowBatch) -> None:
    """One step up the bound, without waiting for the device."""
    state.optimizer.zero_grad()
    data, kl = state.elbo.terms(batch)
    elbo = data - kl
    ((_kl_weight(state) * kl - data) / state.loader.source.nnz).backward()
    finite = state.optimizer.step(_learning_rate(state), elbo)
    state.history.add(elbo, finite, len(batch.rows) / batch.n_rows)
    state.step += 1


def _kl_weight(state: State) -> float:
    steps = state.options.kl_warmup * state.total
    return min((state.step + 1) / steps, 1.0) if steps else 1.0


def _learning_rate(state: State) -> float:
    options = state.options
    return one_cycle(state.step / state.total, options.learning_rate, options.warmup, options.final)


def _run(state: State, shown: bool) -> tuple[str, bool | None]:
    """Steps to the end, to Ctrl-C, or to too many non-finite steps; why it stopped, and whether it converged."""
    per_epoch, options = len(state.loader), state.options
    state.elbo.train()
    with interrupts() as pressed, progress_bar("svi", state.total, state.step, shown) as bar:
        for epoch in range(state.step // per_epoch, options.epochs):
            first, start = state.step % per_epoch, time.perf_counter()
            for batch in state.loader.epoch(epoch, start=first):
                step(state, batch)
                if state.step % options.check_every == 0:
                    bar.advance(state.step)
                    if _too_many_skipped(state):
                        return _diverged(state), False
                if pressed() and state.step % per_epoch:
                    state.history.seconds += time.perf_counter() - start
                    return _interrupted(state)
            _close_epoch(state, epoch, time.perf_counter() - start, 1 - first / per_epoch, bar)
            if pressed() and state.step < state.total:
                return _interrupted(state)
        return _ended(state)


def _interrupted(state: State) -> tuple[str, bool | None]:
    return f"interrupted after step {state.step} of {state.total}; resume to go on", False


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


def _close_epoch(state: State, epoch: int, seconds: float, part: float, bar: Bar) -> None:
    """Write an epoch to the history; `part` of it took these seconds."""
    nnz = state.loader.source.nnz
    about = {"epoch": epoch + 1, "step": state.step, "skipped": int(state.optimizer.skipped)}
    record = state.history.close_epoch(seconds, part * nnz, **about, learning_rate=_learning_rate(state))
    bar.advance(state.step)
    bar.report(record["elbo"] / nnz, record["entries_per_second"])


def _batch_rows(options: Options, n_rows: int) -> int:
    return options.batch_rows or min(max(math.ceil(n_rows / 12), 16), 4096)


def _fitted(state: State, source: Source, stopped: str, converged: bool | None) -> Fitted:
    tensors = state.optimizer.state_dict() | {
        "inputs": inputs_of(state.loader),
        "sums": state.history.sums,
        "progress": torch.tensor([state.step, state.history.seconds], dtype=torch.float64),
        **generator_states(state.loader.device),
    }
    covariates = describe_covariates(state.loader.covariates)
    about = describe_source(source) | {"covariates": covariates, "state": tensors}
    options, history = asdict(state.options), state.history.table()
    modules: tuple[Any, Any] = (state.elbo.model, state.elbo.guide)
    return Fitted(*modules, "svi", options, state.loader.seed, history, stopped, converged, **about)


def _restore(state: State, earlier: Fitted, source: Source) -> None:
    """Put a fit back where it was interrupted.

    Raises:
        PlatewiseError: If it was another fit, or there is nothing to go on with.
    """
    require_same_fit(earlier, asdict(state.options), state.loader, source.fingerprint)
    tensors = {name: x for name, x in earlier.state.items() if name != "inputs"}
    restore_generators(tensors, state.loader.device)
    done, seconds = tensors.pop("progress").tolist()
    sums = tensors.pop("sums").clone().to(state.loader.device)
    state.step, state.history = int(done), History(sums, seconds, earlier.history.to_dict("records"))
    state.optimizer.load_state_dict(tensors)
