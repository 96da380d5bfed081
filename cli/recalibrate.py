"""`platewise recalibrate`: the noise of a fit as wide as entries that it was not trained on say it is."""

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
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Multiply the noise by the factors that make a calibration split most likely, and write a run that has them.

    One factor for each part of the users by number of training ratings, of at least 500 calibration ratings each. It
    mends the width of intervals, not predictions. What a later `evaluate`, `predict` or `diagnose` prints says so.
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
    fitted = recalibrated(known, entries, parts=parts)
    before, after = evaluate(known, entries), evaluate(fitted, entries)
    from_disk = bool(read_config(run)["data"]["from_disk"])
    save(fitted, output, force=force, data=training_file(run), from_disk=from_disk)
    _report(fitted, output, before, after, json)


def _report(fitted: Fitted, run: Path, before: Evaluation, after: Evaluation, as_json: bool) -> None:
    from ..posterior.recalibrate import temperatures
    from .output import print_json, print_table
    from .program import command

    table = temperatures(fitted)
    if as_json:
        figures = {"calibration_before": before.to_dict(), "calibration_after": after.to_dict()}
        print_json({"run": str(run), "temperatures": table.to_dict("records"), **figures})
        return
    lines = [(f"{x.least:,.0f} to {x.most:,.0f}", f"{x.rows:,}", f"{x.factor:.3f}") for x in table.itertuples()]
    row = fitted.meaning["row_name"]
    print_table(f"{run}: factor on the noise", ("training ratings", f"{row}s", "factor"), lines)
    pairs = zip(before.coverage.items(), after.coverage.values(), strict=True)
    shares = [(f"{100 * float(p):.0f}% interval", f"{100 * x:.1f}%", f"{100 * y:.1f}%") for (p, x), y in pairs]
    density = ("log density", f"{before.log_predictive_density:.4f}", f"{after.log_predictive_density:.4f}")
    title = f"On the {before.n:,} ratings it was found on (in-sample: judge it by others)"
    print_table(title, ("", "before", "after"), [*shares, density])
    typer.echo(f"next: {command('evaluate', run, 'TEST.h5ad', *trust_of(run))}")
