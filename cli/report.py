"""`platewise report`: one page on what a fit is and how far to trust it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .diagnose import diagnosed
from .options import Device, Force, Run, Seed, Threads, Trust


def report(
    run: Run,
    test: Annotated[
        Path | None, typer.Argument(metavar="TEST", help="The .h5ad of held-out ratings, or of cells.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path("report.html"),
    data: Annotated[Path | None, typer.Option("--data", help="The training .h5ad; the run remembers it.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows, and columns, that k-hats are taken of, at most.")] = 100,
    draws: Annotated[int, typer.Option(min=100, help="Draws for each k-hat, and leave-one-out.")] = 1000,
    seed: Seed = 0,
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Write one page on a fit: its model, how it ended, whether intervals hold, surprises, and what it may be used for.

    It is one HTML file that needs nothing else, no network and no script, for a browser, light or dark, or to be sent.
    Without TEST, predictions are not judged; without the training data, neither is the guide.

    Example:
        platewise report RUN test.h5ad -o report.html
    """
    from .start import start

    start(threads)
    from ..data.writing import require_free
    from ..posterior import report as write_report

    require_free(output, force=force)
    fitted, training, found = diagnosed(run, test, data, device, trust, rows=rows, draws=draws, seed=seed)
    write_report(fitted, found, output, data=training, name=run.name, force=force, seed=seed)
    for judgement in found.verdict:
        typer.echo(f"{judgement.answer}: {judgement.use} ({judgement.why})")
    typer.echo(f"{output}: open it in a browser")
