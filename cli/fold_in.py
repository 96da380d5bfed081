"""`platewise fold-in`: users that a fit never saw, from their ratings, without fitting again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .loaded import load_run
from .options import Device, Force, Json, Run, Threads, Trust

if TYPE_CHECKING:
    from ..inference import Fitted


def fold_in(
    run: Run,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The .h5ad of the new users' ratings, or of new cells.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The run directory to make, of these users.")],
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find users' posteriors from their ratings, given the items as they were fitted, and write a run of those users.

    Users may be new, or known ones with new ratings. Items are aligned by name; ratings of items that the fit never saw
    are left out, and counted. Every command that reads a run reads the new one. Cells are folded in likewise, their
    counts normalised as those of the fit were; they must have all its genes.

    Example:
        platewise fold-in RUN new.h5ad -o NEW
    """
    from .start import start

    start(threads)
    from ..data.storage import read_h5ad
    from ..data.writing import require_free
    from ..inference.run_directory import CONFIG, read_config, save
    from ..posterior import fold_in as folded_in
    from .matrix import require_kind
    from .row_latents import refuse_row_latents

    require_free(output, force=force, mark=CONFIG)
    require_kind(data, read_config(run)["meaning"], "a fold-in")
    adata = read_h5ad(data)
    known = load_run(run, device, trust)
    refuse_row_latents(known, "a fold-in", "A VAE needs none: embed, denoise and evaluate take new cells as they are.")
    fitted = folded_in(known, adata)
    save(fitted, output, force=force, data=data)
    _report(fitted, output, int(adata.X.nnz), json)


def _report(fitted: Fitted, run: Path, n_given: int, as_json: bool) -> None:
    from ..data.preparation import is_expression
    from .output import count, print_json
    from .program import command

    used = int(fitted.obs["n_entries"].sum())
    if as_json:
        print_json({"run": str(run), "users": fitted.n_rows, "entries": used, "left_out": n_given - used})
        return
    of, of_cells = fitted.meaning["row_name"], is_expression(fitted.meaning)
    kind = "stored value" if of_cells else "rating"
    typer.echo(f"{run}: {count(fitted.n_rows, of)} with {count(used, kind)}, {fitted.stopped}")
    following = ("predict", "CELL --item GENE") if of_cells else ("recommend", "ID")
    typer.echo(f"next: {command(following[0], run, '--user')} {following[1]}")
