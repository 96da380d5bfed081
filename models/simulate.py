"""Cells drawn from the VAE's own program: random decoder weights, types of cells, batches, and sizes that vary.

    t_i ~ Categorical(types)             s_i ~ Categorical(batches)
    z_i ~ Normal_M(c_t, 0.2 I)           c_t ~ Normal_M(0, 0.8 I): together standard normal, as the VAE's prior
    log l_i ~ Normal(m, 0.4^2)           m such that the share `stored` of all entries is not zero
    x_i ~ likelihood(l_i softmax(W z_i + intercept + offset_s), theta)

`z` and the sizes are given to the program, which draws the counts some rows at a time: what grows with the number of
cells are their embeddings and the counts that are stored.

The truth comes with the counts, and gives the expected counts of any cells (`expected_counts`):

| where                                            | what                                       |
|--------------------------------------------------|--------------------------------------------|
| `obs["label"]`, `obs["batch"]`                   | type t_i and batch s_i                     |
| `obs["log_library"]`                             | log l_i                                    |
| `obsm["X_truth"]`                                | z_i, (n_cells, M)                          |
| `varm["weights"]`, `varm["batch_offsets"]`       | W, (n_genes, M), and a column per batch    |
| `var["intercept"]`, `var["inverse_dispersion"]`  | intercept, and theta of negative binomials |
| `var["zero_logit"]`                              | logit of an extra zero, where there are any|
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.meaning import mark
from ..data.row_writer import write_rows
from ..data.seeds import require_seed
from .vae import VAE
from .vae_options import BATCH

BLOCK_ROWS = 1024  # cells drawn at once, dense
PILOT_ROWS = 64  # cells that the median size is chosen by
LARGEST_LOG = 14.0  # of a median size: a million counts
DTYPE = torch.float32  # whatever the default: a seed gives the same cells
OFFSETS = f"decoder.offsets.{BATCH}.weight"
COUNTS = ("poisson", "negative-binomial", "zero-inflated-negative-binomial")


@dataclass(frozen=True)
class Design:
    """What is drawn; see `simulate_cells` for the meaning."""

    n_cells: int
    n_genes: int
    latent: int = 10
    types: int = 8
    batches: int = 2
    likelihood: str = "negative-binomial"
    stored: float = 0.1
    batch_effect: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)
        for name in ("n_cells", "n_genes", "latent", "types", "batches"):
            if (value := getattr(self, name)) < 1:
                raise PlatewiseError(f"Expected {name} of at least 1, got {value}. Simulate more.")
        if self.likelihood not in COUNTS:
            raise PlatewiseError(
                f"Expected a likelihood of counts ({', '.join(COUNTS)}), got {self.likelihood!r}. Choose one."
            )
        if not 0 < self.stored < 1:
            raise PlatewiseError(f"Expected a share of stored entries above 0 and below 1, got {self.stored}. Try 0.1.")
        if not self.batch_effect >= 0:
            raise PlatewiseError(
                f"Expected a batch effect of 0 or more, got {self.batch_effect}. Leave it out for 0.3."
            )


def simulate_cells(
    n_cells: int = 3000,
    n_genes: int = 2000,
    *,
    latent: int = 10,
    types: int = 8,
    batches: int = 2,
    likelihood: str = "negative-binomial",
    stored: float = 0.1,
    batch_effect: float = 0.3,
    seed: int = 0,
    to: Path | str | None = None,
    force: bool = False,
) -> ad.AnnData:
    """Draw cells, and the truth behind them, from a VAE with a linear decoder.

    Args:
        n_cells: Number of cells.
        n_genes: Number of genes.
        latent: Dimensions of an embedding.
        types: Types of cells, each around an embedding of its own.
        batches: Batches, each with offsets of its own.
        likelihood: "poisson", "negative-binomial" or "zero-inflated-negative-binomial".
        stored: Share of the entries that are not zero, on average.
        batch_effect: Standard deviation of a batch's offset of a gene, of the logarithm.
        seed: Seed of all draws, 0 or more.
        to: An .h5ad to write, whole or not at all, block by block: for more cells than fit into memory.
        force: Replace a file that is there.

    Returns:
        The cells, entries not stored being observed zeros, with the truth as the module's docstring says; with `to`,
        without counts: these are in the file, which has everything.

    Raises:
        PlatewiseError: If a number is out of range, so many entries cannot be other than zero, or `to` is taken.
    """
    design = Design(n_cells, n_genes, latent, types, batches, likelihood, stored, batch_effect, seed)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = _random_model(design)
        cells = _cells_without_counts(design, model)
        blocks = _blocks(model, cells)
        if to is None:
            cells.X = sp.vstack(list(blocks), format="csr")
        else:
            write_rows(cells, blocks, to, n_entries=round(stored * n_cells * n_genes), force=force)
    return cells


def expected_counts(cells: ad.AnnData) -> Float[np.ndarray, "n_cells n_genes"]:
    """The expectation of each count given the truth, dense: pass some cells of many, `cells[:100]`."""
    offsets = cells.varm["batch_offsets"][cells.obs["batch"].tolist()].to_numpy().T  # by name: cells may lack a batch
    logits = cells.obsm["X_truth"] @ cells.varm["weights"].T + cells.var["intercept"].to_numpy() + offsets
    share = np.exp(logits - logits.max(1, keepdims=True))
    mean = np.exp(cells.obs["log_library"].to_numpy())[:, None] * share / share.sum(1, keepdims=True)
    if "zero_logit" not in cells.var:
        return np.asarray(mean)
    return np.asarray(mean / (1 + np.exp(cells.var["zero_logit"].to_numpy())))


def _random_model(design: Design) -> VAE:
    """A VAE whose genes differ in abundance, in dispersion, and in how they follow the embedding."""
    categories, m = {BATCH: design.batches}, design.n_genes
    model = VAE(design.latent, design.likelihood, layers=0, dropout=0.0, library="latent", categories=categories)
    model.allocate(RowBatch.blank(design.n_cells, m))
    model.to(DTYPE).eval()
    model.decoder.output.weight.copy_(_normals(m, design.latent) / design.latent**0.5)
    model.decoder.output.bias.copy_(1.5 * _normals(m))
    model.get_parameter(OFFSETS).copy_(design.batch_effect * _normals(design.batches, m))
    if "negative-binomial" in design.likelihood:
        model.log_inverse_dispersion.copy_(0.7 + 0.5 * _normals(m))
    if design.likelihood == "zero-inflated-negative-binomial":
        model.zero_decoder.output.weight.zero_()
        model.zero_decoder.output.bias.copy_(-2 + 0.5 * _normals(m))
    return model


def _cells_without_counts(design: Design, model: VAE) -> ad.AnnData:
    """The truth, in a matrix without entries."""
    n = design.n_cells
    label, batch = torch.randint(design.types, (n,)), torch.randint(design.batches, (n,))
    centres = 0.8**0.5 * _normals(design.types, design.latent)
    z = centres[label] + 0.2**0.5 * _normals(n, design.latent)
    spread = 0.4 * _normals(n)
    log_library = _median_log_library(design, model, z, spread, batch) + spread
    cells = ad.AnnData(sp.csr_matrix((n, design.n_genes), dtype=np.float32))
    cells.obs_names = [f"cell{i + 1}" for i in range(n)]
    cells.var_names = [f"gene{j + 1}" for j in range(design.n_genes)]
    cells.obs["label"] = _named("type", label, design.types)
    cells.obs["batch"] = _named("batch", batch, design.batches)
    cells.obs["log_library"] = log_library.numpy()
    cells.obsm["X_truth"] = z.numpy()
    _write_genes(cells, model)
    return mark(cells, unstored="zero")


def _normals(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=DTYPE)


def _named(of: str, code: Tensor, n: int) -> Any:
    return pd.Categorical.from_codes(code.tolist(), pd.Index([f"{of}{k + 1}" for k in range(n)]))


def _write_genes(cells: ad.AnnData, model: VAE) -> None:
    cells.varm["weights"] = model.decoder.output.weight.numpy().copy()
    offsets, names = model.get_parameter(OFFSETS).numpy().T.copy(), cells.obs["batch"].cat.categories
    cells.varm["batch_offsets"] = pd.DataFrame(offsets, cells.var_names, names.tolist())
    cells.var["intercept"] = model.decoder.output.bias.numpy().copy()
    if "negative-binomial" in model.likelihood_name:
        cells.var["inverse_dispersion"] = model.log_inverse_dispersion.exp().numpy()
    if model.likelihood_name == "zero-inflated-negative-binomial":
        cells.var["zero_logit"] = model.zero_decoder.output.bias.numpy().copy()


def _median_log_library(design: Design, model: VAE, z: Tensor, spread: Tensor, batch: Tensor) -> float:
    """The median log size at which a share `stored` of the entries is not zero, by bisection on some cells."""
    rows = _without_entries(np.arange(min(PILOT_ROWS, design.n_cells)), design.n_genes, batch)
    low, high = 0.0, LARGEST_LOG
    if (most := _share_stored(model, rows, z, high + spread)) < design.stored:
        raise PlatewiseError(
            f"Expected a share of stored entries that can be had, at most {most:.2f} here, got {design.stored}. Ask "
            "for less."
        )
    for _ in range(20):
        middle = (low + high) / 2
        too_few = _share_stored(model, rows, z, middle + spread) < design.stored
        low, high = (middle, high) if too_few else (low, middle)
    return high


def _share_stored(model: VAE, rows: RowBatch, z: Tensor, log_library: Tensor) -> float:
    drawn: Any = model.likelihood(rows, z[rows.rows], log_library[rows.rows])
    entries = drawn.dense().base_dist
    return 1 - float(entries.log_prob(torch.zeros((), dtype=DTYPE)).exp().mean())


def _without_entries(rows: np.ndarray, n_genes: int, batch: Tensor) -> RowBatch:
    """Cells before their counts are drawn."""
    at, none = torch.from_numpy(rows), torch.zeros(0, dtype=torch.long)
    crow = torch.zeros(len(rows) + 1, dtype=torch.long)
    return RowBatch(at, crow, none, torch.zeros(0, dtype=DTYPE), len(batch), n_genes, {BATCH: batch[at]})


def _blocks(model: VAE, cells: ad.AnnData) -> Iterator[sp.csr_matrix]:
    """The counts, some rows at a time, drawn by the model's program."""
    batch = torch.from_numpy(cells.obs["batch"].cat.codes.to_numpy().astype(np.int64))
    given = {"z": cells.obsm["X_truth"], "log_library": cells.obs["log_library"].to_numpy()}
    for start in range(0, cells.n_obs, BLOCK_ROWS):
        rows = _without_entries(np.arange(start, min(start + BLOCK_ROWS, cells.n_obs)), cells.n_vars, batch)
        latents = {name: torch.from_numpy(x)[rows.rows] for name, x in given.items()}
        trace = poutine.trace(poutine.condition(poutine.uncondition(model), data=latents)).get_trace(rows)
        yield sp.csr_matrix(trace.nodes["count"]["value"].numpy())
