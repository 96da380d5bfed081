"""`platewise anomalies`: the entries that a fit finds most surprising."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .loaded import load_run
from .options import Device, Force, Json, Run, Seed, Table, Threads, Trust

if TYPE_CHECKING:
    import pandas as pd


def anomalies(
    run: Run,
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="The .h5ad whose entries to score: the fit's own will do.")
    ],
    n: Annotated[int, typer.Option("-n", help="Entries to show, most surprising first.")] = 100,
    tail: Annotated[
        str, typer.Option(help="upper: large values are surprising; lower: small ones; two-sided: both.")
    ] = "two-sided",
    entries: Annotated[
        str, typer.Option(help="stored; or all, where those not stored are zeros, to score the zeros as well.")
    ] = "stored",
    draws: Annotated[int, typer.Option("--draws", help="Draws of each row's embedding, of a VAE.")] = 100,
    output: Table = None,
    seed: Seed = 0,
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Rank entries by how improbable the fit finds them: counts of a cell, ratings of a user.

    The tail probability is that of a value at least as far out, given the fit; p_adjusted allows for the number of
    entries (Benjamini and Hochberg). Stored counts are compared with counts that are not zero. The last line says what
    share of all entries fell below 0.01, 0.001 and 0.0001: where it is far more than that, read the order of the
    entries and not the probabilities.

    Examples:
        platewise anomalies RUN cells.h5ad --tail upper

        platewise anomalies RUN ratings.h5ad -n 1000 -o odd.csv
    """
    from .start import start

    start(threads)
    from ..data.storage import read_h5ad
    from ..data.writing import require_free
    from ..inference.run_directory import read_config
    from ..posterior import anomalies as surprising
    from .matrix import require_kind
    from .output import print_json, write_csv

    if output is not None:
        require_free(output, force=force)
    require_kind(data, read_config(run)["meaning"], "a search for anomalies")
    fitted = load_run(run, device, trust)
    found = surprising(fitted, read_h5ad(data), n=n, draws=draws, tail=tail, entries=entries, seed=seed)
    if output is not None:
        write_csv(found, output, force)
    if json:
        print_json(dict(found.attrs) | {"anomalies": found.to_dict("records")})
    else:
        named = found.rename(columns={"row": fitted.meaning["row_name"], "col": fitted.meaning["col_name"]})
        _show(named, f"{run}: most surprising entries of {data}", output)


TOLERATED = 1.5  # times the share that there should be below a probability: beyond, the small ones mislead


def _show(found: pd.DataFrame, title: str, output: Path | None) -> None:
    from .output import show_frame

    shown = found.drop(columns="log_tail_probability")
    for name in ("tail_probability", "p_adjusted"):
        shown[name] = ["<1e-16" if p < 1e-16 else f"{p:.2e}" for p in shown[name]]
    shown["sign"] = shown["sign"].map({1: "high", -1: "low"})
    # the file is written already, with all figures
    show_frame(shown, title, False, None, False)
    if output is not None:
        typer.echo(f"all {len(found):,} are in {output}")
    shares = {float(p): share for p, share in found.attrs["calibration"].items()}
    said = ", ".join(f"{share:.2g} below {p:g}" for p, share in shares.items())
    verdict = "about as the model expects"
    noise = {p: 3 * (p / found.attrs["scored"]) ** 0.5 for p in shares}
    if excess := [share / p for p, share in shares.items() if share > TOLERATED * p + noise[p]]:
        verdict = f"up to {max(excess):.1f} times what the model expects: trust the order, not the figures"
    typer.echo(f"Calibration: of {found.attrs['scored']:,} entries scored, a share of {said}; {verdict}.")
