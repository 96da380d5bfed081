"""Platewise's own methods in a benchmark: one model, fitted by each algorithm with each guide."""

import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData
from platewise.data import make_ratings, write_h5ad
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted
from platewise.models import LatentFactor
from scipy.sparse import csr_matrix

GUIDES = {"mean-field": MeanFieldNormal, "row-block": RowBlockNormal}
PASSES = {"coordinate_ascent": "sweeps", "natural_gradient": "passes", "svi": "epochs"}  # options that limit them


@dataclass(frozen=True)
class Method:
    """An algorithm of ours with a guide.

    Attributes:
        algorithm: name of its module in `platewise.inference`.
        guide: "mean-field" or "row-block".
        from_disk: whether the training matrix stays in an .h5ad.
        hold_rows: whether the guide has a table of users.
    """

    algorithm: str
    guide: str = "row-block"
    from_disk: bool = False
    hold_rows: bool = True

    def fit(self, data: AnnData | Path, rank: int, seed: int = 0, **options: Any) -> Fitted:
        """Fit the latent factor model; options are the algorithm's, at their defaults if not given."""
        algorithm = import_module(f"platewise.inference.{self.algorithm}")
        guide = GUIDES[self.guide](hold_rows=self.hold_rows)
        return algorithm.fit(LatentFactor(rank=rank), guide, data, seed=seed, **options)


METHODS = {
    "coordinate-ascent": Method("coordinate_ascent"),
    "coordinate-ascent-mean-field": Method("coordinate_ascent", "mean-field"),
    "natural-gradient": Method("natural_gradient", from_disk=True),
    "mean-field": Method("svi", "mean-field"),
    "row-block": Method("svi"),
}


def first_call(method: Method, rank: int) -> float:
    """Fit 2,000 made-up ratings; the seconds are what a process, or a machine whose cache is empty, pays once."""
    rng = np.random.default_rng(0)
    item = np.arange(2_000) % 50
    matrix = csr_matrix((rng.normal(3.5, 1.0, 2_000), item, np.arange(0, 2_001, 20)), shape=(100, 50))
    ratings = make_ratings(matrix, np.arange(100), np.arange(50))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        data = in_place(method, ratings, Path(folder))
        method.fit(data, min(rank, 16), progress=False, **{PASSES[method.algorithm]: 2})
    return time.perf_counter() - began


def in_place(method: Method, ratings: AnnData, folder: Path) -> AnnData | Path:
    """The matrix where the method reads it from: memory, or an .h5ad made in `folder`."""
    if not method.from_disk:
        return ratings
    path = folder / "train.h5ad"
    write_h5ad(ratings, path)
    return path


def passes_of(fitted: Fitted) -> int:
    """Sweeps, passes or epochs of a fit."""
    return int(fitted.history["epoch"].iloc[-1])


def elbo_per_rating(fitted: Fitted) -> float:
    """The bound at the end of a fit, nats a rating: exact after coordinate ascent, over the last epoch else."""
    return fitted.elbo / float(fitted.obs["n_entries"].sum())
