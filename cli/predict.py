"""`platewise predict`: ratings with intervals, for pairs of ids."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .loaded import load_run
from .options import Data, Device, Force, Json, Run, Samples, Seed, Table, Threads, Trust


def predict(
    run: Run,
    user: Annotated[list[str] | None, typer.Option("--user", help="A user's (a cell's) id; may be repeated.")] = None,
    item: Annotated[list[str] | None, typer.Option("--item", help="An item's (a gene's) id; may be repeated.")] = None,
    pairs: Annotated[
        Path | None, typer.Option(help="A CSV with columns user and item, in place of --user and --item.")
    ] = None,
    level: Annotated[float, typer.Option(help="Probability that the interval is to hold.")] = 0.9,
    of: Annotated[str, typer.Option(help="rating: noise included; mean: of the expectation alone.")] = "rating",
    samples: Samples = 500,
    data: Data = None,
    output: Table = None,
    seed: Seed = 0,
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Predict ratings, with intervals: of every user given for every item given, or of pairs in a file.

    Of cells and genes it predicts values as they were fitted, log-normalised. An id that the fit never saw gets the
    prior predictive, and is flagged in known_user or known_item.

    Examples:
        platewise predict RUN --user 42 --item 10 --item 11

        platewise predict RUN --pairs pairs.csv -o predictions.csv
    """
    from .start import start

    start(threads)
    from ..data.preparation import is_expression
    from ..data.writing import require_free
    from ..posterior import predict as predictions
    from .output import show_frame
    from .row_latents import refuse_row_latents
    from .training import as_fitted

    if output is not None:
        require_free(output, force=force)
    wanted = _wanted(user, item, pairs)
    fitted = load_run(run, device, trust)
    refuse_row_latents(fitted, "a prediction of single entries", "Say `platewise denoise RUN DATA -o DENOISED.h5ad`.")
    training = None if data is None else as_fitted(fitted, data)
    frame = predictions(fitted, *wanted, level=level, of=of, n_samples=samples, data=training, seed=seed)
    what = "value" if of == "rating" and is_expression(fitted.meaning) else of
    show_frame(frame, f"{run}: {what} with {100 * level:g}% interval", json, output, force)
    unknown = int((~frame.filter(like="known_").all(axis=1)).sum())
    if unknown and not json:
        typer.echo(
            f"{unknown:,} of {len(frame):,} pairs have an id that the fit never saw: prior predictive.", err=True
        )


def _wanted(users: list[str] | None, items: list[str] | None, pairs: Path | None) -> tuple[list[str], list[str]]:
    from ..data.errors import PlatewiseError

    if pairs is not None and not (users or items):
        return _read_pairs(pairs)
    if pairs is not None or not (users and items):
        raise PlatewiseError("Expected --user and --item, or --pairs, got another mixture. Give one of the two.")
    return [u for u in users for _ in items], [i for _ in users for i in items]


def _read_pairs(path: Path) -> tuple[list[str], list[str]]:
    """Users and items of a CSV, as text: an id such as 007 stays what it is."""
    import pandas as pd

    from ..data.errors import PlatewiseError

    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (FileNotFoundError, IsADirectoryError) as error:
        got = "a folder" if path.is_dir() else "no such file"
        raise PlatewiseError(
            f"Expected a file of pairs, got {got}: {path}. Make a CSV with the columns user and item."
        ) from error
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise PlatewiseError(f"Expected a CSV of pairs, got {error}: {path}. Check the file.") from error
    columns = {name.strip().lower(): name for name in table.columns}
    if not {"user", "item"} <= set(columns) or table.empty:
        got = f"the columns {', '.join(table.columns)}" if len(table) else "none"
        raise PlatewiseError(f"Expected pairs in columns user and item, got {got}: {path}. Name them so.")
    return list(table[columns["user"]]), list(table[columns["item"]])
