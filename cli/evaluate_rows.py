"""How likely whole rows are under a fit whose latents are all of rows (a VAE), shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import pandas as pd

    from ..inference import Fitted

FEW_DRAWS = 5  # effective draws below which the importance-weighted bound is loose


def evaluate_rows(fitted: Fitted, run: Path, test: Path, draws: int, seed: int, as_json: bool) -> None:
    """Print both lower bounds of the rows' log evidence, means per row in nats.

    Args:
        fitted: The fit.
        run: Its run directory, for the title.
        test: The .h5ad of the rows.
        draws: Draws of each row's latents.
        seed: Seed of the draws.
        as_json: Whether to print one JSON object: n, elbo, log_likelihood_iw, draws, effective_draws (the median).
    """
    from ..data.storage import read_h5ad
    from ..posterior import score_rows
    from .output import print_json

    found = score_rows(fitted, read_h5ad(test), draws=draws, seed=seed)
    effective = float(found["effective_draws"].median())
    if as_json:
        means = {name: float(found[name].mean()) for name in ("elbo", "log_likelihood_iw")}
        print_json({"n": len(found), **means, "draws": draws, "effective_draws": effective})
    else:
        _show(found, f"{run}: {len(found):,} {fitted.meaning['row_name']}s of {test}", draws, effective)


def _show(found: pd.DataFrame, title: str, draws: int, effective: float) -> None:
    from .output import print_table

    nats = "nats, mean; higher is better, a lower bound of the log evidence"
    lines = [
        ("ELBO", f"{found['elbo'].mean():.3f}", nats),
        ("IW", f"{found['log_likelihood_iw'].mean():.3f}", f"the same, importance-weighted over {draws} draws: closer"),
        ("effective", f"{effective:.1f}", f"draws that the weights amount to, of {draws}; median"),
    ]
    print_table(title, ("", "value", "what it is"), lines)
    if effective < FEW_DRAWS <= draws:
        typer.echo(
            f"warning: the weights amount to {effective:.1f} draws: the importance-weighted bound is loose. Say "
            f"--draws {10 * draws}, or fit with --guide full.",
            err=True,
        )
