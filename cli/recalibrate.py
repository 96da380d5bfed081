"""`platewise recalibrate`: a fit's noise and predictive shape as entries that it was not trained on say they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .loaded import load_run, trust_of
from .options import Device, Force, Json, Run, Threads, Trust

if TYPE_CHECKING:
    from ..inference import Fitted
    from ..posterior import Evaluation


def recalibrate(
    run: Run,
    calibration: Annotated[
        Path, typer.Argument(metavar="CALIBRATION", help="The .h5ad of ratings kept for this: not of the fit or test.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The run directory to make.")],
    parts: Annotated[int, typer.Option(min=1, help="Parts of the users by activity, a temperature each.")] = 10,
    shape: Annotated[
        bool | None,
        typer.Option("--shape/--no-shape", help="Learn the predictive's shape; if not given, from 2,000 ratings on."),
    ] = None,
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Multiply the noise by the factors that make a calibration split most likely, and write a run that has them.

    One factor for each part of the users by number of training ratings, of at least 500 calibration ratings each. It
    mends the width of intervals, not predictions. Read-outs of the new run take it; `evaluate`, `diagnose` and `report`
    say so.

    Then the shape that all ratings have in common, such as a lean to the low side: a map from their places in their
    predictive distributions to uniform ones, taken where it predicts ratings better that it was not learned from.
    Intervals are no longer symmetric; the mean stays the model's.

    Report figures on a third part that neither the fit nor this command has seen.

    Example:
        platewise split train.h5ad --test 0.05 -o fit.h5ad calibration.h5ad

        platewise fit fit.h5ad -o RUN

        platewise recalibrate RUN calibration.h5ad -o CALIBRATED

        platewise evaluate CALIBRATED test.h5ad
    """
    from .start import start

    start(threads)
    from ..data.storage import read_h5ad
    from ..data.writing import require_free
    from ..inference.run_directory import CONFIG, read_config, save, training_file
    from ..posterior import evaluate
    from ..posterior import recalibrate as recalibrated
    from .matrix import require_kind

    require_free(output, force=force, mark=CONFIG)
    require_kind(calibration, read_config(run)["meaning"], "a recalibration")
    entries, known = read_h5ad(calibration), load_run(run, device, trust)
    fitted = recalibrated(known, entries, parts=parts, shape=shape)
    before, after = evaluate(known, entries), evaluate(fitted, entries)
    from_disk = bool(read_config(run)["data"]["from_disk"])
    save(fitted, output, force=force, data=training_file(run), from_disk=from_disk)
    _report(fitted, output, before, after, json)


def _report(fitted: Fitted, run: Path, before: Evaluation, after: Evaluation, as_json: bool) -> None:
    from ..posterior.recalibrate import temperatures
    from ..posterior.recalibration_shape import shares_by_place
    from .output import print_json, print_table
    from .program import command

    table = temperatures(fitted)
    if as_json:
        figures = {"calibration_before": before.to_dict(), "calibration_after": after.to_dict()}
        places = shares_by_place(fitted).to_dict("records")
        print_json({"run": str(run), "temperatures": table.to_dict("records"), "shape": places, **figures})
        return
    lines = [(f"{x.least:,.0f} to {x.most:,.0f}", f"{x.rows:,}", f"{x.factor:.3f}") for x in table.itertuples()]
    row = fitted.meaning["row_name"]
    print_table(f"{run}: factor on the noise", ("training ratings", f"{row}s", "factor"), lines)
    _report_shape(fitted)
    pairs = zip(before.coverage.items(), after.coverage.values(), strict=True)
    shares = [(f"{100 * float(p):.0f}% interval", f"{100 * x:.1f}%", f"{100 * y:.1f}%") for (p, x), y in pairs]
    density = ("log density", f"{before.log_predictive_density:.4f}", f"{after.log_predictive_density:.4f}")
    title = f"On the calibration split, {before.n:,} ratings (in-sample: judge it by others)"
    print_table(title, ("", "before", "after"), [*shares, density])
    typer.echo(f"next: {command('evaluate', run, 'TEST.h5ad', *trust_of(run))}")


def _report_shape(fitted: Fitted) -> None:
    from ..posterior.recalibration_shape import shares_by_place
    from .output import print_table

    table = shares_by_place(fitted)
    if not len(table):
        typer.echo("shape: left as it is (not asked for, fewer than 2,000 ratings, or none is clearly better)")
        return
    pairs = zip(table["place"], table["share"], strict=True)
    lines = [(f"{100 * place:g}%", f"{100 * share:.1f}%") for place, share in pairs]
    print_table("Shape: ratings below a quantile of the noise alone", ("quantile", "ratings below"), lines)
