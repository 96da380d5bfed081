"""Several draws at once, in a plate of particles left of all others: which programs that index from the right stand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from pyro import poutine
from pyro.distributions.util import scale_and_mask
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.program_lines import raising_line
from .contract_runs import Run, run
from .contract_values import require_shapes

RIGHT = "index from the right (x[..., 0], batch.at_rows(x)), particles stand left of the plates; or set particles=1"
TOLERANCE = 1e-4  # of the largest log-probability: sums of float32 in another order


def require_particles(model: Any, guide: Any, batch: RowBatch, plate: AbstractContextManager[Any]) -> None:
    """Check that model and guide run in a plate of particles, and that each particle has its own log-probabilities.

    Raises:
        PlatewiseError: If they break off there, or naming an observed site that mixes the draws of particles.
    """
    q = _in_plate(guide, batch, plate)
    require_shapes(_in_plate(poutine.replay(model, q.trace), batch, plate), RIGHT)
    with _evaluating(model):  # dropout and batch normalisation mix particles, as they do rows
        together = _in_plate(poutine.replay(model, q.trace), batch, plate)
        own = _draw(together, -1, run(guide, batch))
        alone, again = (run(poutine.condition(model, data=own), batch) for _ in range(2))
        for name in together.observed:
            x, y = _log_prob(alone, name), _log_prob(again, name)
            is_sure = _alike(x, y)  # not of a model with noise of its own
            if is_sure and not _alike(x, _log_prob(together, name, -1)):
                raise PlatewiseError(
                    f"Expected observed site {name!r} to have the log-probabilities of each particle's own draw, got "
                    f"some of others{together.lines.of(name)}. Latents mix particles: {RIGHT}."
                )


def _in_plate(program: Any, batch: RowBatch, plate: AbstractContextManager[Any]) -> Run:
    try:
        with plate:
            return run(program, batch)
    except Exception as error:  # without the plate it ran before
        cause = error.__cause__ or error
        reason = f"{type(cause).__name__}, {str(cause).splitlines()[0].rstrip('.') if str(cause) else 'without words'}"
        raise PlatewiseError(
            f"Expected a program that can draw several particles at once, got {reason}{raising_line(cause)}. "
            f"{RIGHT[0].upper()}{RIGHT[1:]}."
        ) from error


def _draw(p: Run, particle: int, alone: Run) -> dict[str, Tensor]:
    """The latents of one particle, in the shapes that they have alone."""
    values = {}
    for name, site in p.latents.items():
        axis = _dim(site) - site["fn"].event_dim
        values[name] = site["value"].select(axis, particle).reshape(alone.trace.nodes[name]["value"].shape)
    return values


def _log_prob(p: Run, name: str, particle: int | None = None) -> Tensor:
    """Log-probabilities of an observed site; of one particle, where there are several."""
    site = p.trace.nodes[name]
    log_prob: Tensor = scale_and_mask(site["fn"].log_prob(site["value"]), 1.0, site["mask"])
    return log_prob.flatten() if particle is None else log_prob.select(_dim(site), particle).flatten()


def _dim(site: Any) -> int:
    """The dimension of particles, left of all others."""
    return min(frame.dim for frame in site["cond_indep_stack"] if frame.dim is not None)


def _alike(x: Tensor, y: Tensor) -> bool:
    if x.shape != y.shape:
        return False
    finite = x.isfinite() & y.isfinite()
    return not finite.any() or bool(((x - y)[finite].abs() <= TOLERANCE * x[finite].abs().max()).all())


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
