"""Are wrong counts found? 1,000 stored counts of PBMC 3k times 8, and the average precision of a ranking.

Our ranking is by upper tail probability under a VAE (negative binomial) that was fitted on the corrupted counts. Beside
it, in the same run and with the same tails, is a negative binomial for each gene: mean = library size of the cell times
share of the gene, inverse dispersion by maximum likelihood; once as it is, and once given that a stored count is not 0,
which is how ours compares stored counts.

    PLATEWISE_TEST_DATA=folder python benchmarks/anomalies.py --seeds 0 1 2
"""

import argparse
import os
from pathlib import Path
from statistics import median

import numpy as np
import torch
from anndata import AnnData
from platewise.data import RowBatch, RowLoader, read_h5ad
from platewise.data.loader import MemoryRows
from platewise.guides import AmortizedNormal
from platewise.inference import svi
from platewise.models import VAE
from platewise.models.likelihoods import NegativeBinomialRows
from platewise.posterior import anomalies
from platewise.posterior.tails import given_not_zero, log_tail_probability, log_tails
from tables import show, show_markdown

N_WRONG, FACTOR = 1_000, 8
OURS, PLAIN, GIVEN = "VAE, negative binomial", "gene-wise negative binomial", "the same, given not zero"


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = os.environ.get("PLATEWISE_TEST_DATA", ".")
    parser.add_argument("--data", type=Path, default=Path(folder), help="folder of pbmc3k_top2000.h5ad")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--draws", type=int, default=20, help="of each cell's embedding")
    parser.add_argument("--epochs", type=int, help="of the VAE; its own number if not given")
    return parser.parse_args()


def corrupted(cells: AnnData, seed: int) -> tuple[AnnData, np.ndarray]:
    """The counts with some of the stored ones times `FACTOR`, and which."""
    cells, wrong = cells.copy(), np.zeros(cells.X.nnz, dtype=bool)
    wrong[np.random.default_rng(seed).choice(cells.X.nnz, N_WRONG, replace=False)] = True
    cells.X.data[wrong] *= FACTOR
    return cells, wrong


def average_precision(log_p: np.ndarray, wrong: np.ndarray) -> float:
    """Mean, over the wrong entries, of the share of wrong ones among all ranked as high."""
    hits = wrong[np.argsort(log_p, kind="stable")]
    return float((hits.cumsum() / np.arange(1, len(hits) + 1))[hits].mean())


def by_the_vae(cells: AnnData, seed: int, given: argparse.Namespace) -> np.ndarray:
    """Log tail probability of each stored entry, in the order of the matrix."""
    epochs = {} if given.epochs is None else {"epochs": given.epochs}
    fitted = svi.fit(VAE(), AmortizedNormal(), cells, seed=seed, progress=False, **epochs)
    found = anomalies(fitted, cells, n=cells.X.nnz, draws=given.draws, tail="upper", seed=seed)
    print(f"seed {seed}: {found.attrs}")
    place = cells.obs_names.get_indexer(found["row"]), cells.var_names.get_indexer(found["col"])
    at = np.argsort(place[0].astype(np.int64) * cells.n_vars + place[1])
    return found["log_tail_probability"].to_numpy()[at]


def gene_wise(cells: AnnData) -> NegativeBinomialRows:
    """A negative binomial for each gene, inverse dispersions by maximum likelihood."""
    batch: RowBatch = RowLoader(MemoryRows(cells.X), cells.n_obs, dtype=torch.float64).batch(np.arange(cells.n_obs))
    share = torch.from_numpy(np.asarray(cells.X.sum(0, dtype=np.float64)).ravel()) / float(cells.X.sum())
    log_mean = batch.totals().log()[:, None] + share.log()
    log_theta = torch.zeros(cells.n_vars, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_theta], max_iter=40, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = -NegativeBinomialRows(batch, log_mean, log_theta).log_prob(batch.value).sum() / cells.n_obs
        value.backward()
        return value

    optimizer.step(loss)
    return NegativeBinomialRows(batch, log_mean, log_theta.detach())


def precisions(cells: AnnData, seed: int, given: argparse.Namespace) -> dict[str, float]:
    """Average precision of each ranking."""
    bad, wrong = corrupted(cells, seed)
    likelihood = gene_wise(bad)
    tails, u = log_tails(likelihood, likelihood.batch.value), np.random.default_rng(seed).uniform(1e-12, 1, bad.X.nnz)
    rankings = {
        OURS: by_the_vae(bad, seed, given),
        PLAIN: log_tail_probability(tails, u, "upper")[0],
        GIVEN: log_tail_probability(given_not_zero(tails, bad.X.data.astype(np.float64)), u, "upper")[0],
    }
    return {name: average_precision(log_p, wrong) for name, log_p in rankings.items()}


def main() -> None:
    given = options()
    cells = read_h5ad(given.data / "pbmc3k_top2000.h5ad", unstored="zero")
    cells.X.eliminate_zeros()
    cells.X.sort_indices()
    found = [precisions(cells, seed, given) for seed in given.seeds]
    headings = ["ranking", f"average precision, median of {len(found)}", *(f"seed {seed}" for seed in given.seeds)]
    rows = [
        [name, f"{median(each[name] for each in found):.4f}", *(f"{each[name]:.4f}" for each in found)]
        for name in found[0]
    ]
    show(f"{N_WRONG:,} of {cells.X.nnz:,} stored counts times {FACTOR}", headings, rows)
    show_markdown(headings, rows)


if __name__ == "__main__":
    main()
