"""How a fit ended, said to a person or a machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .algorithms import RESUMABLE
from .loaded import trust_of
from .wording import at_the_command_line

if TYPE_CHECKING:
    from ..inference import Fitted


def report(fitted: Fitted, run: Path, as_json: bool) -> None:
    """Say how a fit ended and what to do next.

    Raises:
        typer.Exit: 130 after Ctrl-C, 1 where the fit broke down.
    """
    from .output import print_json

    last = fitted.history.iloc[-1].to_dict() if len(fitted.history) else {}
    if as_json:
        ends = {"stopped": fitted.stopped, "converged": fitted.converged, **_ranks(fitted), **_data_as_taken(fitted)}
        figures = {"elbo": last.get("elbo"), **_held_out(fitted), "seconds": last.get("seconds")}
        print_json({"run": str(run), **ends, **figures})
    else:
        typer.echo(_summary(fitted, run, last))
    if fitted.stopped.startswith("interrupted"):
        typer.echo(f"saved as it is{_how_to_go_on(run) if fitted.algorithm in RESUMABLE else ''}", err=True)
        raise typer.Exit(130)
    if fitted.ran_out:
        more = ("--max-epochs", 2 * fitted.options["max_epochs"])
        typer.echo(f"warning: the fit has not converged{_how_to_go_on(run, *more)}", err=True)
    elif fitted.converged is False:
        typer.echo(f"error: the fit broke down: {fitted.stopped}. {run} holds the parameters as they were.", err=True)
        raise typer.Exit(1)


def _how_to_go_on(run: Path, *options: object) -> str:
    from .program import command

    return f"; go on with `{command('fit', '--resume', run, *options, *trust_of(run))}`"


def _ranks(fitted: Fitted) -> dict[str, Any]:
    """Factors of a model with any, and those that the data support: where scales are learned, and factors separated."""
    from ..posterior.effective_rank import supported_factors

    found = supported_factors(fitted)
    return {"rank": fitted.model.rank, "effective_rank": found} if hasattr(fitted.model, "rank") else {}


def _data_as_taken(fitted: Fitted) -> dict[str, Any]:
    """How entries not stored were taken, and what counts were scaled to."""
    return {"unstored": fitted.meaning["unstored"], "normalised": fitted.meaning.get("normalised")}


def _how_taken(fitted: Fitted) -> str:
    """What was made of a count matrix, in words."""
    from ..data.normalise import said_of

    gaps = "observed zeros" if fitted.meaning["unstored"] == "zero" else "missing"
    return f"taken: {said_of(fitted.meaning.get('normalised'))}; entries not stored taken as {gaps}"


def _terms(fitted: Fitted) -> tuple[int, str]:
    """What the bound is a sum over, and how many: rows where the bar of the fit has said rows, entries otherwise."""
    from ..posterior.rows import are_latents_of_rows
    from ..posterior.training import trained_on

    is_whole = fitted.meaning["unstored"] == "zero"
    if are_latents_of_rows(fitted) or (is_whole and fitted.algorithm == "svi"):
        return len(trained_on(fitted)), fitted.meaning["row_name"]
    return (fitted.n_rows * fitted.n_cols if is_whole else int(fitted.obs["n_entries"].sum())), "entry"


def _held_out(fitted: Fitted) -> dict[str, Any]:
    """The best bound on rows held out, nats a row, and its epoch: the figure to compare fits by."""
    import numpy as np

    history = fitted.history
    bounds = history["validation_elbo"].to_numpy() if "validation_elbo" in history else np.array([])
    if not np.isfinite(bounds).any():
        return {}
    best = int(np.nanargmax(bounds))
    return {"validation_elbo": float(bounds[best]), "best_epoch": int(history["epoch"].iloc[best])}


def _summary(fitted: Fitted, run: Path, last: dict[Any, Any]) -> str:
    from ..data.preparation import is_expression
    from ..inference.protocols import ClosedForm
    from .program import command

    lines, trust = [f"{run}: {at_the_command_line(fitted.stopped)}"], trust_of(run)
    if is_expression(fitted.meaning):
        lines.append(_how_taken(fitted))
    if last:
        n, of = _terms(fitted)
        ranks = _ranks(fitted)
        found = "" if ranks.get("effective_rank") is None else "; effective rank {effective_rank} of {rank}"
        per_entry = f"ELBO {last['elbo']:,.0f} ({last['elbo'] / n:,.4f} per {of})"
        lines.append(f"{per_entry} after {last['seconds']:.1f} s of training{found.format(**ranks)}")
        if best := _held_out(fitted):
            held_out = "held out: ELBO {validation_elbo:,.4f} per {of}, best after epoch {best_epoch}"
            lines.append(held_out.format(of=of, **best))
    if fitted.converged is not False or fitted.ran_out:
        is_scored = isinstance(fitted.model, ClosedForm) or bool(trust) or not is_expression(fitted.meaning)
        following = ("evaluate", "TEST.h5ad") if is_scored else ("embed", "DATA.h5ad -o EMBEDDED.h5ad")
        lines.append(" ".join(["next:", command(following[0], run), following[1], *trust]))
    return "\n".join(lines)
