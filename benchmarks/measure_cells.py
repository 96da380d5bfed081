"""Measure one method on one set of cells, in a process of its own, which prints one line of JSON."""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from cell_data import CellSplit, few_cells, load_cells
from measure import data_folder
from processes import peak_megabytes

TITLES = {
    "platewise": "Platewise, VAE",
    "scvi": "scvi-tools, SCVI",
    "factors": "Platewise, factor model of log counts",
}
POINTS = 40  # of a curve


@dataclass(frozen=True)
class CellScores:
    """One line of a table.

    Attributes:
        method: Name of the method.
        seconds: Wall-clock seconds of training.
        epochs: Passes over the cells.
        cells_per_second: Cells times epochs, a second.
        loss: -ELBO per cell held out, nats.
        loss_iw: -log p(x) per cell held out, importance-weighted.
        ari: Adjusted Rand index of k-means on the embedding.
        nmi: Normalised mutual information of it.
        neighbours: Accuracy of the nearest neighbours' vote.
        silhouette: By batch; near 0 where batches are mixed.
        peak_mb: Peak resident memory after training, imports included.
        curve: Seconds of training and -ELBO per cell held out, along the fit.
        version: Package and version.
        problem: Why there are no figures, or an empty string.
    """

    method: str
    seconds: float | None = None
    epochs: float | None = None
    cells_per_second: float | None = None
    loss: float | None = None
    loss_iw: float | None = None
    ari: float | None = None
    nmi: float | None = None
    neighbours: float | None = None
    silhouette: float | None = None
    peak_mb: float | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)
    version: str = ""
    problem: str = ""


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=list(TITLES))
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=0, help="of a VAE; 0 for what ours recommends")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--rank", type=int, default=16, help="of the factor model")
    parser.add_argument("--final", action="store_true", help="hold out the test cells")
    parser.add_argument("--curve", action="store_true", help="follow the cells held out along the fit")
    return parser.parse_args()


def trained(seconds: float, epochs: float, n_cells: int) -> dict[str, Any]:
    """The figures of a training: to be taken before anything else adds to the peak."""
    about = {"seconds": seconds, "epochs": epochs, "cells_per_second": epochs * n_cells / seconds}
    return about | {"peak_mb": peak_megabytes()}


def judged(split: CellSplit, embedding: np.ndarray, seed: int) -> dict[str, float]:
    """The figures of an embedding of all cells."""
    from cell_metrics import judge

    labels = split.everything.obs["label"].astype(str).to_numpy()
    return judge(embedding, labels, split.codes(split.everything) if split.batch else None, seed)


def measure_platewise(split: CellSplit, given: argparse.Namespace) -> dict[str, Any]:
    """Fit our VAE and judge it; the curve's seconds are those of the fit, which never stops to look."""
    from ours_cells import covariates, fit_vae, held_out_curve
    from platewise.posterior import embed, score_rows

    fit_vae(few_cells(), 0, 1)  # what a process pays once is off the clock
    began = time.perf_counter()
    fitted = fit_vae(split, given.seed, given.epochs)
    epochs = len(fitted.history)
    about = trained(time.perf_counter() - began, epochs, split.fit.n_obs)
    scores = score_rows(fitted, split.held_out, draws=given.draws, covariates=covariates(split, split.held_out)).mean()
    embedding = embed(fitted, split.everything, covariates=covariates(split, split.everything)).obsm["X_platewise"]
    losses = {"loss": -float(scores["elbo"]), "loss_iw": -float(scores["log_likelihood_iw"])}
    if given.curve:
        looks = held_out_curve(split, given.seed, epochs, max(1, epochs // POINTS))
        along = [(float(fitted.history["seconds"][k - 1]), loss) for k, loss in looks.items()]
        about["curve"] = [*along, (about["seconds"], losses["loss"])]
    return about | losses | judged(split, embedding, given.seed) | {"version": f"platewise {version('platewise')}"}


def measure_scvi(split: CellSplit, given: argparse.Namespace) -> dict[str, Any]:
    """Train SCVI and judge it by the same definitions; looks along the way are off the clock."""
    from peer_scvi import EpochClock, bounds, model_of, train

    def look() -> float:
        return -float(bounds(model, split.held_out, draws=4)[:, 0].mean())

    train(model_of(few_cells(), 0), 1)  # what a process pays once is off the clock
    model = model_of(split, given.seed)
    clock = EpochClock(max(1, given.epochs // POINTS), look if given.curve else None)
    began = time.perf_counter()
    train(model, given.epochs, clock)
    about = trained(time.perf_counter() - began - clock.looked, given.epochs, split.fit.n_obs)
    elbo, weighted = bounds(model, split.held_out, given.draws).mean(0)
    losses = {"loss": -float(elbo), "loss_iw": -float(weighted)}
    if given.curve:
        about["curve"] = [*clock.curve, (about["seconds"], losses["loss"])]
    embedding = model.get_latent_representation(split.everything)
    return about | losses | judged(split, embedding, given.seed) | {"version": f"scvi-tools {version('scvi-tools')}"}


def measure_factors(split: CellSplit, given: argparse.Namespace) -> dict[str, Any]:
    """Fit the factor model to all cells, whose labels it is not told; it is judged by its embedding alone."""
    from ours_cells import fit_factors

    began = time.perf_counter()
    fitted, embedding = fit_factors(split.everything, given.rank, given.seed)
    about = trained(time.perf_counter() - began, len(fitted.history), split.everything.n_obs)
    return about | judged(split, embedding, given.seed) | {"version": f"platewise {version('platewise')}"}


MEASURES: dict[str, Callable[[CellSplit, argparse.Namespace], dict[str, Any]]] = {
    "platewise": measure_platewise,
    "scvi": measure_scvi,
    "factors": measure_factors,
}


def missing(method: str) -> str:
    """What must be installed before a method can be measured, in words; empty if nothing."""
    needed = {"sklearn": "scikit-learn"} | ({"scvi": "scvi-tools"} if method == "scvi" else {})
    absent = [package for module, package in needed.items() if find_spec(module) is None]
    return f"not installed (pip install {' '.join(absent)})" if absent else ""


def main() -> None:
    """Measure the method named on the command line and print its scores as one line of JSON."""
    given = options()
    if problem := missing(given.method):
        print(json.dumps(asdict(CellScores(TITLES[given.method], problem=problem))))
        return
    split = load_cells(given.data, data_folder(), final=given.final)
    try:
        scores = CellScores(TITLES[given.method], **MEASURES[given.method](split, given))
    except Exception as error:
        problem = " ".join(f"failed: {type(error).__name__}: {error}".split())
        scores = CellScores(TITLES[given.method], problem=problem)
    print(json.dumps(asdict(scores)))


if __name__ == "__main__":
    main()
