"""`platewise evaluate`: how good a fit's predictions are, error never without coverage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .evaluate_rows import evaluate_rows
from .loaded import load_run
from .options import Data, Device, Json, Run, Seed, Threads, Trust

if TYPE_CHECKING:
    import anndata as ad

    from ..inference import Fitted
    from ..posterior import Evaluation


RATING = ("a rating", "ratings")


def evaluate(
    run: Run,
    test: Annotated[Path, typer.Argument(metavar="TEST", help="The .h5ad of held-out ratings, or of cells.")],
    method: Annotated[
        str | None, typer.Option(help="closed-form, sampled, or auto (if not given); not of a VAE.")
    ] = None,
    n_samples: Annotated[
        int | None, typer.Option("--samples", help="Draws, where the predictive is sampled; 500 if not given.")
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Of a VAE: draws of each cell's embedding; 200 if not given.")
    ] = None,
    data: Data = None,
    seed: Seed = 0,
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Score predictions of held-out ratings: error, coverage of intervals, density. Of a VAE: log evidence of cells.

    Users and items are aligned by name. Ids that the fit never saw get the prior predictive, and are counted. Where
    entries not stored are observed zeros, all entries of the rows of TEST are scored, zeros included; counts are
    normalised as those of the fit were, and of count-factor taken as they are, given their cells' totals.

    Of a VAE, whole cells are scored: two lower bounds of their log evidence, the ELBO and the importance-weighted one,
    means per cell in nats. Covariates are read off the columns of obs that the fit read.

    Examples:
        platewise evaluate RUN test.h5ad

        platewise evaluate RUN test.h5ad --json
    """
    from .start import start

    start(threads)
    from ..inference.run_directory import read_config
    from ..posterior.rows import are_latents_of_rows
    from .matrix import require_kind

    require_kind(test, read_config(run)["meaning"], "an evaluation")
    fitted = load_run(run, device, trust)
    if are_latents_of_rows(fitted):
        _refuse({"--method": method, "--samples": n_samples, "--data": data}, "a VAE, whose cells are scored whole")
        evaluate_rows(fitted, run, test, 200 if draws is None else draws, seed, json)
        return
    _refuse({"--draws": draws}, "a fit that predicts entries (--samples)")
    _evaluate_entries(fitted, run, test, data, json, method or "auto", 500 if n_samples is None else n_samples, seed)


def _refuse(given: Mapping[str, object], what: str) -> None:
    from ..data.errors import PlatewiseError

    for option in (name for name, value in given.items() if value is not None):
        raise PlatewiseError(f"Expected options for {what}, got {option}. Leave it out.")


def _evaluate_entries(
    fitted: Fitted, run: Path, test: Path, data: Path | None, json: bool, method: str, n_samples: int, seed: int
) -> None:
    from ..data.normalise import NORMALISED
    from ..data.preparation import is_expression
    from ..data.storage import read_h5ad
    from ..inference.protocols import ClosedForm
    from ..posterior import evaluate as score
    from .output import print_json
    from .program import command
    from .training import as_fitted

    training = None if data is None else as_fitted(fitted, data)
    entries = read_h5ad(test)
    scores = score(fitted, entries, method=method, n_samples=n_samples, data=training, seed=seed)
    if json:
        print_json(scores.to_dict())
    else:
        entry = ("an entry", "entries") if is_expression(fitted.meaning) else RATING
        names = fitted.meaning["row_name"], fitted.meaning["col_name"]
        show(scores, str(run), *names, entry, in_sample=_in_sample(fitted, entries))
        if is_expression(fitted.meaning) and NORMALISED not in fitted.meaning:
            typer.echo(
                "Counts on the end of an interval are inside; `diagnose` takes them in part: its shares are lower."
            )
        if scores.n_unknown_rows and is_expression(fitted.meaning) and isinstance(fitted.model, ClosedForm):
            typer.echo(f"to describe new rows by their own entries: {command('fold-in', run, test, '-o')} NEW")


def _in_sample(fitted: Fitted, entries: ad.AnnData) -> str | None:
    """What the fit had of exactly these entries before; None if it had not."""
    from ..data.storage import fingerprint
    from ..posterior.training import is_training_data

    if is_training_data(fitted, entries):
        return "the fit was trained on"
    found = fitted.recalibration
    return "the noise was recalibrated on" if found and found.fingerprint == fingerprint(entries) else None


def show(
    scores: Evaluation,
    title: str,
    row_name: str,
    col_name: str,
    entry: tuple[str, str] = RATING,
    in_sample: str | None = None,
) -> None:
    """Print an evaluation as tables.

    Args:
        scores: The evaluation.
        title: Of the first table.
        row_name: What a row is.
        col_name: What a column is.
        entry: What an entry is, and many of them.
        in_sample: What the fit had of them before, if it had.
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
    kept = "held-out " if in_sample is None else ""
    print_table(f"{title}: {scores.n:,} {kept}{many}", ("", "value", "what it is"), lines)
    deciles = zip(range(1, 11), scores.coverage_by_row_decile["0.9"], scores.coverage_by_col_decile["0.9"], strict=True)
    print_table(
        f"Coverage of the 90% interval by training {many} (1 fewest, 10 most)",
        ("tenth", f"of the {row_name}", f"of the {col_name}"),
        ((str(k), f"{100 * x:.1f}%", f"{100 * y:.1f}%") for k, x, y in deciles),
    )
    typer.echo(f"Predictive scored: {scores.predictive}, noise of {one} included.")
    if in_sample is not None:
        typer.echo(f"in-sample: these are the {many} that {in_sample}.")
    if scores.n_unknown_entries:
        typer.echo(
            f"{scores.n_unknown_entries:,} {many} have ids that the fit never saw ({scores.n_unknown_rows:,} "
            f"{row_name}s, {scores.n_unknown_cols:,} {col_name}s); they got the prior predictive."
        )
