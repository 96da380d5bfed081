"""The Bayesian latent factor model of a sparse matrix with Gaussian entries.

Story, for users i, items j and the entries (i, j) that are observed:

    mu   ~ Normal(0, mu_scale^2)                             grand mean
    a_i  ~ Normal(0, kappa_a^2)    A_i ~ Normal_r(0, diag kappa_A^2)
    b_j  ~ Normal(0, kappa_b^2)    B_j ~ Normal_r(0, diag kappa_B^2)
    Y_ij ~ Normal(mu + a_i + b_j + A_i . B_j, sigma^2)

and, where the noise is that of rows, of columns, or of both, with g_i or h_j or both in place of 0:

    exp(g_i) ~ Gamma(alpha_u, alpha_u)                       precision of a user's ratings, of mean 1
    exp(h_j) ~ Gamma(alpha_v, alpha_v)                       precision of an item's ratings, of mean 1
    Y_ij ~ Normal(mu + a_i + b_j + A_i . B_j, sigma^2 exp(-g_i - h_j))

Sites:

| symbol     | site                 | shape             | meaning                                          |
|------------|----------------------|-------------------|--------------------------------------------------|
| mu         | `mu`                 | ()                | grand mean                                       |
| (A_i, a_i) | `user`               | (n_users, r + 1)  | embedding and satisfaction of a user             |
| (B_j, b_j) | `item`               | (n_items, r + 1)  | embedding and quality of an item                 |
| A, a, B, b | the same             | (.., r) and (..,) | deterministic parts of `user` and `item`         |
| g_i        | `user_log_precision` | (n_users,)        | how far below the rest a user's noise is         |
| h_j        | `item_log_precision` | (n_items,)        | the same of an item                              |
| Y_ij       | `rating`             | (n_entries,)      | stored entries, where the others are missing     |
| Y_i        | `value`              | (n_users, n_items)| rows, where entries not stored are observed zeros|

The scales kappa and sigma are learned (empirical Bayes) unless given; kappa_A and kappa_B are one per factor, which
prunes factors that the data do not support (automatic relevance determination). So are the shapes alpha: the larger,
the more alike the noise of all rows, or columns. Entries that are not stored are missing (ratings) or observed zeros
(expression, log counts): the latter are never written out in the closed form.

References:
    Salakhutdinov and Mnih (2008), Bayesian probabilistic matrix factorization using MCMC.
    Lim and Teh (2007), Variational Bayesian approach to movie rating prediction.
    Bishop (1999), Variational principal components (relevance determination).
    Lakshminarayanan, Bouchard and Archambeau (2011), Robust Bayesian matrix factorisation (noise of rows and columns).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.meaning import Unstored
from .bilinear import Block, bilinear_moments, block_of, expected_squared_error, shifted
from .latent_factor_options import log_scale, refuse_unfit
from .line_noise import SHAPES, LineNoise, Noise, bounded_shape
from .observed_zeros import expected_squared_error_of_cells


class Latents(NamedTuple):
    """One draw of the latent sites: `mu` (...,), `user` (..., b, r + 1), `item` (..., n_cols, r + 1).

    With it comes `users`, the plate of the batch's rows: a program makes each plate once. Where the noise is that of
    rows or columns, there are `user_log_precision` (..., b) or `item_log_precision` (..., n_cols).
    """

    mu: Tensor
    user: Tensor
    item: Tensor
    users: pyro.plate
    user_log_precision: Tensor | None = None
    item_log_precision: Tensor | None = None


class LatentFactor(nn.Module):
    """The latent factor model as a Pyro program; see the module's docstring for the story and the sites.

    Args:
        rank: Number of factors r.
        sigma: Standard deviation of a rating given its mean; learned if None.
        user_scale: Prior standard deviations (kappa_A, kappa_a) of a user: one number for all, or r + 1 numbers,
            the bias last; learned per factor if None.
        item_scale: The same for items (kappa_B, kappa_b).
        mu_scale: Prior standard deviation of the grand mean, in units of the ratings; never learned.
        unstored: What an entry that is not stored means: "missing", or an observed "zero".
        noise: Whose the noise is: "constant", one sigma for all; of "rows", "columns" or "both", each with a precision
            of its own around that. Where it is not constant, entries that are not stored are missing.
        user_shape: Shape alpha_u of the users' precisions, from 1.5 to 10,000; learned within that if None.
        item_shape: The same of the items'.

    Attributes:
        factor_sites: Names of the grand mean and of the blocks of rows and columns, whose last components are biases.
        shape_bounds: Least and most shape of precisions.

    Raises:
        PlatewiseError: If the rank is below 1, a scale is not positive or of the wrong length, `unstored` is neither
            of the two, or the noise is not one of the four or not for entries that are not stored.
    """

    factor_sites: ClassVar[tuple[str, str, str]] = ("mu", "user", "item")
    shape_bounds: ClassVar[tuple[float, float]] = SHAPES

    def __init__(
        self,
        rank: int = 16,
        *,
        sigma: float | None = None,
        user_scale: float | list[float] | None = None,
        item_scale: float | list[float] | None = None,
        mu_scale: float = 100.0,
        unstored: Unstored | str = "missing",
        noise: Noise | str = "constant",
        user_shape: float | None = None,
        item_shape: float | None = None,
    ) -> None:
        super().__init__()
        refuse_unfit(rank, mu_scale, unstored, noise)
        self.line_noise = LineNoise(noise, user_shape, item_shape)
        scales = {"sigma": sigma, "user_scale": user_scale, "item_scale": item_scale, "mu_scale": mu_scale}
        of_noise = {"noise": noise, "user_shape": user_shape, "item_shape": item_shape}
        self.config = {"rank": rank, **scales, "unstored": unstored}
        self.config |= {} if self.line_noise.is_constant else of_noise
        self.rank, self.mu_scale, self.unstored = rank, mu_scale, unstored
        self.log_sigma = log_scale("sigma", sigma, (), 1.0)
        self.log_user_scale = log_scale("user_scale", user_scale, (rank + 1,), 0.5)
        self.log_item_scale = log_scale("item_scale", item_scale, (rank + 1,), 0.5)

    def forward(self, batch: RowBatch) -> None:
        """Run the generative program on a batch."""
        self.likelihood(batch, self.prior(batch))

    def prior(self, batch: RowBatch) -> Latents:
        """The latent part of the program."""
        mu = pyro.sample("mu", dist.Normal(self.log_sigma.new_zeros(()), self.mu_scale))
        users = batch.row_plate("users")
        with users:
            user = pyro.sample("user", self.block_dist(self.log_user_scale))
            pyro.deterministic("A", user[..., :-1], event_dim=1)
            pyro.deterministic("a", user[..., -1])
            user_log_precision = self.line_noise.sample("user")
        with batch.col_plate("items"):
            item = pyro.sample("item", self.block_dist(self.log_item_scale))
            pyro.deterministic("B", item[..., :-1], event_dim=1)
            pyro.deterministic("b", item[..., -1])
            item_log_precision = self.line_noise.sample("item")
        return Latents(mu, user, item, users, user_log_precision, item_log_precision)

    def likelihood(self, batch: RowBatch, latents: Latents) -> None:
        """The observed part of the program."""
        if self.unstored == "zero":
            self._likelihood_of_rows(batch, latents)
        else:
            self._likelihood_of_entries(batch, latents)

    def _likelihood_of_entries(self, batch: RowBatch, latents: Latents) -> None:
        user, item = batch.at_rows(latents.user), batch.at_cols(latents.item)
        mean = latents.mu + user[..., -1] + item[..., -1] + (user[..., :-1] * item[..., :-1]).sum(-1)
        scale = self.line_noise.scale(batch, self.sigma, latents.user_log_precision, latents.item_log_precision)
        with batch.entries("ratings"):
            pyro.sample("rating", dist.Normal(mean, scale), obs=batch.value)

    def _likelihood_of_rows(self, batch: RowBatch, latents: Latents) -> None:
        """Whole rows, their zeros written out."""
        user, item = latents.user, latents.item
        biases = latents.mu[..., None] + user[..., -1:] + item[..., None, :, -1]
        mean = biases + user[..., :-1] @ item[..., :-1].mT
        with latents.users:
            pyro.sample("value", dist.Normal(mean, self.sigma).to_event(1), obs=batch.dense())

    def block_dist(self, log_scale: Float[Tensor, " d"]) -> Distribution:
        """Prior of one user or item: independent normals of mean zero."""
        return dist.Normal(torch.zeros_like(log_scale), log_scale.exp()).to_event(1)

    @property
    def sigma(self) -> Float[Tensor, ""]:
        """Standard deviation of a rating given its mean."""
        return self.log_sigma.exp()

    @property
    def precision_sites(self) -> tuple[str | None, str | None]:
        """Names of the log precisions of rows and of columns; None where the noise is not theirs."""
        return self.line_noise.sites

    @property
    def learned(self) -> frozenset[str]:
        """Which of the scales of `user`, `item` and `noise`, and of the shapes of precisions, are learned."""
        return frozenset(name for name, scale in self._log_scales.items() if isinstance(scale, nn.Parameter))

    def scales(self) -> dict[str, Tensor]:
        """Standard deviations: of the prior of `mu` (), `user` and `item` (r + 1,), and of the `noise` ().

        With them, where there are any, `user_shape` () and `item_shape` () of the precisions.
        """
        scales = {name: scale.detach().exp() for name, scale in self._log_scales.items()}
        shapes = {name: bounded_shape(scale.detach()) for name, scale in self.line_noise.log_shapes.items()}
        return {"mu": self.log_sigma.new_tensor(self.mu_scale), **scales, **shapes}

    def set_scales(self, **scales: Tensor) -> None:
        """Set learned scales and shapes, in place.

        Raises:
            PlatewiseError: If one of them is not learned.
        """
        if given := set(scales) - self.learned:
            raise PlatewiseError(
                f"Expected scales that are learned, among {sorted(self.learned)}, got {sorted(given)}. Leave them as "
                "they are, or make the model without giving them."
            )
        for name, scale in scales.items():
            self._log_scales[name].data.copy_(scale.log())

    @property
    def _log_scales(self) -> dict[str, Tensor]:
        scales = {"user": self.log_user_scale, "item": self.log_item_scale, "noise": self.log_sigma}
        return scales | self.line_noise.log_shapes

    def initialise(self, batch: RowBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Set learned scales from the spread of a batch's ratings, zeros that are not stored included where they count.

        Half of the ratings' variance is left to noise at the start, and a fifth is given to the factors together.

        Args:
            batch: Some rows of the training data.

        Returns:
            Where to start the grand mean, as location and scale; nothing if the rows have no entries.

        Raises:
            PlatewiseError: If the rank is above the smaller side of the matrix.
        """
        if self.rank > (most := min(batch.n_rows, batch.n_cols)):
            raise PlatewiseError(
                f"Expected a rank of at most {most}, the smaller side of the matrix, got {self.rank}. Lower the rank."
            )
        if not self._n_observed(batch):
            return {}
        mean, sd = self._spread(batch)
        sd = torch.where(sd > 0, sd, 1.0)  # ratings that are all the same say nothing of their spread
        factors = (0.2 * sd**2 / self.rank).sqrt().sqrt().expand(self.rank)
        block = torch.cat([factors, sd[None] / 2])
        starts = {"noise": sd * 0.7, "user": block, "item": block}
        self.set_scales(**{name: starts[name] for name in self.learned & starts.keys()})
        return {"mu": (mean, sd)}

    def expected_log_likelihood(self, batch: RowBatch, q: Mapping[str, Distribution]) -> Float[Tensor, ""]:
        """Sum over the batch's observed entries of E_q[log p(Y_ij | latents)], in closed form.

        Args:
            batch: The batch; its scale is not applied.
            q: Independent blocks: a normal `mu`, `user` and `item` normal, factorised or jointly per block, and normal
                log precisions where there are any.

        Raises:
            NotImplementedError: If a block is of another family.
        """
        user, item = block_of(q["user"]), block_of(q["item"])
        mu = block_of(q["mu"])
        centre = mu.mean.detach()  # keeps sums of squares small in float32
        around = shifted(user, Block(mu.mean - centre, mu.cov))
        if not self.line_noise.is_constant:
            mean, variance = bilinear_moments(batch, around, item)
            square = (batch.value - centre - mean).square() + variance
            return self.line_noise.expected_log_likelihood(batch, self.sigma, square, q)
        if self.unstored == "zero":
            error = expected_squared_error_of_cells(batch, centre, around, item)
        else:
            error = expected_squared_error(batch, batch.value - centre, around, item)
        return -0.5 * error / self.sigma**2 - self._n_observed(batch) * (self.log_sigma + 0.5 * math.log(2 * math.pi))

    def predictive_moments(self, batch: RowBatch, q: Mapping[str, Distribution]) -> tuple[Tensor, Tensor, Tensor]:
        """Mean of each stored entry, variance of its expectation, and variance of the entry given it; each (e,)."""
        used, place = batch.col.unique(return_inverse=True)  # tables of the batch's columns alone
        user = shifted(block_of(q["user"]), block_of(q["mu"]))
        among_used = replace(batch, col=place, n_cols=len(used))
        mean, variance = bilinear_moments(among_used, user, block_of(q["item"], used))
        if self.line_noise.is_constant:
            return mean, variance, (self.sigma**2).expand_as(mean)
        return mean, variance, self.line_noise.expected_variance(batch, self.sigma, q)

    def _n_observed(self, batch: RowBatch) -> int:
        """Entries of a batch that are observed: all of its cells, or those stored."""
        return len(batch.rows) * batch.n_cols if self.unstored == "zero" else len(batch.value)

    def _spread(self, batch: RowBatch) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Mean and standard deviation of a batch's observed entries."""
        n = self._n_observed(batch)
        mean = batch.value.sum() / n
        squares = (batch.value - mean).square().sum() + (n - len(batch.value)) * mean.square()
        return mean, (squares / n).sqrt()
