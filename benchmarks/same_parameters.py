"""The same parameters through both libraries: is a -ELBO of ours the same number as one of scvi-tools?

Networks differ (layers normalised here, batches there), so SCVI is trained for a few epochs, and its q(z | x), and the
means and dispersions that it decodes from one draw of z for each cell, are handed to both: to a model and a guide of
ours, scored by our ELBO, and to its `NegativeBinomial` and the divergence that its loss takes. What is left between the
two is the 1e-8 that it adds inside its logarithms and the rounding of single precision; an inverse dispersion outside
1e-4 to 1e4, which ours draws back, would add to it.

Its own `get_elbo` is shown beside: the same bound of the same cells, by another draw of each cell's z, so that it
differs by Monte Carlo error: its spread over repeated calls is shown too.

    python benchmarks/same_parameters.py --data pbmc3k --epochs 5
"""

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from anndata import AnnData
from cell_data import SETS, load_cells, require_sets
from measure import data_folder
from peer_scvi import BATCH_ROWS, model_of, train
from platewise.data import RowBatch, RowLoader, source_of
from platewise.inference.elbo import SampledELBO
from platewise.models import VAE, NegativeBinomialRows
from scvi.distributions import NegativeBinomial
from scvi.model import SCVI
from tables import show, show_markdown
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

AGREE = 1e-4  # relative difference of the two bounds, at the most
CALLS = 10  # of get_elbo
HEADINGS = ["nats a cell", "Platewise", "scvi-tools", "relative difference"]


@dataclass(frozen=True)
class Taken:
    """What SCVI says of a batch: its posterior `q`, and the distribution `px` of counts decoded from one draw of it."""

    q: Any
    px: Any


class Counts(nn.Module):
    """A model of the contract whose decoder has spoken already."""

    def __init__(self, taken: Taken) -> None:
        super().__init__()
        self.taken, self.latent = taken, VAE(latent=taken.q.loc.shape[-1])

    def forward(self, batch: RowBatch) -> None:
        """Sample the embedding, and observe counts of the means taken."""
        px = self.taken.px
        with batch.row_plate("cells"):
            pyro.sample("z", self.latent.prior_dist(batch))
            pyro.sample("count", NegativeBinomialRows(batch, px.mu.log(), px.theta.log()), obs=batch.value)


class Embeddings(nn.Module):
    """Its guide, whose encoder has spoken already."""

    def __init__(self, taken: Taken) -> None:
        super().__init__()
        self.q = taken.q

    def forward(self, batch: RowBatch) -> None:
        """Sample the embedding from the posterior taken."""
        with batch.row_plate("cells"):
            pyro.sample("z", dist.Normal(self.q.loc, self.q.scale).to_event(1))


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=list(SETS), default="pbmc3k")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--final", action="store_true", help="on the test cells, not on a tenth of the others")
    return parser.parse_args()


@torch.no_grad()
def terms(model: SCVI, cells: AnnData) -> np.ndarray:
    """Reconstruction and divergence by ours, then the same two by theirs, means over cells, (2, 2)."""
    model.module.eval()
    loader, place, total = RowLoader(source_of(cells).rows, BATCH_ROWS), 0, torch.zeros(2, 2, dtype=torch.float64)
    for tensors in model._make_data_loader(adata=model._validate_anndata(cells), batch_size=BATCH_ROWS):
        rows = np.arange(place, place + len(tensors["X"]))
        taken = take(model, tensors)
        total += torch.stack([ours(taken, loader.batch(rows)), theirs(taken, tensors["X"])])
        place += len(rows)
    return (total / cells.n_obs).numpy()


def take(model: SCVI, tensors: dict[str, Tensor]) -> Taken:
    """Run SCVI's networks on a batch."""
    inferred = model.module.inference(**model.module._get_inference_input(tensors))
    generated = model.module.generative(**model.module._get_generative_input(tensors, inferred))
    return Taken(inferred["qz"], generated["px"])


def ours(taken: Taken, batch: RowBatch) -> Tensor:
    """Reconstruction and divergence, sums over the batch's cells, (2,)."""
    data, kl = SampledELBO(Counts(taken), Embeddings(taken)).terms(batch)
    return torch.stack([-data, kl]).double() / batch.scale


def theirs(taken: Taken, x: Tensor) -> Tensor:
    """The same as scvi-tools' own loss takes them, (2,)."""
    counts = NegativeBinomial(mu=taken.px.mu, theta=taken.px.theta)
    kl = kl_divergence(taken.q, Normal(torch.zeros_like(taken.q.loc), 1.0))
    return torch.stack([-counts.log_prob(x).sum(), kl.sum()]).double()


def main() -> None:
    """Train, score by both, print, and end with an error if they disagree."""
    given = options()
    require_sets([given.data])
    split = load_cells(given.data, data_folder(), final=given.final)
    model = model_of(split, given.seed)
    train(model, given.epochs)
    figures = np.vstack([(found := terms(model, split.held_out)).T, found.sum(1)])
    apart = np.abs(figures[:, 0] / figures[:, 1] - 1)
    names = ["reconstruction", "divergence", "-ELBO"]
    rows = [[name, *(f"{x:.4f}" for x in two), f"{d:.1e}"] for name, two, d in zip(names, figures, apart, strict=True)]
    own = -np.array([float(model.get_elbo(split.held_out)) for _ in range(CALLS)])
    rows.append([f"its get_elbo, {CALLS} calls", "", f"{own.mean():.4f} (sd of a call {own.std(ddof=1):.4f})", ""])
    show(f"{given.data}, {split.held_out.n_obs} cells held out, SCVI after {given.epochs} epochs", HEADINGS, rows)
    show_markdown(HEADINGS, rows)
    if apart[-1] > AGREE:
        raise SystemExit(f"Expected -ELBOs within {AGREE:.0e} of each other, got {apart[-1]:.1e}.")


if __name__ == "__main__":
    main()
