"""`platewise simulate`: ratings drawn from the model itself, with the truth beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Force, Json, Output, Seed

if TYPE_CHECKING:
    from ..models import LatentFactor

Truth = Annotated[Path | None, typer.Option("--truth", help="Where to write the truth; DATA.truth.npz if not given.")]


def simulate(
    output: Output,
    users: Annotated[int, typer.Option(min=2, help="Number of users; each has a rating at least.")] = 6040,
    items: Annotated[int, typer.Option(min=2, help="Number of items.")] = 3706,
    ratings: Annotated[int, typer.Option(help="Number of ratings.")] = 1_000_000,
    rank: Annotated[int, typer.Option(help="Number of factors.")] = 8,
    mean: Annotated[float, typer.Option(help="Grand mean of the ratings.")] = 3.5,
    truth: Truth = None,
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw ratings from the latent factor model, and write the truth beside them.

    Activity and popularity are as skewed as in MovieLens 1M, whose size is the default. The truth (mu, user, item and
    their parts A, a, B, b) goes into a NumPy archive: a fit can be compared with it.

    Example:
        platewise simulate -o data.h5ad --users 1000 --items 500 --ratings 50000 --rank 4
    """
    from .start import start

    start()
    import numpy as np

    from ..data.simulate import simulate_ratings
    from ..data.storage import write_h5ad
    from ..data.writing import whole_file
    from .output import count, print_json

    truth = truth or output.with_suffix(".truth.npz")
    _check_outputs(output, truth, force)
    model = example_model(rank)
    adata, latents = simulate_ratings(model, users, items, ratings, given={"mu": mean}, seed=seed)
    arrays: dict[str, Any] = latents | {"sigma": model.sigma.detach().numpy()}
    with whole_file(output, force=force) as ratings_file, whole_file(truth, force=force) as truth_file:
        write_h5ad(adata, ratings_file)
        with truth_file.open("wb") as file:
            np.savez(file, **arrays)
    if json:
        print_json({"data": str(output), "truth": str(truth), "users": users, "items": items, "ratings": ratings})
        return
    typer.echo(f"{output}: {count(ratings, 'rating')} of {count(items, 'item')} by {count(users, 'user')}")
    typer.echo(f"{truth}: the truth behind them")


def _check_outputs(output: Path, truth: Path, force: bool) -> None:
    from ..data.errors import PlatewiseError
    from ..data.writing import require_free

    for path in (output, truth):
        require_free(path, force=force)
    if output.resolve() == truth.resolve():
        raise PlatewiseError(f"Expected two files to write, got {output} twice. Give --truth another name.")


def example_model(rank: int) -> LatentFactor:
    """The latent factor model with scales like those that MovieLens 1M gives, whatever the rank."""
    from ..data.errors import PlatewiseError
    from ..models import LatentFactor

    if rank < 1:
        raise PlatewiseError(f"Expected a rank of at least 1, got {rank}. Choose, say, 8.")
    factor = (0.2 / rank) ** 0.25
    return LatentFactor(rank, sigma=0.8, user_scale=[factor] * rank + [0.4], item_scale=[factor] * rank + [0.5])
