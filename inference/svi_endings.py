"""How a fit by stochastic variational inference ended: in words, and whether it is known to have converged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from .stages import SHARE
from .wording import all_of, counted

if TYPE_CHECKING:
    from .convergence import Stages
    from .svi import State

Ending = tuple[str, bool | None]


def interrupted(state: State) -> Ending:
    """Ctrl-C: nothing is put back, so that the fit can go on."""
    of = f"of {state.total}" if state.stages is None else f"in stage {state.stages.number + 1}"
    words = f"interrupted after step {state.step} {of}; resume to go on"
    if state.validation is not None and state.validation.best_epoch:
        best = f"{state.validation.best:,.2f} nats a row after epoch {state.validation.best_epoch}"
        words += f"; parameters are those of the last step, the best held-out bound so far was {best}"
    return words, False


def ended(state: State) -> Ending:
    """All epochs done, or no better held-out bound for as long as patience goes; the best epoch is put back."""
    if too_many_skipped(state):
        return diverged(state)
    if state.stages is not None:
        return stage_ended(state, state.stages)
    done, validation = state.options.epochs_in_words(len(state.loader)), state.validation
    if validation is None:
        return f"{all_of(done)} done; convergence was not tested", None
    validation.put_back(state.elbo)
    if not validation.exhausted:
        return f"{all_of(done)} done; {validation.in_words()}", None
    why = f"no better held-out bound for {counted(validation.patience or 1, 'epoch', 'epochs')}"
    return f"stopped at epoch {validation.epoch} of {done}: {why}; {validation.in_words()}", True


def stage_ended(state: State, stages: Stages) -> Ending:
    """No further stage is worth its cost, or no further epoch is allowed; the averages are put in place."""
    last, epochs = state.history.epochs[-1], len(state.history.epochs)
    last["elbo"] = bound = stages.finish(last["elbo"])  # that of what the fit returns, not of the iterates before
    after = f"after {counted(epochs, 'epoch', 'epochs')}, in stage {stages.number + 1}"
    of = f"averages over {counted(stages.steps, 'step', 'steps')}" if stages.epochs else "those of the last step"
    gain = f"a smaller step is predicted to gain {stages.gain:,.1f} of {bound:,.0f} nats"
    if stages.converged:
        known = f"split R-hat {stages.r_hat:.2f}"
        return f"converged {after}: {gain}, less than {SHARE:.3%} ({known}); parameters are {of}", True
    why = gain if math.isfinite(stages.gain) else f"{counted(len(stages.bounds), 'stage', 'stages')} done of at least 3"
    advice = "Raise max_epochs to go on, or take coordinate_ascent where it is possible"
    return f"not converged {after}, the most allowed: {why}; parameters are {of}. {advice}", False


def diverged(state: State) -> Ending:
    """Too many steps were not finite."""
    return (
        f"{int(state.optimizer.skipped)} of {state.step} steps had a gradient that was not finite; the parameters are "
        "those of the last good step. Lower the learning rate, or look for extreme values in the data"
    ), False


def too_many_skipped(state: State) -> bool:
    """Whether more steps were skipped than the options allow; waits for the device."""
    return int(state.optimizer.skipped) > min(state.options.max_skipped, state.total // 2)
