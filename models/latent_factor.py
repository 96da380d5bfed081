"""The Bayesian latent factor model of a sparse matrix with Gaussian entries.

Story, for users i, items j and the entries (i, j) that are observed:

    mu   ~ Normal(0, mu_scale^2)                             grand mean
    a_i  ~ Normal(0, kappa_a^2)    A_i ~ Normal_r(0, diag kappa_A^2)
    b_j  ~ Normal(0, kappa_b^2)    B_j ~ Normal_r(0, diag kappa_B^2)
    Y_ij ~ Normal(mu + a_i + b_j + A_i . B_j, sigma^2)

Sites:

| symbol     | site     | shape             | meaning                                          |
|------------|----------|-------------------|--------------------------------------------------|
| mu         | `mu`     | ()                | grand mean                                       |
| (A_i, a_i) | `user`   | (n_users, r + 1)  | embedding and satisfaction of a user             |
| (B_j, b_j) | `item`   | (n_items, r + 1)  | embedding and quality of an item                 |
| A, a, B, b | the same | (.., r) and (..,) | deterministic parts of `user` and `item`         |
| Y_ij       | `rating` | (n_entries,)      | stored entries, where the others are missing     |
| Y_i        | `value`  | (n_users, n_items)| rows, where entries not stored are observed zeros|

The scales kappa and sigma are learned (empirical Bayes) unless given; kappa_A and kappa_B are one per factor, which
prunes factors that the data do not support (automatic relevance determination). Entries that are not stored are
missing (ratings) or observed zeros (expression, log counts): the latter are never written out in the closed form.

References:
    Salakhutdinov and Mnih (2008), Bayesian probabilistic matrix factorization using MCMC.
    Lim and Teh (2007), Variational Bayesian approach to movie rating prediction.
    Bishop (1999), Variational principal components (relevance determination).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, NamedTuple, get_args

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
from .observed_zeros import expected_squared_error_of_cells


class Latents(NamedTuple):
    """One draw of the latent sites: `mu` (...,), `user` (..., b, r + 1), `item` (..., n_cols, r + 1).

    With it comes `users`, the plate of the batch's rows: a program makes each plate once.
    """

    mu: Tensor
    user: Tensor
    item: Tensor
    users: pyro.plate


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

    Attributes:
        factor_sites: Names of the grand mean and of the blocks of rows and columns, whose last components are biases.

    Raises:
        PlatewiseError: If the rank is below 1, a scale is not positive or of the wrong length, or `unstored` is neither
            of the two.
    """

    factor_sites: ClassVar[tuple[str, str, str]] = ("mu", "user", "item")

    def __init__(
        self,
        rank: int = 16,
        *,
        sigma: float | None = None,
        user_scale: float | list[float] | None = None,
        item_scale: float | list[float] | None = None,
        mu_scale: float = 100.0,
        unstored: Unstored | str = "missing",
    ) -> None:
        super().__init__()
        _refuse_unfit(rank, mu_scale, unstored)
        scales = {"sigma": sigma, "user_scale": user_scale, "item_scale": item_scale, "mu_scale": mu_scale}
        self.config = {"rank": rank, **scales, "unstored": unstored}
        self.rank, self.mu_scale, self.unstored = rank, mu_scale, unstored
        self.log_sigma = _log_scale("sigma", sigma, (), 1.0)
        self.log_user_scale = _log_scale("user_scale", user_scale, (rank + 1,), 0.5)
        self.log_item_scale = _log_scale("item_scale", item_scale, (rank + 1,), 0.5)

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
        with batch.col_plate("items"):
            item = pyro.sample("item", self.block_dist(self.log_item_scale))
            pyro.deterministic("B", item[..., :-1], event_dim=1)
            pyro.deterministic("b", item[..., -1])
        return Latents(mu, user, item, users)

    def likelihood(self, batch: RowBatch, latents: Latents) -> None:
        """The observed part of the program."""
        if self.unstored == "zero":
            self._likelihood_of_rows(batch, latents)
        else:
            self._likelihood_of_entries(batch, latents)

    def _likelihood_of_entries(self, batch: RowBatch, latents: Latents) -> None:
        user, item = batch.at_rows(latents.user), batch.at_cols(latents.item)
        mean = latents.mu + user[..., -1] + item[..., -1] + (user[..., :-1] * item[..., :-1]).sum(-1)
        with batch.entries("ratings"):
            pyro.sample("rating", dist.Normal(mean, self.sigma), obs=batch.value)

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
    def learned(self) -> frozenset[str]:
        """Which of the scales of `user`, `item` and `noise` are learned."""
        return frozenset(name for name, scale in self._log_scales.items() if isinstance(scale, nn.Parameter))

    def scales(self) -> dict[str, Tensor]:
        """Standard deviations: of the prior of `mu` (), `user` and `item` (r + 1,), and of the `noise` ()."""
        scales = {name: scale.detach().exp() for name, scale in self._log_scales.items()}
        return {"mu": self.log_sigma.new_tensor(self.mu_scale), **scales}

    def set_scales(self, **scales: Tensor) -> None:
        """Set learned scales, in place.

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
        return {"user": self.log_user_scale, "item": self.log_item_scale, "noise": self.log_sigma}

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
        self.set_scales(**{name: starts[name] for name in self.learned})
        return {"mu": (mean, sd)}

    def expected_log_likelihood(self, batch: RowBatch, q: Mapping[str, Distribution]) -> Float[Tensor, ""]:
        """Sum over the batch's observed entries of E_q[log p(Y_ij | latents)], in closed form.

        Args:
            batch: The batch; its scale is not applied.
            q: Independent blocks: a normal `mu`, `user` and `item` normal, factorised or jointly per block.

        Raises:
            NotImplementedError: If a block is of another family.
        """
        user, item = block_of(q["user"]), block_of(q["item"])
        mu = block_of(q["mu"])
        centre = mu.mean.detach()  # keeps sums of squares small in float32
        around = shifted(user, Block(mu.mean - centre, mu.cov))
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
        return mean, variance, (self.sigma**2).expand_as(mean)

    def _n_observed(self, batch: RowBatch) -> int:
        """Entries of a batch that are observed: all of its cells, or those stored."""
        return len(batch.rows) * batch.n_cols if self.unstored == "zero" else len(batch.value)

    def _spread(self, batch: RowBatch) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Mean and standard deviation of a batch's observed entries."""
        n = self._n_observed(batch)
        mean = batch.value.sum() / n
        squares = (batch.value - mean).square().sum() + (n - len(batch.value)) * mean.square()
        return mean, (squares / n).sqrt()


def _refuse_unfit(rank: int, mu_scale: float, unstored: str) -> None:
    if rank < 1:
        raise PlatewiseError(f"Expected a rank of at least 1, got {rank}. Choose, say, 16.")
    if not (math.isfinite(mu_scale) and mu_scale > 0):
        raise PlatewiseError(f"Expected mu_scale positive and finite, got {mu_scale}. Leave it out for 100.")
    if unstored not in get_args(Unstored):
        raise PlatewiseError(f'Expected unstored="missing" (ratings) or "zero" (counts), got {unstored!r}. Choose one.')


def _log_scale(name: str, given: float | list[float] | None, shape: tuple[int, ...], start: float) -> Tensor:
    """Logarithm of a scale: a parameter if it is learned, a fixed tensor if it is given."""
    if given is None:
        return nn.Parameter(torch.full(shape, start).log())
    scale = torch.as_tensor(given, dtype=torch.get_default_dtype())
    if not (scale.isfinite() & (scale > 0)).all() or scale.shape not in ((), shape):
        raise PlatewiseError(
            f"Expected {name} positive and finite, as one number or of shape {shape}, got {given}. Leave it out to "
            "learn it."
        )
    return nn.Buffer(scale.expand(shape).log())
