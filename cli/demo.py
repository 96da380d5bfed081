"""`platewise demo`: the whole chain on simulated ratings, from nothing to a posterior."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Device, Force, Seed, Threads

if TYPE_CHECKING:
    import anndata as ad

    from ..inference import Fitted

MARK = "run/config.json"  # what shows that a folder is a demo's


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to make.")] = Path("platewise-demo"),
    users: Annotated[int, typer.Option(min=2, help="Number of users.")] = 6040,
    items: Annotated[int, typer.Option(min=2, help="Number of items.")] = 3706,
    ratings: Annotated[int, typer.Option(help="Number of ratings.")] = 1_000_000,
    rank: Annotated[int, typer.Option(help="Number of factors, in the truth and in the fit.")] = 8,
    sweeps: Annotated[int, typer.Option(help="Most sweeps over users and items.")] = 100,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Simulate a million ratings, fit, evaluate, recommend, and draw: a minute at most.

    Example:
        platewise demo -o platewise-demo
    """
    from .start import start

    start(threads)
    from ..data.writing import whole_folder

    say = _clock()
    with whole_folder(output, force=force, mark=MARK) as folder:
        train, test = _simulated(folder, (users, items, ratings, rank), seed, say)
        fitted = _fitted(train, rank, sweeps, seed, device)
        say(f"fitted: {fitted.stopped}")
        chosen = _read_out(fitted, (train, test), folder, seed)
        _write(fitted, train, folder, output, chosen, seed)
    say(f"wrote {output}")
    typer.echo(_farewell(output, chosen[0]))


def _clock() -> Callable[[str], None]:
    """Says what is done, and when."""
    began = time.perf_counter()

    def say(what: str) -> None:
        typer.echo(f"[{time.perf_counter() - began:5.1f} s] {what}")

    return say


def _simulated(
    folder: Path, size: tuple[int, int, int, int], seed: int, say: Callable[[str], None]
) -> tuple[ad.AnnData, ad.AnnData]:
    from ..data.simulate import simulate_ratings
    from ..data.split import split_entries
    from ..data.storage import write_h5ad
    from .output import count
    from .simulate import example_model

    users, items, ratings, rank = size
    adata, _ = simulate_ratings(example_model(rank), users, items, ratings, given={"mu": 3.5}, seed=seed)
    say(f"simulated {count(ratings, 'rating')} of {count(items, 'item')} by {count(users, 'user')}")
    parts = split_entries(adata, test=0.1, seed=seed)
    for part, name in zip(parts, ("train", "test"), strict=True):
        write_h5ad(part, folder / f"{name}.h5ad")
    say(f"split: {parts[0].X.nnz:,} to fit, {parts[1].X.nnz:,} to judge by")
    return parts


def _fitted(train: ad.AnnData, rank: int, sweeps: int, seed: int, device: str) -> Fitted:
    from ..guides import RowBlockNormal
    from ..inference import coordinate_ascent
    from ..models import LatentFactor

    settings: dict[str, Any] = {"seed": seed, "device": device, "sweeps": sweeps}
    fitted = coordinate_ascent.fit(LatentFactor(rank), RowBlockNormal(), train, **settings)
    if fitted.stopped.startswith("interrupted"):
        raise KeyboardInterrupt
    return fitted


def _read_out(fitted: Fitted, parts: tuple[ad.AnnData, ad.AnnData], folder: Path, seed: int) -> list[str]:
    """Evaluate, recommend for three users, and draw; the users chosen: little, fairly and very active."""
    from ..posterior import evaluate, predict, recommend
    from .evaluate import show
    from .figures import draw_coverage, draw_elbo, draw_predicted
    from .output import show_frame

    train, test = parts
    scores = evaluate(fitted, test, seed=seed)
    show(scores, "Evaluation", "user", "item")
    by_activity = fitted.obs.sort_values("n_entries", kind="stable").index
    chosen = [by_activity[int(share * (len(by_activity) - 1))] for share in (0.1, 0.5, 0.9)]
    title = "The three items that a little, a fairly and a very active user would rate highest"
    best = recommend(fitted, chosen, 3, data=train, seed=seed).drop(columns="reason")
    show_frame(best, title, False, None, False)
    entries = test.X.tocoo()
    predicted = predict(fitted, test.obs_names[entries.row], test.var_names[entries.col], seed=seed)
    draw_elbo(fitted.history, int(train.X.nnz), folder / "elbo.png")
    draw_coverage(scores, folder / "coverage.png")
    draw_predicted(predicted, entries.data, folder / "predicted.png")
    return chosen


def _write(fitted: Fitted, train: ad.AnnData, folder: Path, output: Path, chosen: list[str], seed: int) -> None:
    from ..inference.run_directory import save
    from ..posterior import save_netcdf, to_arviz

    save(fitted, folder / "run", data=output / "train.h5ad")
    idata = to_arviz(fitted, chosen, n_draws=500, data=train, container="DataTree", seed=seed)
    save_netcdf(idata, folder / "posterior.nc")


def _farewell(output: Path, user: str) -> str:
    from .program import command

    run = output / "run"
    return f"""
In {output}: train.h5ad and test.h5ad, the run directory run, posterior.nc for ArviZ, and the figures elbo.png,
coverage.png and predicted.png. What to try next:

  {command("predict", run, "--user", user, "--item", 1, "--item", 2)}
  {command("recommend", run, "--user", user, "-k", 10)}
  {command("evaluate", run, output / "test.h5ad", "--json")}
  {command("ingest", "movielens-100k", "-o", "data.h5ad")}        (ratings of people; or a CSV file of your own)"""
