"""Noise that differs by row, by column, or by both: gamma precisions, as logarithms on the real line.

    g_i ~ LogGamma(alpha_u, alpha_u)    h_j ~ LogGamma(alpha_v, alpha_v)    Var[Y_ij | ..] = sigma^2 exp(-g_i - h_j)

Precisions have mean 1, so that sigma keeps its meaning. Given them entries are normal; with a row's summed out they
would be Student's t, whose 2 alpha degrees of freedom the row's entries share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, get_args

import pyro
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from .bilinear import block_of
from .log_gamma import LogGamma, expected_power

Noise = Literal["constant", "rows", "columns", "both"]

SHAPES = (1.5, 1e4)  # least: a row never seen has noise of finite variance, 3 sigma^2; most: all but constant
START = 5.0  # of shapes that are learned
SITES = {"user": "user_log_precision", "item": "item_log_precision"}
SIDES = {"constant": (), "rows": ("user",), "columns": ("item",), "both": ("user", "item")}


class LineNoise(nn.Module):
    """Log precisions of rows and of columns, of one of them, or of none.

    Args:
        noise: Whose they are: "rows", "columns", "both"; "constant" for nobody's.
        user_shape: Shape alpha_u of the rows' precisions, from 1.5 to 10,000; learned within that if None.
        item_shape: The same of the columns'.

    Raises:
        PlatewiseError: If there is no such noise, or a shape is out of range or of precisions that there are not.
    """

    def __init__(self, noise: Noise | str, user_shape: float | None = None, item_shape: float | None = None) -> None:
        super().__init__()
        if noise not in get_args(Noise):
            raise PlatewiseError(f"Expected noise among {', '.join(get_args(Noise))}, got {noise!r}. Choose one.")
        self.sides = SIDES[noise]
        self.log_user_shape = self._log_shape("user", user_shape)
        self.log_item_shape = self._log_shape("item", item_shape)

    @property
    def is_constant(self) -> bool:
        """Whether all entries have one noise."""
        return not self.sides

    @property
    def sites(self) -> tuple[str | None, str | None]:
        """Names of the latent sites of rows and of columns; None where there is none."""
        user, item = (SITES[side] if side in self.sides else None for side in SITES)
        return user, item

    @property
    def log_shapes(self) -> dict[str, Tensor]:
        """Logarithms of the shapes there are, by "user_shape" and "item_shape"."""
        both = {"user": self.log_user_shape, "item": self.log_item_shape}
        return {f"{side}_shape": x for side, x in both.items() if x is not None}

    def prior(self, side: str) -> Distribution:
        """Law of one log precision."""
        shape = bounded_shape(self.log_shapes[f"{side}_shape"])
        return LogGamma(shape, shape)

    def sample(self, side: str) -> Tensor | None:
        """The site of rows ("user") or columns ("item"), to be drawn in their plate; None where there is none."""
        return pyro.sample(SITES[side], self.prior(side)) if side in self.sides else None

    def scale(
        self, batch: RowBatch, sigma: Float[Tensor, ""], of_rows: Tensor | None, of_cols: Tensor | None
    ) -> Tensor:
        """Standard deviation of each entry given log precisions of the batch's rows and of all columns."""
        if self.is_constant:
            return sigma
        return sigma * (-0.5 * self._of_entries(batch, of_rows, of_cols)).exp()

    def expected_log_likelihood(
        self,
        batch: RowBatch,
        sigma: Float[Tensor, ""],
        square: Float[Tensor, " e"],
        q: Mapping[str, Distribution],
    ) -> Float[Tensor, ""]:
        """Sum over entries of E_q[log p] given the expected square of what each differs from its mean by.

        Raises:
            NotImplementedError: If a log precision is not normal under `q`.
        """
        precision = self._product(batch, q, 1.0)
        levels = [None if name is None else block_of(q[name]).mean for name in self.sites]
        fit = -0.5 * (precision * square).sum() / sigma**2 + 0.5 * self._of_entries(batch, *levels).sum()
        return fit - len(batch.value) * (sigma.log() + 0.5 * math.log(2 * math.pi))

    def expected_variance(
        self, batch: RowBatch, sigma: Float[Tensor, ""], q: Mapping[str, Distribution]
    ) -> Float[Tensor, " e"]:
        """sigma^2 E[exp(-g_i)] E[exp(-h_j)] of each entry."""
        return sigma**2 * self._product(batch, q, -1.0)

    def _product(self, batch: RowBatch, q: Mapping[str, Distribution], t: float) -> Float[Tensor, " e"]:
        """E[exp(t g_i)] E[exp(t h_j)] of each entry."""
        powers = [None if name is None else expected_power(q[name], t).log() for name in self.sites]
        return self._of_entries(batch, *powers).exp()

    def _of_entries(self, batch: RowBatch, of_rows: Tensor | None, of_cols: Tensor | None) -> Tensor:
        """Sum of what there is of an entry's row and column."""
        if of_rows is None or of_cols is None:
            if of_rows is not None:
                return batch.at_rows(of_rows, event_dim=0)
            return batch.value.new_zeros(len(batch.value)) if of_cols is None else batch.at_cols(of_cols, event_dim=0)
        return batch.at_rows(of_rows, event_dim=0) + batch.at_cols(of_cols, event_dim=0)

    def _log_shape(self, side: str, given: float | None) -> Tensor | None:
        """Logarithm of a shape: a parameter if it is learned, a fixed tensor if it is given."""
        if side not in self.sides:
            if given is not None:
                raise PlatewiseError(
                    f"Expected {side}_shape with noise that differs by {side}, got {given} without. Leave it out, or "
                    'say noise="both".'
                )
            return None
        if given is None:
            return nn.Parameter(torch.tensor(START).log())
        if not SHAPES[0] <= given <= SHAPES[1]:
            raise PlatewiseError(
                f"Expected {side}_shape from {SHAPES[0]:g} to {SHAPES[1]:g}, got {given}. Leave it out to learn it."
            )
        return nn.Buffer(torch.tensor(float(given)).log())


def bounded_shape(log_shape: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """A shape within `SHAPES`; the gradient passes a bound, so that a parameter beyond it can come back."""
    low, high = (math.log(x) for x in SHAPES)
    return (log_shape + (log_shape.clamp(low, high) - log_shape).detach()).exp()
