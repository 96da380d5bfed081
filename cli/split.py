"""`platewise split`: ratings in two parts, one to fit and one to judge by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Force, Json, Seed

Parts = Annotated[tuple[Path, Path], typer.Option("--output", "-o", help="Where to write the training and test part.")]


def split(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The .h5ad to split.")],
    output: Parts,
    test: Annotated[float, typer.Option(help="Share of the ratings in the test part.")] = 0.1,
    by: Annotated[
        str,
        typer.Option(help="random; user: a share of each user's; last: each user's last k by time; time: the latest."),
    ] = "random",
    k: Annotated[int, typer.Option("-k", help="Ratings per user in the test part, with --by last.")] = 1,
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Split ratings into a training and a test part, both with all users and items.

    Examples:
        platewise split data.h5ad --test 0.1 --seed 0 -o train.h5ad test.h5ad

        platewise split data.h5ad --by last -k 5 -o train.h5ad test.h5ad
    """
    from .start import start

    start()
    from ..data.errors import PlatewiseError
    from ..data.split import split_entries
    from ..data.storage import read_h5ad, write_h5ad
    from ..data.writing import require_free, whole_file
    from .matrix import require_ratings
    from .output import count, print_json

    for path in output:
        require_free(path, force=force)
    if output[0].resolve() == output[1].resolve():
        raise PlatewiseError(f"Expected two files to write, got {output[0]} twice. Give them different names.")
    require_ratings(data, "a split")
    parts = split_entries(read_h5ad(data), test, seed=seed, by=by, k=k)
    with whole_file(output[0], force=force) as first, whole_file(output[1], force=force) as second:
        write_h5ad(parts[0], first)
        write_h5ad(parts[1], second)
    sizes = [int(part.X.nnz) for part in parts]
    if json:
        files = {"train": str(output[0]), "test": str(output[1])}
        print_json({**files, "n_train": sizes[0], "n_test": sizes[1]})
        return
    for path, size, name in zip(output, sizes, ("to fit", "to judge by"), strict=True):
        typer.echo(f"{path}: {count(size, 'rating')} {name}")
