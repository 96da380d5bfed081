"""The Bayesian latent factor model of counts: log rates that are a product of embeddings, and zeros that count.

Story, for cells i with all their genes j (entries not stored are observed zeros) and l_i the total count of a cell:

    mu   ~ Normal(0, mu_scale^2)                              log share of an average gene
    a_i  ~ Normal(0, kappa_a^2)    A_i ~ Normal_r(0, diag kappa_A^2)
    b_j  ~ Normal(0, kappa_b^2)    B_j ~ Normal_r(0, diag kappa_B^2)
    eta_ij = log l_i + mu + a_i + b_j + A_i . B_j
    x_ij ~ Poisson(exp(eta_ij))                               poisson
    x_ij ~ NegativeBinomial(mean exp(eta_ij), inverse dispersion theta_j)    negative-binomial

Sites:

| symbol     | site     | shape            | meaning                                            |
|------------|----------|------------------|----------------------------------------------------|
| mu         | `mu`     | ()               | log share of the counts, of an average gene        |
| (A_i, a_i) | `user`   | (n_cells, r + 1) | embedding of a cell, and what its total leaves open|
| (B_j, b_j) | `item`   | (n_genes, r + 1) | embedding of a gene, and its log abundance         |
| A, a, B, b | the same | (.., r) and (..,)| deterministic parts of `user` and `item`           |
| x_i        | `count`  | (n_cells,)       | a cell's row, one event of all genes               |

The prior scales kappa are learned, one per factor (automatic relevance determination), and so is theta; the sites are
those of `LatentFactor`, and so are the guides and the read-outs of factors. There is no closed form: the likelihood is
sampled, and exact updates are not for this model.

References:
    Gopalan, Hofman and Blei (2015), Scalable recommendation with hierarchical Poisson factorization.
    Risso, Perraudeau, Gribkova, Dudoit and Vert (2018), A general and flexible method for signal extraction from
        single-cell RNA-seq data (negative binomials with a log link).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.meaning import Unstored
from .count_rows import NegativeBinomialRows, PoissonRows
from .latent_factor import Latents
from .vae_options import refuse_unfit_values
from .vae_start import log_inverse_dispersions, log_shares

COUNTS = ("poisson", "negative-binomial")
MU_SCALE = 100.0
BIAS_UNIT = 0.3  # in which the genes' log abundances are learned: they start near the truth
START_SCALES = {"factor": 0.4, "user": 0.1, "item": 1.5}  # of factors on either side, of a_i and of b_j


class CountFactor(nn.Module):
    """The latent factor model of counts as a Pyro program; see the module's docstring for the story and the sites.

    Args:
        rank: Number of factors r.
        likelihood: "poisson" or "negative-binomial".

    Attributes:
        factor_sites: Names of the grand mean and of the blocks of rows and columns, whose last components are biases.
        recommended: Options of stochastic variational inference that suit it.

    Raises:
        PlatewiseError: If the rank is below 1, or the likelihood is neither of the two.
    """

    unstored: ClassVar[Unstored] = "zero"
    factor_sites: ClassVar[tuple[str, str, str]] = ("mu", "user", "item")
    recommended: ClassVar[Mapping[str, Any]] = {"epochs": 60, "batch_rows": 128, "learning_rate": 0.2}

    def __init__(self, rank: int = 16, likelihood: str = "negative-binomial") -> None:
        super().__init__()
        if rank < 1:
            raise PlatewiseError(f"Expected a rank of at least 1, got {rank}. Choose, say, 16.")
        if likelihood not in COUNTS:
            raise PlatewiseError(f"Expected a likelihood among {', '.join(COUNTS)}, got {likelihood!r}. Choose one.")
        self.rank, self.likelihood_name = rank, likelihood
        self.config: dict[str, Any] = {"rank": rank, "likelihood": likelihood}

    def allocate(self, batch: RowBatch) -> None:
        """Make the parameters, for as many genes as a batch has columns."""
        scales = {side: [START_SCALES["factor"]] * self.rank + [START_SCALES[side]] for side in ("user", "item")}
        self.log_user_scale = nn.Parameter(torch.tensor(scales["user"]).log())
        self.log_item_scale = nn.Parameter(torch.tensor(scales["item"]).log())
        if self.likelihood_name == "negative-binomial":
            self.log_inverse_dispersion = nn.Parameter(torch.zeros(batch.n_cols))

    def forward(self, batch: RowBatch) -> None:
        """Run the generative program on a batch."""
        latents = self.prior(batch)
        with latents.users:
            pyro.sample("count", self.likelihood(batch, latents), obs=batch.value)

    def prior(self, batch: RowBatch) -> Latents:
        """The latent part of the program."""
        mu = pyro.sample("mu", dist.Normal(self.log_user_scale.new_zeros(()), MU_SCALE))
        users = batch.row_plate("users")
        with users:
            user = pyro.sample("user", block_dist(self.log_user_scale))
            pyro.deterministic("A", user[..., :-1], event_dim=1)
            pyro.deterministic("a", user[..., -1])
        with batch.col_plate("items"):
            item = pyro.sample("item", block_dist(self.log_item_scale))
            pyro.deterministic("B", item[..., :-1], event_dim=1)
            pyro.deterministic("b", item[..., -1])
        return Latents(mu, user, item, users)

    def likelihood(self, batch: RowBatch, latents: Latents) -> Distribution:
        """Distribution of the batch's rows given the latents, (..., b) rows of n_cols."""
        log_mean = self.log_mean(batch, latents)
        if self.likelihood_name == "poisson":
            return PoissonRows(batch, log_mean)
        return NegativeBinomialRows(batch, log_mean, self.log_inverse_dispersion)

    def log_mean(self, batch: RowBatch, latents: Latents) -> Float[Tensor, "*s b n_cols"]:
        """Logarithm of the expected counts of the batch's rows."""
        user, item = latents.user, latents.item
        of_rows = latents.mu + user[..., -1] + batch.log_totals()
        biases = of_rows[..., None] + item[..., None, :, -1]
        log_mean: Tensor = biases + user[..., :-1] @ item[..., :-1].mT
        return log_mean

    @torch.no_grad()
    def initialise(self, batch: RowBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Set dispersions by moments from some rows; start the genes at their log shares.

        Returns:
            Where to start `mu` and `item`, as location and scale.

        Raises:
            PlatewiseError: If the rank is above the smaller side of the matrix, or the rows hold other than counts.
        """
        refuse_unfit_values(self.likelihood_name, batch)
        if self.rank > (most := min(batch.n_rows, batch.n_cols)):
            raise PlatewiseError(
                f"Expected a rank of at most {most}, the smaller side of the matrix, got {self.rank}. Lower the rank."
            )
        if self.likelihood_name == "negative-binomial":
            one_level = torch.zeros_like(batch.rows)
            self.log_inverse_dispersion.copy_(log_inverse_dispersions(batch, one_level, 1)[0])
        share = log_shares(batch)
        mu, spread = share.mean(), share.std(correction=0).clamp_min(0.1)
        self.log_item_scale[-1] = spread.log()
        unit = self.log_item_scale.exp().expand(batch.n_cols, -1).clone()
        unit[:, -1] = BIAS_UNIT
        loc = torch.zeros_like(unit)
        loc[:, -1] = share - mu
        return {"mu": (mu, torch.full_like(mu, BIAS_UNIT)), "item": (loc, unit)}


def block_dist(log_scale: Float[Tensor, " d"]) -> Distribution:
    """Prior of one row or column: independent normals of mean zero."""
    return dist.Normal(torch.zeros_like(log_scale), log_scale.exp()).to_event(1)
