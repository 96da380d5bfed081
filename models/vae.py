"""The variational auto-encoder of rows of counts: an embedding of each cell, decoded to a distribution over its genes.

Story, for cells i with all their genes j (entries not stored are observed zeros), l_i the total count of a cell and
s_i its covariates:

    z_i  ~ Normal_M(0, I)
    f_i  = decoder(z_i, s_i)
    x_ij ~ NegativeBinomial(mean l_i softmax(f_i)_j, inverse dispersion theta_j)        negative-binomial
    x_ij ~ Poisson(l_i softmax(f_i)_j)                                                  poisson
    x_i  ~ Multinomial(l_i, softmax(f_i))                                               multinomial
    x_ij ~ Bernoulli(logit f_ij)                                                        bernoulli
    x_ij ~ Normal(f_ij, sigma_j^2)                                                      gaussian

and zero-inflated-negative-binomial: the first with probability 1 - pi_ij, else 0; logit pi_i = zero decoder(z_i, s_i).
With a latent library, log l_i ~ Normal(m_b, s_b^2): mean and standard deviation of the log totals in the cell's batch.

Sites:

| symbol  | site          | shape        | meaning                               |
|---------|---------------|--------------|---------------------------------------|
| z_i     | `z`           | (n_cells, M) | embedding of a cell                   |
| log l_i | `log_library` | (n_cells,)   | log size of a cell, where it is latent|
| x_i     | `count`       | (n_cells,)   | a cell's row, one event of all genes  |

References:
    Kingma and Welling (2014), Auto-encoding variational Bayes.
    Lopez, Regier, Cole, Jordan and Yosef (2018), Deep generative modeling for single-cell transcriptomics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from ..data.batches import RowBatch
from ..data.meaning import Unstored
from .count_rows import NegativeBinomialShares
from .decoder import Decoder
from .likelihoods import LIKELIHOODS
from .vae_options import (
    BATCH,
    refuse_unfit_covariates,
    refuse_unfit_options,
    refuse_unfit_sizes,
    refuse_unfit_values,
)
from .vae_start import log_inverse_dispersions, log_shares, log_total_moments, logits, means_and_sds


class VAE(nn.Module):
    """The VAE as a Pyro program; see the module's docstring for the story and the sites.

    Args:
        latent: Dimensions M of an embedding.
        likelihood: One of `LIKELIHOODS`.
        hidden: Units in a hidden layer of the decoder.
        layers: Hidden layers of the decoder; 0 for a linear one, whose weights are embeddings of the genes.
        dropout: Share of hidden units left out in training.
        library: Whether a cell's size l_i is its "observed" total or "latent"; of Poisson and negative binomials.
        dispersion: Whether the inverse dispersions of negative binomials are one per "gene", or one per gene and level
            of the category "batch": "gene-batch".
        sigma: Of `gaussian`: standard deviation of an entry given its mean, if it is given; if not, learned, one
            per gene (None) or one for all ("shared").
        categories: Levels of each categorical covariate (codes from 0) that the decoder reads: `{"batch": 2}`.
        continuous: Width of each continuous covariate that the decoder reads.

    Attributes:
        recommended: Options of stochastic variational inference that suit its networks.

    Raises:
        PlatewiseError: If a number is out of range, a name is not known, or options do not go with each other.
    """

    unstored: ClassVar[Unstored] = "zero"
    recommended: ClassVar[Mapping[str, Any]] = {
        "epochs": 100,
        "min_steps": 2500,
        "max_steps": 100_000,
        "batch_rows": 64,
        "learning_rate": 1.2e-2,
        "betas": (0.9, 0.999),
        "warmup": 0.3,
        "final": 1e-4,
        "weight_decay": 16.0,
        "kl_warmup": 0.2,
    }

    def __init__(
        self,
        latent: int = 10,
        likelihood: str = "negative-binomial",
        *,
        hidden: int = 128,
        layers: int = 1,
        dropout: float = 0.4,
        library: str = "observed",
        dispersion: str = "gene",
        sigma: float | str | None = None,
        categories: Mapping[str, int] | None = None,
        continuous: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        refuse_unfit_sizes(latent, hidden, layers, dropout)
        refuse_unfit_covariates(categories or {}, continuous or {})
        refuse_unfit_options(likelihood, library, dispersion, sigma, BATCH in (categories or {}))
        self.latent, self.likelihood_name = latent, likelihood
        self.library, self.dispersion, self.sigma = library, dispersion, sigma
        self.network: dict[str, Any] = {"hidden": hidden, "layers": layers, "dropout": dropout}
        self.covariates: dict[str, Any] = {"categories": dict(categories or {}), "continuous": dict(continuous or {})}
        self.n_batches = self.covariates["categories"].get(BATCH, 1)
        options = {"library": library, "dispersion": dispersion, "sigma": sigma}
        self.config = {"latent": latent, "likelihood": likelihood, **self.network, **options, **self.covariates}

    def allocate(self, batch: RowBatch) -> None:
        """Make the parameters, for as many genes as a batch has columns."""
        self.decoder = self._decoder(batch.n_cols)
        if self.likelihood_name == "zero-inflated-negative-binomial":
            self.zero_decoder = self._decoder(batch.n_cols)
        if "negative-binomial" in self.likelihood_name:  # a vector always: weight decay is for matrices
            n_levels = self.n_batches if self.dispersion == "gene-batch" else 1
            self.log_inverse_dispersion = nn.Parameter(torch.zeros(n_levels * batch.n_cols))
        if self.likelihood_name == "gaussian":
            self.log_sigma = _log_sigma(self.sigma, batch.n_cols)
        if self.library == "latent":
            self.library_loc = nn.Buffer(torch.zeros(self.n_batches))
            self.library_scale = nn.Buffer(torch.ones(self.n_batches))

    def _decoder(self, n_cols: int) -> Decoder:
        return Decoder(self.latent, n_cols, **self.network, **self.covariates)

    def forward(self, batch: RowBatch) -> None:
        """Run the generative program on a batch."""
        with batch.row_plate("cells"):
            z = pyro.sample("z", self.prior_dist(batch))
            latent = self.library == "latent"
            log_library = pyro.sample("log_library", self.library_dist(batch)) if latent else None
            pyro.sample("count", self.likelihood(batch, z, log_library), obs=batch.value)

    def prior_dist(self, batch: RowBatch) -> Distribution:
        """Prior of an embedding: independent standard normals."""
        zero = batch.value.new_zeros(self.latent)
        return dist.Normal(zero, torch.ones_like(zero)).to_event(1)

    def library_dist(self, batch: RowBatch) -> Distribution:
        """Prior of the cells' log sizes, where they are latent: that of their batches."""
        code = self._batch_code(batch)
        return dist.Normal(self.library_loc[code], self.library_scale[code])

    def likelihood(
        self, batch: RowBatch, z: Float[Tensor, "*s b latent"], log_library: Float[Tensor, "*s b"] | None = None
    ) -> Distribution:
        """Distribution of the batch's rows given their embeddings, (..., b) rows of n_cols.

        Args:
            batch: The rows.
            z: Their embeddings.
            log_library: Logarithms of their sizes; those of their totals if None.
        """
        f = self.decoder(batch, z)
        kind: Callable[..., Distribution] = LIKELIHOODS[self.likelihood_name]
        if self.likelihood_name in ("bernoulli", "multinomial"):
            return kind(batch, f)
        if self.likelihood_name == "gaussian":
            return kind(batch, f, self.log_sigma.exp())
        if log_library is None:
            log_library = batch.log_totals()
        if self.likelihood_name == "negative-binomial":
            return NegativeBinomialShares(batch, f, log_library, self.log_theta(batch))
        log_mean = torch.log_softmax(f, -1) + log_library[..., None]
        if self.likelihood_name == "poisson":
            return kind(batch, log_mean)
        return kind(batch, log_mean, self.log_theta(batch), self.zero_decoder(batch, z))

    def log_theta(self, batch: RowBatch) -> Float[Tensor, " n_cols"] | Float[Tensor, "b n_cols"]:
        """Log inverse dispersions: one per gene, or those of each row's batch."""
        if self.dispersion == "gene":
            return self.log_inverse_dispersion
        return F.embedding(self._batch_code(batch), self.log_inverse_dispersion.view(self.n_batches, -1))

    def _batch_code(self, batch: RowBatch) -> Int[Tensor, " b"]:
        """The batch of each row, where it is among the categories; 0 otherwise."""
        if BATCH in self.covariates["categories"]:
            return self.decoder.code(batch, BATCH)
        return torch.zeros_like(batch.rows)

    @torch.no_grad()
    def initialise(self, batch: RowBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Set intercepts, dispersions and moments of log totals from some rows; z starts at its prior.

        Raises:
            PlatewiseError: If the rows hold values that the likelihood is not of.
        """
        refuse_unfit_values(self.likelihood_name, batch)
        code = self._batch_code(batch)
        if self.library == "latent":
            loc, scale = log_total_moments(batch, code, self.n_batches)
            self.library_loc.copy_(loc)
            self.library_scale.copy_(scale)
        if self.likelihood_name == "gaussian":
            mean, sd = means_and_sds(batch)
            self.decoder.output.bias.copy_(mean)
            if isinstance(self.log_sigma, nn.Parameter):
                self.log_sigma.copy_(sd.log() if self.log_sigma.ndim else sd.square().mean().sqrt().log())
        elif self.likelihood_name == "bernoulli":
            self.decoder.output.bias.copy_(logits(batch))
        else:
            self.decoder.output.bias.copy_(log_shares(batch))
        if "negative-binomial" in self.likelihood_name:
            code, n_levels = (code, self.n_batches) if self.dispersion == "gene-batch" else (torch.zeros_like(code), 1)
            self.log_inverse_dispersion.copy_(log_inverse_dispersions(batch, code, n_levels).flatten())
        return {}


def _log_sigma(given: float | str | None, n_cols: int) -> Tensor:
    """A parameter per gene or one for all if it is learned, a fixed number if it is given."""
    if given is None or isinstance(given, str):
        return nn.Parameter(torch.zeros(() if given else n_cols))
    return nn.Buffer(torch.tensor(float(given)).log())
