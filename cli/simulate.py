"""`platewise simulate`: ratings or cells drawn from the models themselves, with the truth beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .given import only_given
from .options import Force, Json, Output, Seed
from .simulate_cells import OF_CELLS, draw_cells

if TYPE_CHECKING:
    from ..models import LatentFactor

Truth = Annotated[
    Path | None, typer.Option("--truth", help="Ratings: where to write the truth; DATA.truth.npz if not given.")
]
OF_RATINGS: dict[str, Any] = {
    **{"users": 6040, "items": 3706, "ratings": 1_000_000},
    **{"rank": 8, "mean": 3.5, "noise": "constant", "truth": None},
}


def simulate(
    output: Output,
    users: Annotated[
        int | None, typer.Option(min=2, help="Users, each with a rating at least; 6040 if not given.")
    ] = None,
    items: Annotated[int | None, typer.Option(min=2, help="Number of items; 3706 if not given.")] = None,
    ratings: Annotated[int | None, typer.Option(help="Number of ratings; 1000000 if not given.")] = None,
    rank: Annotated[int | None, typer.Option(help="Ratings: number of factors; 8 if not given.")] = None,
    mean: Annotated[float | None, typer.Option(help="Grand mean of the ratings; 3.5 if not given.")] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="Ratings: whose their noise is: constant (one sigma for all; if not given), or rows, columns or both, "
            "each with a precision of its own."
        ),
    ] = None,
    truth: Truth = None,
    cells: Annotated[int | None, typer.Option(help="Draw so many cells, instead of ratings.")] = None,
    genes: Annotated[int | None, typer.Option(help="Cells: number of genes; 2000 if not given.")] = None,
    types: Annotated[int | None, typer.Option(help="Cells: number of types; 8 if not given.")] = None,
    batches: Annotated[int | None, typer.Option(help="Cells: number of batches; 2 if not given.")] = None,
    latent: Annotated[int | None, typer.Option(help="Cells: dimensions of an embedding; 10 if not given.")] = None,
    likelihood: Annotated[
        str | None,
        typer.Option(help="Cells: poisson, negative-binomial (if not given) or zero-inflated-negative-binomial."),
    ] = None,
    stored: Annotated[
        float | None, typer.Option(help="Cells: share of entries that are not zero; 0.1 if not given.")
    ] = None,
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw ratings from the latent factor model, or cells from the VAE, and write the truth beside them.

    Ratings: activity and popularity are as skewed as in MovieLens 1M, whose size is the default. The truth (mu, user,
    item and their parts A, a, B, b; with --noise the log precisions user_log_precision or item_log_precision or both)
    goes into a NumPy archive: a fit can be compared with it.

    Cells: of some types, in some batches, with a linear decoder. They are written as they are drawn, so that a million
    fit. The truth is in the same file: obs label, batch and log_library, obsm X_truth, and the genes' parameters in var
    and varm.

    Examples:
        platewise simulate -o data.h5ad --users 1000 --items 500 --ratings 50000 --rank 4

        platewise simulate -o cells.h5ad --cells 1000 --genes 300 --types 4
    """
    from .start import start

    start()
    for_ratings: dict[str, Any] = {
        "users": users,
        "items": items,
        "ratings": ratings,
        "rank": rank,
        "mean": mean,
        "noise": noise,
        "truth": truth,
    }
    for_cells: dict[str, Any] = {"genes": genes, "types": types, "batches": batches, "latent": latent}
    for_cells |= {"likelihood": likelihood, "stored": stored}
    if cells is None:
        _refuse(for_cells, "--cells N", "for cells")
        _draw_ratings(output, OF_RATINGS | only_given(for_ratings), seed, force, json)
    else:
        _refuse(for_ratings, "no --cells", "for ratings")
        draw_cells(output, cells, OF_CELLS | only_given(for_cells), seed, force, json)


def _refuse(options: dict[str, Any], expected: str, what: str) -> None:
    from ..data.errors import PlatewiseError

    for name in only_given(options):
        raise PlatewiseError(f"Expected {expected} with --{name}, which is {what}. Leave --{name} out, or say so.")


def _draw_ratings(output: Path, options: dict[str, Any], seed: int, force: bool, json: bool) -> None:
    import numpy as np

    from ..data.simulate import simulate_ratings
    from ..data.storage import write_h5ad
    from ..data.writing import whole_file
    from .output import count, print_json

    users, items, ratings = (options[name] for name in ("users", "items", "ratings"))
    truth = options["truth"] or output.with_suffix(".truth.npz")
    _check_outputs(output, truth, force)
    model = example_model(options["rank"], options["noise"])
    adata, latents = simulate_ratings(model, users, items, ratings, given={"mu": options["mean"]}, seed=seed)
    shapes = {name: x.numpy() for name, x in model.scales().items() if name.endswith("_shape")}
    arrays: dict[str, Any] = latents | {"sigma": model.sigma.detach().numpy()} | shapes
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


def example_model(rank: int, noise: str = "constant") -> LatentFactor:
    """The latent factor model with scales like those that MovieLens gives, whatever the rank."""
    from ..data.errors import PlatewiseError
    from ..models import LatentFactor

    if rank < 1:
        raise PlatewiseError(f"Expected a rank of at least 1, got {rank}. Choose, say, 8.")
    factor = (0.2 / rank) ** 0.25
    user_scale, item_scale = ([factor] * rank + [bias] for bias in (0.4, 0.5))
    scales: dict[str, Any] = {"sigma": 0.8, "user_scale": user_scale, "item_scale": item_scale}
    shapes: dict[str, Any] = {"user_shape": 7.0} if noise in ("rows", "both") else {}
    shapes |= {"item_shape": 20.0} if noise in ("columns", "both") else {}
    return LatentFactor(rank, **scales, noise=noise, **shapes)
