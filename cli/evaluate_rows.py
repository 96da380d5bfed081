"""How likely whole rows are under a fit whose latents are all of rows (a VAE), shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import pandas as pd

    from ..inference import Fitted

FEW_DRAWS = 5  # effective draws below which the importance-weighted bound is loose
RICHER = {  # by the guide of a fit, what brings the bound closer beside more draws
    "AmortizedNormal": ", or fit with --guide full",
    "AmortizedFullNormal": ", or fit with --guide flow; in Python, refine says what the encoder gives away",
}


def evaluate_rows(fitted: Fitted, run: Path, test: Path, draws: int, seed: int, as_json: bool) -> None:
    """Print both lower bounds of the rows' log evidence, means per row in nats.

    Args:
        fitted: The fit.
        run: Its run directory, for the title.
        test: The .h5ad of the rows.
        draws: Draws of each row's latents.
        seed: Seed of the draws.
        as_json: Whether to print one JSON object: n, elbo, log_likelihood_iw, draws, effective_draws (the median),
            n_trained_on (rows of the test whose names are among those the parameters were fitted to).
    """
    from ..data.storage import read_h5ad
    from ..posterior import score_rows
    from ..posterior.training import trained_on
    from .output import count, print_json

    found = score_rows(fitted, read_h5ad(test), draws=draws, seed=seed)
    n_trained_on = int(found.index.isin(trained_on(fitted)).sum())
    effective = float(found["effective_draws"].median())
    if as_json:
        means = {name: float(found[name].mean()) for name in ("elbo", "log_likelihood_iw")}
        print_json(
            {"n": len(found), **means, "draws": draws, "effective_draws": effective, "n_trained_on": n_trained_on}
        )
    else:
        name = fitted.meaning["row_name"]
        _show(found, f"{run}: {count(len(found), name)} of {test}", draws)
        if effective < FEW_DRAWS <= draws:
            _warn(effective, f"--draws {10 * draws}{RICHER.get(type(fitted.guide).__name__, '')}")
        if n_trained_on:
            typer.echo(f"in-sample: {n_trained_on:,} of them, by name, are {name}s that the fit was trained on.")


def _warn(effective: float, remedy: str) -> None:
    about = f"the weights amount to {effective:.1f} draws: the importance-weighted bound is loose"
    typer.echo(f"warning: {about}. Say {remedy}.", err=True)


def _show(found: pd.DataFrame, title: str, draws: int) -> None:
    from .output import print_table

    nats = "nats, mean; higher is better, a lower bound of the log evidence"
    effective = f"{found['effective_draws'].median():.1f}"
    lines = [
        ("ELBO", f"{found['elbo'].mean():.3f}", nats),
        ("IW", f"{found['log_likelihood_iw'].mean():.3f}", f"the same, importance-weighted over {draws} draws: closer"),
        ("effective", effective, f"draws that the weights amount to, of {draws}; median"),
    ]
    print_table(title, ("", "value", "what it is"), lines)
    typer.echo("Scored whole, without intervals: those of counts are judged by `platewise diagnose`.")
