"""A bilinear Gaussian fit between updates: data, blocks, scales and grand mean, each update of one of them, the bound.

Every update is the exact maximum of the bound over what it names, the rest held fixed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from . import bound, transforms
from .affine import Affine, Frame, at_rest
from .bound import GrandMean, Residual, Scales
from .entries import Entries, Matrix
from .full_update import update_full
from .log_precisions import CONSTANT, LogPrecisions, Precisions, weights
from .moments import Moments, Sums
from .principal_start import principal_directions
from .row_update import Given, Half, table_of, update_rows
from .weighted_rows import update_weighted_rows

NOISE_FLOOR = 1e-3  # least sigma, in standard deviations of the entries
OUT_OF_HAND = (OverflowError, ZeroDivisionError, ValueError, torch.linalg.LinAlgError)  # of numbers not finite
PRECISION_LOST = "the bound was no longer finite (look for extreme scales or values, or fit in float64)"
START = 0.3  # factors at the start, in prior standard deviations
SCALE_FLOOR = 1e-10  # least prior variance of a component, in what it was at the start


@dataclass(frozen=True)
class Floors:
    """Least variances that learned scales may take."""

    noise: float
    user: Tensor
    item: Tensor


@dataclass
class FactorState:
    """Everything that updates read and change.

    Attributes:
        matrix: The data.
        users: Blocks of the rows as they are stored; None before their first update.
        items: Blocks of the columns as they are stored.
        mu: Posterior of the grand mean as it is stored.
        scales: Variances of the model.
        learned: Which of "user", "item" and "noise" are learned.
        floors: Least values of those.
        factorised: Whether blocks are factorised.
        frame: Where the priors speak of blocks, seen from where they are stored.
        residual: What remains of the data; None before the first update.
        trail: Means of the columns' stored blocks a sweep before; None where there are none.
        precisions: Log precisions of rows and columns, where the noise is theirs.
    """

    matrix: Matrix
    users: Moments | None
    items: Moments
    mu: GrandMean
    scales: Scales
    learned: frozenset[str]
    floors: Floors
    factorised: bool
    frame: Frame
    residual: Residual | None = None
    trail: Tensor | None = None
    precisions: Precisions = CONSTANT

    def calm(self) -> None:
        """A quiet start from draws of the prior: small factors, no biases, and all of the entries' spread to noise.

        Early updates then find the strongest factors first, and do not fit the draws. Where every entry is observed,
        factors of that size start along the principal directions instead.
        """
        mean = START * self.items.mean
        mean[:, -1] = 0
        if self.matrix.full:
            directions = principal_directions(self.matrix, mean.shape[1] - 1)
            size = mean[:, :-1].square().mean().sqrt() * len(mean) ** 0.5
            mean[:, : directions.shape[1]] = size * directions.to(mean)
        self.items = self.items.with_mean(mean)
        if "noise" in self.learned and self.matrix.spread > 0:
            self.scales = replace(self.scales, noise=self.matrix.spread**2)
        self.precisions = self.precisions.without_data()

    def update_users(self) -> None:
        """The rows' blocks, all at once: given the columns they do not depend on each other. Then their precisions."""
        own, p = (self.matrix.rows, self.items, self.frame.users, self.scales.user), self.precisions
        if p.are_constant:
            half = self._half(*own)
            self.residual = bound.residual_of(self.matrix, self.matrix.cols, self.items, half)
            self.users = half.moments
        else:
            self.users, users = self._weighted_half(*own, p.users, p.items)
            self.precisions = replace(p, users=users)

    def update_items(self) -> None:
        """The columns' blocks, then their precisions."""
        users, p = self._stored_users, self.precisions
        own = self.matrix.cols, users, self.frame.items, self.scales.item
        if p.are_constant:
            half = self._half(*own)
            self.residual = bound.residual_of(self.matrix, self.matrix.rows, users, half)
            self.items = half.moments
        else:
            self.items, items = self._weighted_half(*own, p.items, p.users)
            self.precisions = replace(p, items=items)

    def update_mean(self) -> None:
        """The grand mean."""
        self.mu = bound.best_mean(self._residual, self.mu, self.frame.gain, self.scales)

    def update_scales(self) -> None:
        """Prior variances of both sides, where learned."""
        if "user" in self.learned:
            self.scales = replace(self.scales, user=bound.best_variance(self.user_sums, self.floors.user))
        if "item" in self.learned:
            self.scales = replace(self.scales, item=bound.best_variance(self.item_sums, self.floors.item))

    def update_noise(self) -> None:
        """The noise and the shapes of precisions, where learned."""
        if "noise" in self.learned:
            noise = bound.best_noise(self._residual, self.mu, self.floors.noise)
            self.scales = replace(self.scales, noise=noise)
            self._centre("users")
            self._centre("items")
        self.precisions = self.precisions.with_best_shapes()

    def translate(self) -> None:
        """Means of factors into biases (not of factorised blocks), of biases into the grand mean."""
        s = self.scales
        if not self.factorised:
            users, items = transforms.into_bias(self.user_sums, self.item_sums, s.user, s.item)
            self._move(Frame(users, items))
            items, users = transforms.into_bias(self.item_sums, self.user_sums, s.item, s.user)
            self._move(Frame(users, items))
        mean = self.mu.mean + self.mu.centre + self.frame.gain
        self._move(transforms.into_mean(self.user_sums, self.item_sums, (s.user, s.item, s.mu), mean))

    def rotate(self) -> None:
        """Factors into the frame that is best for the bound; only blocks with covariances and learned scales."""
        if self.factorised or not {"user", "item"} <= self.learned:
            return
        before, scales, frame = self.elbo(), self.scales, self.frame
        self._move(transforms.rotation(self.user_sums, self.item_sums))
        self.update_scales()
        if not self.elbo() >= before:  # rounding, or scales at their floors
            self.scales, self.frame = scales, frame

    def finish_sweep(self, accelerate: bool = True) -> None:
        """Grand mean, scales and noise, then the moves that leave every prediction as it is."""
        self.update_mean()
        self.update_scales()
        self.update_noise()
        if accelerate:
            self.translate()
            self.update_scales()
            self.rotate()

    def extrapolate(self, momentum: float) -> None:
        """Move the columns' means on in the direction of their last sweep; the next update of rows starts there.

        No update of a block: the bound may fall, and the sweep that begins so has to be judged by it.
        """
        before = self.items
        if self.trail is not None:
            self.items = before.with_mean(before.mean + momentum * (before.mean - self.trail))
        self.trail = before.mean

    def settle(self) -> None:
        """Store blocks and grand mean in the frame of the priors."""
        if self.users is not None:
            self.users = self.frame.users.of(self.users)
            self.residual = self._residual.shifted(self.frame.gain)
        self.items = self.frame.items.of(self.items)
        self.trail = None if self.trail is None else self.frame.items.of_means(self.trail)
        self.mu = replace(self.mu, mean=self.mu.mean + self.frame.gain)
        self.frame = at_rest(len(self.scales.user))

    def elbo(self) -> float:
        """The bound, in nats."""
        elbo = bound.elbo(self._residual, self.user_sums, self.item_sums, self.mu, self.frame.gain, self.scales)
        if self.precisions.are_constant:
            return elbo
        return elbo + self.precisions.bound(self.matrix.rows.count, self.matrix.cols.count)

    @property
    def user_sums(self) -> Sums:
        """Sums over the rows' blocks, in the frame of the priors."""
        return self.frame.users.of_sums(self._stored_users.sums)

    @property
    def item_sums(self) -> Sums:
        """Sums over the columns' blocks, in the frame of the priors."""
        return self.frame.items.of_sums(self.items.sums)

    def given_items(self) -> Given:
        """What an update of the columns' blocks holds fixed."""
        return self._given(self.frame.items, self.scales.item)

    def _half(self, entries: Entries, columns: Moments, own: Affine, variance: Tensor) -> Half:
        given = self._given(own, variance)
        if self.matrix.full:
            return update_full(entries, columns, given, self.factorised)
        return update_rows(entries, table_of(columns), given, columns.mean, self.factorised)

    def _weighted_half(
        self,
        entries: Entries,
        columns: Moments,
        own: Affine,
        variance: Tensor,
        of_rows: LogPrecisions | None,
        of_cols: LogPrecisions | None,
    ) -> tuple[Moments, LogPrecisions | None]:
        """Blocks of one side, then its log precisions; sets the residual."""
        given, by_col = self._given(own, variance), weights(of_cols, columns.bias)
        weight = weights(of_rows, entries.count)
        half, lines = update_weighted_rows(entries, columns, given, weight, by_col, self.factorised)
        if of_rows is not None:
            errors = lines.errors(self.mu.mean, self.mu.variance) / self.scales.noise
            of_rows = of_rows.updated(entries.count, errors)
        self.residual = bound.weighted_residual(self.matrix.n_entries, lines, weights(of_rows, weight))
        return half.moments, of_rows

    def _centre(self, side: str) -> None:
        """Precisions of mean one, and the noise that makes up for it: no entry's changes, and the bound is best so."""
        own: LogPrecisions | None = getattr(self.precisions, side)
        if own is None:
            return
        shift = own.centring()
        noise = self.scales.noise * math.exp(shift)
        if noise >= self.floors.noise:
            self.precisions = replace(self.precisions, **{side: own.shifted(shift)})
            self.scales = replace(self.scales, noise=noise)
            self.residual = self._residual.scaled(math.exp(shift))

    def _given(self, own: Affine, variance: Tensor) -> Given:
        precision, pull = (x.to(self.items.mean.device) for x in own.prior(variance))
        return Given(precision, pull, 1 / self.scales.noise, self.mu.mean)

    def _move(self, move: Frame) -> None:
        self.frame = move.after(self.frame)

    @property
    def _stored_users(self) -> Moments:
        assert self.users is not None, "update_users comes first"
        return self.users

    @property
    def _residual(self) -> Residual:
        assert self.residual is not None, "update_users comes first"
        return self.residual


def floors_of(scales: Scales, spread: float) -> Floors:
    """Floors from the scales at the start, and the standard deviation of the entries."""
    return Floors((NOISE_FLOOR * spread) ** 2, SCALE_FLOOR * scales.user, SCALE_FLOOR * scales.item)
