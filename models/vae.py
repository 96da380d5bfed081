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

Sites:

| symbol | site    | shape            | meaning                              |
|--------|---------|------------------|--------------------------------------|
| z_i    | `z`     | (n_cells, M)     | embedding of a cell                  |
| x_i    | `count` | (n_cells,)       | a cell's row, one event of all genes |

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
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.meaning import Unstored
from .decoder import Decoder
from .likelihoods import LIKELIHOODS


class VAE(nn.Module):
    """The VAE as a Pyro program; see the module's docstring for the story and the sites.

    Args:
        latent: Dimensions M of an embedding.
        likelihood: One of `LIKELIHOODS`.
        hidden: Units in a hidden layer of the decoder.
        layers: Hidden layers of the decoder; 0 for a linear one, whose weights are embeddings of the genes.
        dropout: Share of hidden units left out in training.
        categories: Levels of each categorical covariate (codes from 0) that the decoder reads: `{"batch": 2}`.
        continuous: Width of each continuous covariate that the decoder reads.

    Attributes:
        recommended: Options of stochastic variational inference that suit its networks.

    Raises:
        PlatewiseError: If a number is out of range or the likelihood is not known.
    """

    unstored: ClassVar[Unstored] = "zero"
    recommended: ClassVar[Mapping[str, Any]] = {
        "epochs": 100,
        "batch_rows": 64,
        "learning_rate": 1.2e-2,
        "betas": (0.9, 0.999),
        "warmup": 0.3,
        "final": 1e-4,
        "weight_decay": 2.0,
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
        categories: Mapping[str, int] | None = None,
        continuous: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        _refuse_unfit(latent, likelihood, hidden, layers, dropout)
        self.latent, self.likelihood_name = latent, likelihood
        self.network: dict[str, Any] = {"hidden": hidden, "layers": layers, "dropout": dropout}
        self.covariates: dict[str, Any] = {"categories": dict(categories or {}), "continuous": dict(continuous or {})}
        self.config = {"latent": latent, "likelihood": likelihood, **self.network, **self.covariates}

    def allocate(self, batch: RowBatch) -> None:
        """Make the parameters, for as many genes as a batch has columns."""
        self.decoder = self._decoder(batch.n_cols)
        if self.likelihood_name == "zero-inflated-negative-binomial":
            self.zero_decoder = self._decoder(batch.n_cols)
        if "negative-binomial" in self.likelihood_name:
            self.log_inverse_dispersion = nn.Parameter(torch.zeros(batch.n_cols))
        if self.likelihood_name == "gaussian":
            self.log_sigma = nn.Parameter(torch.zeros(batch.n_cols))

    def _decoder(self, n_cols: int) -> Decoder:
        return Decoder(self.latent, n_cols, **self.network, **self.covariates)

    def forward(self, batch: RowBatch) -> None:
        """Run the generative program on a batch."""
        with batch.row_plate("cells"):
            z = pyro.sample("z", self.prior_dist(batch))
            pyro.sample("count", self.likelihood(batch, z), obs=batch.value)

    def prior_dist(self, batch: RowBatch) -> Distribution:
        """Prior of an embedding: independent standard normals."""
        zero = batch.value.new_zeros(self.latent)
        return dist.Normal(zero, torch.ones_like(zero)).to_event(1)

    def likelihood(self, batch: RowBatch, z: Float[Tensor, "*s b latent"]) -> Distribution:
        """Distribution of the batch's rows given their embeddings, (..., b) rows of n_cols."""
        f = self.decoder(batch, z)
        kind: Callable[..., Distribution] = LIKELIHOODS[self.likelihood_name]
        if self.likelihood_name in ("bernoulli", "multinomial"):
            return kind(batch, f)
        if self.likelihood_name == "gaussian":
            return kind(batch, f, self.log_sigma.exp())
        log_mean = torch.log_softmax(f, -1) + batch.totals().clamp_min(1).log()[:, None]
        if self.likelihood_name == "poisson":
            return kind(batch, log_mean)
        if self.likelihood_name == "negative-binomial":
            return kind(batch, log_mean, self.log_inverse_dispersion)
        return kind(batch, log_mean, self.log_inverse_dispersion, self.zero_decoder(batch, z))

    @torch.no_grad()
    def initialise(self, batch: RowBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Set the genes' intercepts and dispersions from some rows, by moments; z starts at its prior.

        A quarter of a count is added to each gene, so that one not seen in these rows is rare and not impossible.
        """
        totals = batch.totals()
        counts = batch.value.new_zeros(batch.n_cols).index_add(0, batch.col, batch.value)
        if self.likelihood_name == "gaussian":
            self._initialise_normal(batch, counts / len(totals))
            return {}
        if self.likelihood_name == "bernoulli":
            share = (counts + 0.25) / (len(totals) + 0.5)
            self.decoder.output.bias.copy_(share.logit())
            return {}
        share = (counts + 0.25) / (counts + 0.25).sum()
        self.decoder.output.bias.copy_(share.log())
        if "negative-binomial" in self.likelihood_name:
            self.log_inverse_dispersion.copy_(_log_inverse_dispersion(batch, share, totals))
        return {}

    def _initialise_normal(self, batch: RowBatch, mean: Tensor) -> None:
        squares = torch.zeros_like(mean).index_add(0, batch.col, batch.value.square()) / len(batch.rows)
        spread = (squares - mean.square()).clamp_min(0).sqrt()
        self.decoder.output.bias.copy_(mean)
        self.log_sigma.copy_(spread.clamp_min(1e-3 * spread.max().clamp_min(1e-6)).log())


def _log_inverse_dispersion(batch: RowBatch, share: Tensor, totals: Tensor) -> Tensor:
    """Log theta_j by moments: the counts' squared deviations beyond Poisson's, over the squared means; 0.01 to 100."""
    squared_means = totals.square().sum() * share.square()
    own = totals[batch.row] * share[batch.col]
    deviations = torch.zeros_like(share).index_add(0, batch.col, (batch.value - own).square() - own.square())
    excess = deviations + squared_means - totals.sum() * share
    return (squared_means / excess.clamp_min(1e-12)).clamp(1e-2, 1e2).log()


def _refuse_unfit(latent: int, likelihood: str, hidden: int, layers: int, dropout: float) -> None:
    if likelihood not in LIKELIHOODS:
        raise PlatewiseError(f"Expected a likelihood among {', '.join(LIKELIHOODS)}, got {likelihood!r}. Choose one.")
    for name, value, least in (("latent", latent, 1), ("hidden", hidden, 1), ("layers", layers, 0)):
        if value < least:
            raise PlatewiseError(f"Expected {name} of at least {least}, got {value}.")
    if not 0 <= dropout < 1:
        raise PlatewiseError(f"Expected dropout from 0 to below 1, got {dropout}. Leave it out for 0.4.")
