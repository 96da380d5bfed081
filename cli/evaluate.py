"""`platewise evaluate`: how good a fit's predictions are, error never without coverage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Data, Device, Json, Run, Seed, Threads

if TYPE_CHECKING:
    from ..posterior import Evaluation


def evaluate(
    run: Run,
    test: Annotated[Path, typer.Argument(metavar="TEST", help="The .h5ad of held-out ratings.")],
    method: Annotated[str, typer.Option(help="closed-form, sampled, or auto.")] = "auto",
    n_samples: Annotated[int, typer.Option("--samples", help="Draws, where the predictive is sampled.")] = 500,
    data: Data = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Score predictions of held-out ratings: error, coverage of intervals, density.

    Users and items are aligned by name. Ids that the fit never saw get the prior predictive, and are counted.

    Examples:
        platewise evaluate RUN test.h5ad

        platewise evaluate RUN test.h5ad --json
    """
    from .start import start

    start(threads)
    from ..inference.run_directory import load
    from ..posterior import evaluate as score
    from .matrix import require_ratings
    from .output import print_json
    from .training import as_fitted

    require_ratings(test, "an evaluation")
    fitted = load(run, device=device)
    training = None if data is None else as_fitted(fitted, data)
    scores = score(fitted, test, method=method, n_samples=n_samples, data=training, seed=seed)
    if json:
        print_json(scores.to_dict())
    else:
        show(scores, str(run), fitted.meaning["row_name"], fitted.meaning["col_name"])


def show(scores: Evaluation, title: str, row_name: str, col_name: str) -> None:
    """Print an evaluation as tables."""
    from .output import print_table

    lines = [
        ("RMSE", f"{scores.rmse:.4f}", "root mean squared error of the mean"),
        ("MAE", f"{scores.mae:.4f}", "mean absolute error of the mean"),
        ("log density", f"{scores.log_predictive_density:.4f}", "mean over ratings, nats; higher is better"),
        ("CRPS", f"{scores.crps:.4f}", "continuous ranked probability score; lower is better"),
        ("width", f"{scores.interval_width:.4f}", "mean width of the 90% interval"),
    ]
    inside = "of the ratings are inside"
    lines += [(f"{100 * float(p):.0f}% interval", f"{100 * x:.1f}%", inside) for p, x in scores.coverage.items()]
    print_table(f"{title}: {scores.n:,} held-out ratings", ("", "value", "what it is"), lines)
    deciles = zip(range(1, 11), scores.coverage_by_row_decile["0.9"], scores.coverage_by_col_decile["0.9"], strict=True)
    print_table(
        "Coverage of the 90% interval by training ratings (1 fewest, 10 most)",
        ("tenth", f"of the {row_name}", f"of the {col_name}"),
        ((str(k), f"{100 * x:.1f}%", f"{100 * y:.1f}%") for k, x, y in deciles),
    )
    typer.echo(f"Predictive scored: {scores.predictive}, noise of a rating included.")
    if scores.n_unknown_entries:
        typer.echo(
            f"{scores.n_unknown_entries:,} ratings have ids that the fit never saw ({scores.n_unknown_rows:,} "
            f"{row_name}s, {scores.n_unknown_cols:,} {col_name}s); they got the prior predictive."
        )
