"""`platewise evaluate`: how good a fit's predictions are, error never without coverage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Data, Device, Json, Run, Seed, Threads

if TYPE_CHECKING:
    from ..posterior import Evaluation


RATING = ("a rating", "ratings")


def evaluate(
    run: Run,
    test: Annotated[Path, typer.Argument(metavar="TEST", help="The .h5ad of held-out ratings, or of cells.")],
    method: Annotated[str, typer.Option(help="closed-form, sampled, or auto.")] = "auto",
    n_samples: Annotated[int, typer.Option("--samples", help="Draws, where the predictive is sampled.")] = 500,
    data: Data = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Score predictions of held-out ratings: error, coverage of intervals, density.

    Users and items are aligned by name. Ids that the fit never saw get the prior predictive, and are counted. Where
    entries not stored are observed zeros, all entries of the rows of TEST are scored, zeros included; counts are
    normalised as those of the fit were.

    Examples:
        platewise evaluate RUN test.h5ad

        platewise evaluate RUN test.h5ad --json
    """
    from .start import start

    start(threads)
    from ..data.preparation import is_expression
    from ..inference.run_directory import load, read_config
    from ..posterior import evaluate as score
    from .matrix import require_kind
    from .output import print_json
    from .program import command
    from .training import as_fitted

    require_kind(test, read_config(run)["meaning"], "an evaluation")
    fitted = load(run, device=device)
    training = None if data is None else as_fitted(fitted, data)
    scores = score(fitted, test, method=method, n_samples=n_samples, data=training, seed=seed)
    if json:
        print_json(scores.to_dict())
    else:
        entry = ("an entry", "entries") if is_expression(fitted.meaning) else RATING
        show(scores, str(run), fitted.meaning["row_name"], fitted.meaning["col_name"], entry)
        if scores.n_unknown_rows and is_expression(fitted.meaning):
            typer.echo(f"to describe new rows by their own entries: {command('fold-in', run, test, '-o')} NEW")


def show(scores: Evaluation, title: str, row_name: str, col_name: str, entry: tuple[str, str] = RATING) -> None:
    """Print an evaluation as tables.

    Args:
        scores: The evaluation.
        title: Of the first table.
        row_name: What a row is.
        col_name: What a column is.
        entry: What an entry is, and many of them.
    """
    from .output import print_table

    one, many = entry
    lines = [
        ("RMSE", f"{scores.rmse:.4f}", "root mean squared error of the mean"),
        ("MAE", f"{scores.mae:.4f}", "mean absolute error of the mean"),
        ("log density", f"{scores.log_predictive_density:.4f}", f"mean over {many}, nats; higher is better"),
        ("CRPS", f"{scores.crps:.4f}", "continuous ranked probability score; lower is better"),
        ("width", f"{scores.interval_width:.4f}", "mean width of the 90% interval"),
    ]
    inside = f"of the {many} are inside"
    lines += [(f"{100 * float(p):.0f}% interval", f"{100 * x:.1f}%", inside) for p, x in scores.coverage.items()]
    print_table(f"{title}: {scores.n:,} held-out {many}", ("", "value", "what it is"), lines)
    deciles = zip(range(1, 11), scores.coverage_by_row_decile["0.9"], scores.coverage_by_col_decile["0.9"], strict=True)
    print_table(
        f"Coverage of the 90% interval by training {many} (1 fewest, 10 most)",
        ("tenth", f"of the {row_name}", f"of the {col_name}"),
        ((str(k), f"{100 * x:.1f}%", f"{100 * y:.1f}%") for k, x, y in deciles),
    )
    typer.echo(f"Predictive scored: {scores.predictive}, noise of {one} included.")
    if scores.n_unknown_entries:
        typer.echo(
            f"{scores.n_unknown_entries:,} {many} have ids that the fit never saw ({scores.n_unknown_rows:,} "
            f"{row_name}s, {scores.n_unknown_cols:,} {col_name}s); they got the prior predictive."
        )
