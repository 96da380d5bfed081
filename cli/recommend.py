"""`platewise recommend`: the items that a user would rate highest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .loaded import load_run
from .options import Device, Force, Json, Run, Samples, Seed, Table, Threads, Trust

if TYPE_CHECKING:
    import anndata as ad


def recommend(
    run: Run,
    user: Annotated[list[str], typer.Option("--user", help="A user's id; may be repeated.")],
    k: Annotated[int, typer.Option("-k", help="Items per user.")] = 10,
    data: Annotated[
        Path | None, typer.Option(help="The training .h5ad, to leave out what a user has rated; the run remembers it.")
    ] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Keep items that the user has rated.")] = False,
    by: Annotated[str, typer.Option(help="Rank by mean, or by lower: the interval's lower end, which is cautious.")] = (
        "mean"
    ),
    item: Annotated[list[str] | None, typer.Option("--item", help="Choose among these items only.")] = None,
    exclude: Annotated[list[str] | None, typer.Option("--exclude", help="Leave this item out.")] = None,
    level: Annotated[float, typer.Option(help="Probability that the interval is to hold.")] = 0.9,
    samples: Samples = 500,
    output: Table = None,
    seed: Seed = 0,
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """List the items that a user is predicted to rate highest, without those rated already.

    This ranks by rating, given that the user takes the item; it does not predict what the user will take.

    Examples:
        platewise recommend RUN --user 42 -k 10

        platewise recommend RUN --user 42 --user 7 --by lower --data train.h5ad
    """
    from .start import start

    start(threads)
    from ..data.writing import require_free
    from ..posterior import recommend as recommendations
    from ..posterior.recommend import require_rates
    from .output import show_frame
    from .row_latents import refuse_row_latents
    from .training import as_fitted, require_training, training_data_of

    if output is not None:
        require_free(output, force=force)
    fitted = load_run(run, device, trust)
    refuse_row_latents(fitted, "recommendations", "A VAE's cells are read by embed, denoise and rank-genes.")
    require_rates(fitted)
    seen: ad.AnnData | None = None
    if not include_seen:
        found = training_data_of(fitted) if data is None else as_fitted(fitted, data)
        seen = require_training(found, run, "to leave out what was rated", "--data FILE, or say --include-seen")
    settings = {"exclude_seen": not include_seen, "by": by, "items": item, "exclude": exclude, "n_samples": samples}
    frame = recommendations(fitted, user, k, data=seen, level=level, seed=seed, **settings)  # type: ignore[arg-type]
    hidden = () if any(reason.startswith("unknown") for reason in frame["reason"]) else ("reason",)
    title = f"{run}: recommended by {by}, with {100 * level:g}% interval"
    show_frame(frame, title, json, output, force, hidden)
    _say_who_has_none(user, frame[fitted.meaning["row_name"]])


def _say_who_has_none(asked: list[str], served: Iterable[object]) -> None:
    from ..data.ids import as_name

    names = {as_name(x) for x in served}
    if without := [x for x in dict.fromkeys(asked) if as_name(x) not in names]:
        typer.echo(f"nothing left to recommend to {', '.join(without)}: all items on offer are rated", err=True)
