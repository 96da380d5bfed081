"""`platewise diagnose`: how good a posterior is, and what it may be used for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .loaded import load_run
from .options import Device, Force, Json, Run, Seed, Threads, Trust

if TYPE_CHECKING:
    import anndata as ad

    from ..inference import Fitted
    from ..posterior.diagnostics import Diagnosis

MARK = "diagnosis.json"  # what shows that a folder is a diagnosis's


def diagnose(
    run: Run,
    test: Annotated[
        Path | None, typer.Argument(metavar="TEST", help="The .h5ad of held-out ratings, or of cells.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="The training .h5ad; the run remembers it.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows, and columns, that k-hats are taken of, at most.")] = 100,
    draws: Annotated[int, typer.Option(min=100, help="Draws for each k-hat, and leave-one-out.")] = 1000,
    n_samples: Annotated[
        int, typer.Option("--samples", min=2, help="Draws where a predictive distribution is sampled.")
    ] = 500,
    loo: Annotated[int, typer.Option(min=0, help="Training entries to leave out one by one; 0: none, quicker.")] = 1000,
    restarts: Annotated[
        int, typer.Option(min=0, help="Further fits from other seeds to compare with; each takes as long as RUN did.")
    ] = 0,
    replicates: Annotated[
        int,
        typer.Option(min=0, help="Simulated data sets, 30 rows by 20 columns, to fit and find the truth of; try 50."),
    ] = 0,
    figures: Annotated[
        Path | None,
        typer.Option(help="A folder to make: coverage, PITs, k-hats, replications as PNG, and diagnosis.json."),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Say what a fit may be used for and what not, and show why.

    Of held-out ratings: do intervals hold what they say, overall and for users of little and much activity, items rare
    and popular, low and high predictions? Is the fit better than simple means? Of the training data: does importance
    sampling find the posterior where the guide says it is (Pareto k-hat)? Do data drawn from the fit look like them, as
    a whole and gene by gene? How well would it predict each entry without it (leave-one-out, on a sample of them)?

    k-hats are given everything else: they show a guide too narrow or of another shape, and hardly how rows depend on
    columns. Errors are binomial, as if ratings were independent.

    Of a VAE, TEST are new cells. Log densities are of whole cells; intervals are of one half of each cell's molecules,
    drawn at random, given the other half.

    Examples:
        platewise diagnose RUN test.h5ad

        platewise diagnose RUN test.h5ad --figures diagnosis

        platewise diagnose RUN test.h5ad --restarts 3 --replicates 50

        platewise diagnose RUN test.h5ad --json
    """
    from .start import start

    start(threads)
    from ..data.writing import require_free
    from .diagnose_tables import show
    from .output import print_json

    if figures is not None:
        require_free(figures, force=force, mark=MARK)
    options: dict[str, Any] = {"rows": rows, "draws": draws, "n_samples": n_samples, "loo": loo, "seed": seed}
    options |= {"restarts": restarts, "replicates": replicates}
    fitted, _, found = diagnosed(run, test, data, device, trust, **options)
    if json:
        print_json(found.to_dict())
    else:
        show(found, str(run), fitted.meaning)
    if figures is not None:
        _write(found, figures, force, quiet=json)


def diagnosed(
    run: Path, test: Path | None, data: Path | None, device: str, trust: bool, **options: Any
) -> tuple[Fitted, ad.AnnData | None, Diagnosis]:
    """Read a run and diagnose it: the fit, its training data (None if they are gone), and what was found."""
    from ..inference.run_directory import read_config
    from ..posterior.diagnostics import diagnose as find
    from .matrix import require_kind
    from .training import training_or_notice

    if test is not None:
        require_kind(test, read_config(run)["meaning"], "a diagnosis")
    fitted = load_run(run, device, trust)
    training = training_or_notice(run, fitted, data, "k-hats, checks and what else needs them are")
    return fitted, training, find(fitted, test=test, data=training, **options)


def _write(found: Diagnosis, folder: Path, force: bool, quiet: bool) -> None:
    """The figures, and all figures in them as JSON: whole or not at all."""
    from ..data.writing import whole_folder
    from .diagnose_figures import draw_diagnosis
    from .output import as_json

    with whole_folder(folder, force=force, mark=MARK) as temporary:
        names = draw_diagnosis(found, temporary)
        (temporary / MARK).write_text(as_json(found.to_dict()), encoding="utf-8")
    if not quiet:
        typer.echo(f"{folder}: {', '.join([*names, MARK])}")
