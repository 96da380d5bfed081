"""Options of stochastic variational inference, and the number of epochs that they come to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from ..data.errors import PlatewiseError
from .elbo import Likelihood
from .options import options_of, require_positive, require_whole
from .protocols import Recommends
from .wording import counted

Until = Literal["converged", "epochs"]
UNTIL: Until = "converged"  # where nobody says otherwise
LENGTHS = ("epochs", "min_steps", "max_steps", "validation", "patience")  # of a fit with a number of epochs


@dataclass(frozen=True)
class Options:
    """What a person may set.

    Attributes:
        until: "converged": in stages, until another would gain too little (`convergence`). "epochs": a number of them,
            by one cycle of the step size.
        epochs: Passes over the rows, with until="epochs".
        max_epochs: Passes over the rows at most, with until="converged".
        min_steps: Steps to take at least: epochs are raised to that many. None for no such bound.
        max_steps: Steps to take at most: epochs are lowered to that many, but one is done. None for no such bound.
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
        validation: Share of the rows, chosen by the seed, held out of the fit to choose the best epoch by.
        patience: Epochs without a better bound on them before the fit stops; None goes on to the last epoch.
        check_every: Steps between reads of the counter of skipped steps.
        max_skipped: Non-finite steps skipped before the fit ends.
    """

    until: Until = UNTIL
    epochs: int = 60
    max_epochs: int = 500
    min_steps: int | None = None
    max_steps: int | None = None
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
    validation: float = 0.0
    patience: int | None = None
    check_every: int = 50
    max_skipped: int = 20

    def __post_init__(self) -> None:
        limits = ("min_steps", "max_steps", "patience")
        counts = ("epochs", "max_epochs", "batch_rows", "particles", "check_every", "max_skipped", *limits)
        require_positive(self, *counts, "learning_rate", "clip_norm")
        require_whole(self, *counts)
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise PlatewiseError(f"Expected weight_decay of 0 or more, got {self.weight_decay}. Leave it out for none.")
        for name in ("warmup", "final", "kl_warmup", "betas", "row_betas", "validation"):
            value = getattr(self, name)
            if not all(0 <= x < 1 for x in (value if isinstance(value, tuple) else (value,))):
                raise PlatewiseError(f"Expected {name} from 0 to below 1, got {value}. Leave it out for the default.")
        if self.likelihood not in get_args(Likelihood):
            raise PlatewiseError(f"Expected a likelihood among {get_args(Likelihood)}, got {self.likelihood!r}.")
        self._refuse_at_odds()

    def _refuse_at_odds(self) -> None:
        if self.until == "converged" and self.validation:
            raise PlatewiseError(
                f"Expected no rows held out with until='converged', got validation={self.validation}. Leave validation "
                "out, or say until='epochs'."
            )
        if self.patience is not None and not self.validation:
            raise PlatewiseError(
                f"Expected patience with rows held out to judge by, got patience={self.patience} and validation=0. "
                "Set validation, say 0.1, or leave patience out."
            )
        if self.min_steps is not None and self.max_steps is not None and self.min_steps > self.max_steps:
            raise PlatewiseError(
                f"Expected min_steps of at most max_steps, got {self.min_steps} and {self.max_steps}. Set one of them."
            )

    @property
    def most_epochs(self) -> int:
        """Passes over the rows, at most."""
        return self.max_epochs if self.until == "converged" else self.epochs

    def with_epochs_for(self, per_epoch: int) -> Options:
        """The same with epochs raised or lowered to keep to `min_steps` and `max_steps`."""
        epochs = max(self.epochs, _at_least(self.min_steps, per_epoch))
        return replace(self, epochs=min(epochs, _at_most(self.max_steps, per_epoch) or epochs))

    def epochs_in_words(self, per_epoch: int) -> str:
        """The number of epochs, and the bound on the steps that it comes from, if from one."""
        epochs = counted(self.epochs, "epoch", "epochs")
        if self.max_steps is not None and self.epochs == _at_most(self.max_steps, per_epoch):
            return f"{epochs}, for at most {counted(self.max_steps, 'step', 'steps')}"
        if self.min_steps is not None and self.epochs == _at_least(self.min_steps, per_epoch):
            return f"{epochs}, for at least {counted(self.min_steps, 'step', 'steps')}"
        return epochs


def chosen_options(model: Any, given: Mapping[str, Any]) -> Options:
    """Options as given, else as the model recommends, else the defaults.

    Epochs that are given count as they are, and no validation as no patience: what is recommended of bounds on the
    steps, and of patience, then gives way; so does one recommended bound on the steps to another that is given. Where
    a number of epochs is given or recommended, and nothing is said of `until`, it is "epochs".

    Raises:
        PlatewiseError: If there is no such option, or a value is out of its range.
    """
    recommended = dict(model.recommended) if isinstance(model, Recommends) else {}
    gives_way: set[str] = {"min_steps", "max_steps"} if "epochs" in given else set()
    if given.get("validation") == 0:
        gives_way.add("patience")
    least, most = ((recommended | dict(given)).get(name) for name in ("min_steps", "max_steps"))
    if least is not None and most is not None and least > most:
        gives_way |= {"min_steps", "max_steps"}
    until = _until(recommended, given)
    if until == "converged":
        gives_way |= set(LENGTHS)
    kept = {name: x for name, x in recommended.items() if name not in gives_way}
    return options_of(Options, kept | dict(given) | {"until": until})


def _until(recommended: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """What a fit goes on until.

    Raises:
        PlatewiseError: If there is no such end, or lengths of both kinds are given; those of a fit that is gone on
            with, all three of them, may be.
    """
    of_cycle = [name for name in ("epochs", "min_steps", "max_steps") if given.get(name) is not None]
    whole = {"until", "epochs", "max_epochs"} <= set(given)
    until = given.get("until") or (
        "epochs" if set(LENGTHS) & (set(recommended) | set(given)) else "converged" if "max_epochs" in given else UNTIL
    )
    if until not in get_args(Until):
        raise PlatewiseError(f"Expected until among {get_args(Until)}, got {until!r}. Check the spelling.")
    if not whole and of_cycle and (until == "converged" or "max_epochs" in given):
        raise PlatewiseError(
            f"Expected max_epochs with until='converged', and {of_cycle[0]} with until='epochs', got {of_cycle[0]} "
            f"with {'max_epochs' if 'max_epochs' in given else 'until=' + repr(until)}. Give one or the other."
        )
    if not whole and until == "epochs" and "max_epochs" in given:
        raise PlatewiseError(
            "Expected max_epochs with until='converged', got it with a number of epochs. Say until='converged'."
        )
    return until


def _at_least(steps: int | None, per_epoch: int) -> int:
    return math.ceil((steps or 0) / per_epoch)


def _at_most(steps: int | None, per_epoch: int) -> int:
    return 0 if steps is None else max(steps // per_epoch, 1)
