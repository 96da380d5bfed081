"""Measure one method on one split, in a process of its own.

`in_subprocess` starts a fresh interpreter; run as a script, this file is that interpreter and prints one line of JSON.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from processes import peak_megabytes, run_fresh

if TYPE_CHECKING:
    import numpy as np

OURS = {
    "coordinate-ascent": "Platewise coordinate ascent, row-block",
    "coordinate-ascent-mean-field": "Platewise coordinate ascent, mean-field",
    "natural-gradient": "Platewise natural gradient, row-block, from disk",
    "mean-field": "Platewise SVI, mean-field",
    "row-block": "Platewise SVI, row-block",
}
PEERS = {
    "cmfrec": "cmfrec, ALS-Cholesky",
    "myfm": "myFM, variational",
    "myfm-gibbs": "myFM, Gibbs",
    "surprise": "Surprise, SVD",
    "lenskit": "LensKit, biased ALS",
    "implicit": "implicit, ALS",
    "pyro": "plain Pyro, AutoNormal",
}
TITLES = OURS | PEERS


@dataclass(frozen=True)
class Scores:
    """One line of a table: predictions judged on the test entries, and what they took.

    Attributes:
        method: name of the method.
        seconds: wall-clock seconds of training.
        passes: passes over the training entries: sweeps, iterations or epochs.
        ratings_per_second: training entries times passes, a second.
        rmse: root mean squared error.
        coverage: share of test entries inside the central 90 % interval.
        log_density: mean log predictive density, nats.
        crps: mean continuous ranked probability score.
        elbo: evidence lower bound at the end, nats a training entry; ours only.
        deciles: coverage by decile of the user's number of training entries.
        peak_mb: peak resident memory of the whole process, imports included, in MB.
        version: package and version.
        options: settings used.
        problem: why there are no figures, or an empty string.
    """

    method: str
    seconds: float | None = None
    passes: float | None = None
    ratings_per_second: float | None = None
    rmse: float | None = None
    coverage: float | None = None
    log_density: float | None = None
    crps: float | None = None
    elbo: float | None = None
    deciles: list[float] = field(default_factory=list)
    peak_mb: float | None = None
    version: str = ""
    options: str = ""
    problem: str = ""


def data_folder() -> Path:
    """Folder of the published data sets, named by PLATEWISE_TEST_DATA; the current one if it is not set."""
    return Path(os.environ.get("PLATEWISE_TEST_DATA", "."))


def require_files(*paths: Path) -> None:
    """End with one clear line unless every file is there."""
    for path in paths:
        if not path.is_file():
            sys.exit(
                f"Expected ratings in {path}, got no such file. "
                "Name the files, or set PLATEWISE_TEST_DATA to the folder that holds ml-1m/ and ml-100k/."
            )


def in_subprocess(method: str, train: Path, test: Path, rank: int, seed: int) -> Scores:
    """Measure `method` (a name, or name:passes) in a fresh process; one that dies comes back as a `problem`."""
    name, _, passes = method.partition(":")
    return Scores(**{"method": TITLES[name]} | run_fresh(__file__, name, train, test, rank, seed, passes or 0))


def gaussian_scores(mean: "np.ndarray", sd: "np.ndarray", y: "np.ndarray") -> dict[str, float]:
    """Coverage, mean log density and CRPS of independent normals (Gneiting and Raftery 2007, eq. 21)."""
    import numpy as np
    from scipy.stats import norm

    z = (y - mean) / sd
    crps = sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    return {
        "coverage": float(np.mean(np.abs(z) <= norm.ppf(0.95))),
        "log_density": float(np.mean(norm.logpdf(z) - np.log(sd))),
        "crps": float(crps.mean()),
    }


def measure_peer(method: str, train: Path, test: Path, rank: int, seed: int, passes: int) -> Scores:
    """Run one peer on two csv files whose first columns are user, item, rating."""
    import numpy as np
    import pandas as pd
    from peers import PEERS

    peer = PEERS[method]
    if find_spec(peer.module) is None:
        return Scores(TITLES[method], problem=f"not installed (pip install {peer.package})")
    tables = [pd.read_csv(path).iloc[:, :3].set_axis(["user", "item", "rating"], axis=1) for path in (train, test)]
    result = peer.fit_and_predict(*tables, rank, seed, passes or peer.passes)
    y = tables[1]["rating"].to_numpy(np.float64)
    return Scores(
        TITLES[method],
        seconds=result.seconds,
        passes=float(result.passes),
        ratings_per_second=result.passes * len(tables[0]) / result.seconds,
        rmse=None if result.mean is None else float(np.sqrt(np.mean((result.mean - y) ** 2))),
        version=peer.version(),
        options=result.options,
        **({} if result.sd is None else gaussian_scores(result.mean, result.sd, y)),
    )


def measure_ours(method: str, train: Path, test: Path, rank: int, seed: int, passes: int) -> Scores:
    """Fit the latent factor model by one of our algorithms at default settings, and evaluate it.

    It ends after so many `passes` (sweeps, epochs), if that is not 0.

    The clock is around the whole call to `fit`; before it, outside the clock, one tiny fit is made (its time is told
    among the options) and an .h5ad to stream from is written.
    """
    from ours import METHODS, PASSES, elbo_per_rating, first_call, in_place, passes_of
    from platewise.data import read_ratings
    from platewise.posterior import evaluate

    limit = {PASSES[METHODS[method].algorithm]: passes} if passes else {}
    ratings = read_ratings(train)
    first = first_call(METHODS[method], rank)
    with tempfile.TemporaryDirectory() as folder:
        data = in_place(METHODS[method], ratings, Path(folder))
        began = time.perf_counter()
        fitted = METHODS[method].fit(data, rank, seed, **limit)
        seconds = time.perf_counter() - began
        judged = evaluate(fitted, read_ratings(test))
    made = passes_of(fitted)
    return Scores(
        TITLES[method],
        seconds=seconds,
        passes=float(made),
        ratings_per_second=made * ratings.X.nnz / seconds,
        rmse=float(judged.rmse),
        coverage=float(judged.coverage["0.9"]),
        log_density=float(judged.log_predictive_density),
        crps=float(judged.crps),
        elbo=elbo_per_rating(fitted),
        deciles=[float(share) for share in judged.coverage_by_row_decile["0.9"]],
        version=f"platewise {version('platewise')}",
        options=f"rank {rank}, {limit or 'options at default'}, first call in a process {first:.1f} s",
    )


def main() -> None:
    """Measure the method named on the command line and print its scores as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method")
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("rank", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("passes", type=int)
    given = parser.parse_args()
    run = measure_ours if given.method in OURS else measure_peer
    try:
        scores = run(given.method, given.train, given.test, given.rank, given.seed, given.passes)
    except Exception as error:
        problem = " ".join(f"failed: {type(error).__name__}: {error}".split())
        scores = Scores(TITLES[given.method], problem=problem)
    print(json.dumps(asdict(scores) | {"peak_mb": peak_megabytes()}))


if __name__ == "__main__":
    main()
