"""What stochastic variational inference needs to go on as if it had never stopped, in tensors."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.errors import PlatewiseError
from ..data.source import Source
from .device import generator_states, restore_generators
from .fitted import Fitted
from .history import History
from .resume import inputs_of, require_same_fit, take_up

if TYPE_CHECKING:
    from .convergence import Stages
    from .svi import State


def tensors_of(state: State) -> dict[str, Tensor]:
    """A state's tensors by name."""
    tensors = state.optimizer.state_dict() | {
        "inputs": inputs_of(state.loader),
        "sums": state.history.sums,
        "progress": torch.tensor([state.step, state.history.seconds], dtype=torch.float64),
        **generator_states(state.loader.device),
    }
    tensors |= state.validation.state_dict() if state.validation else {}
    return tensors | (state.stages.state_dict() if state.stages else {})


def restore(state: State, earlier: Fitted, source: Source) -> None:
    """Put a fit back where it stopped; one that was cut off, where it was before its averages were taken.

    Raises:
        PlatewiseError: If it was another fit, or there is nothing to go on with.
    """
    require_same_fit(earlier, "svi", asdict(state.options), state.loader, source.fingerprint)
    tensors = {name: x for name, x in earlier.state.items() if name != "inputs"}
    restore_generators(tensors, state.loader.device)
    done, seconds = tensors.pop("progress").tolist()
    sums = tensors.pop("sums").clone().to(state.loader.device)
    state.step, state.history = int(done), History(sums, seconds, earlier.history.to_dict("records"))
    if state.validation is not None:
        state.validation.load_state_dict(tensors)
    if state.stages is not None:
        state.stages.load_state_dict(tensors)
    state.optimizer.load_state_dict(tensors)
    take_up(state.elbo.model, earlier.model)
    take_up(state.elbo.guide, earlier.guide)
    if state.stages is not None and earlier.ran_out and state.step < state.total:
        _go_on(state, state.stages)


def _go_on(state: State, stages: Stages) -> None:
    """Let a fit that was cut off have its iterates again, and the history its last estimate of the bound.

    Raises:
        PlatewiseError: If the fit did not keep them.
    """
    if stages.estimate is None:
        raise PlatewiseError(
            "Expected a fit cut off by max_epochs that kept its iterates, got one of an earlier version, which has the "
            "averages alone. Fit again."
        )
    state.history.epochs[-1]["elbo"] = stages.go_on()
