"""What the algorithms ask of models and guides, by shape: neither imports this module.

The contract itself is small: a model and a guide are `nn.Module`s called as `module(batch)`, made of Pyro statements,
with the same latent sites. Everything else here is optional, and opens a door.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeGuard, runtime_checkable

from torch import Tensor
from torch.distributions import Distribution

from ..data.batches import RowBatch


@runtime_checkable
class Allocates(Protocol):
    """A model that makes its parameters once it knows the number of columns."""

    def allocate(self, batch: RowBatch) -> None:
        """Make parameters for a batch's columns."""


@runtime_checkable
class Recommends(Protocol):
    """A model that knows options of stochastic variational inference that suit it better than the defaults."""

    recommended: Mapping[str, Any]


@runtime_checkable
class Initialises(Protocol):
    """A model that sets its own parameters from some rows before a fit."""

    def initialise(self, batch: RowBatch) -> dict[str, tuple[Tensor, Tensor]]:
        """Set parameters; return where to start some latent sites, as location and scale."""


@runtime_checkable
class SetsUp(Protocol):
    """A guide that makes its parameters once it sees the model."""

    def setup(self, model: Any, batch: RowBatch, starts: Mapping[str, tuple[Tensor, Tensor]] | None = None) -> None:
        """Make parameters for the model's latent sites."""


def needs_setup(guide: Any) -> TypeGuard[SetsUp]:
    """Whether a guide that makes its parameters for a model has not done so."""
    return isinstance(guide, SetsUp) and not getattr(guide, "is_set_up", bool(list(guide.parameters())))  # type: ignore[attr-defined]


@runtime_checkable
class Stratifies(Protocol):
    """A guide that is a mixture: the bound is the weighted sum of those of its strata."""

    def strata(self) -> list[tuple[Tensor, Callable[[RowBatch], Any]]]:
        """Weights, and programs that draw with gradients from one component each and score by the whole mixture."""


@runtime_checkable
class IndependentBlocks(Protocol):
    """A guide whose sites, and the elements of each site, are independent of each other."""

    def posterior(self, batch: RowBatch) -> dict[str, Distribution]:
        """The distribution of each site; NotImplementedError where they turn out to depend on each other."""


@runtime_checkable
class ClosedForm(Protocol):
    """A model whose entries' expected log-likelihood is known, given independent blocks of some families."""

    def prior(self, batch: RowBatch) -> Any:
        """The latent part of the program."""

    def expected_log_likelihood(self, batch: RowBatch, q: Mapping[str, Distribution]) -> Tensor:
        """Sum over the batch's entries, unscaled; NotImplementedError where there is no closed form for `q`."""

    def predictive_moments(self, batch: RowBatch, q: Mapping[str, Distribution]) -> tuple[Tensor, Tensor, Tensor]:
        """Mean of each entry, variance of its expectation, and variance of the entry given that; each (e,)."""


def has_independent_blocks(guide: Any, batch: RowBatch) -> bool:
    """Whether a guide's sites, and the elements of each, are independent of each other."""
    if not isinstance(guide, IndependentBlocks):
        return False
    try:
        guide.posterior(batch)
    except NotImplementedError:
        return False
    return True


def has_closed_form(model: Any, guide: Any, batch: RowBatch) -> bool:
    """Whether this model knows its expected log-likelihood under this guide."""
    if not (isinstance(model, ClosedForm) and isinstance(guide, IndependentBlocks)):
        return False
    try:
        model.expected_log_likelihood(batch, guide.posterior(batch))
    except NotImplementedError:
        return False
    return True


@runtime_checkable
class Bilinear(Protocol):
    """A model of entries Normal(mu + a_i + b_j + A_i . B_j, noise^2) with independent normal priors of mean zero."""

    factor_sites: tuple[str, str, str]  # grand mean, row blocks (A_i, a_i), column blocks (B_j, b_j)

    @property
    def learned(self) -> frozenset[str]:
        """Which of the scales "user", "item" and "noise" are learned; the others are given."""

    def scales(self) -> dict[str, Tensor]:
        """Standard deviations: of the priors "mu" (), "user" and "item" (d,), and of the "noise" ()."""

    def set_scales(self, **scales: Tensor) -> None:
        """Set learned scales."""


@runtime_checkable
class HoldsBlocks(Protocol):
    """A guide of independent normal blocks that can be read and written."""

    factorised: bool  # whether the components of a block are independent
    hold_rows: bool  # whether it has a table of the rows' blocks

    def blocks(self, site: str, at: slice | Tensor = ...) -> tuple[Tensor, Tensor]:
        """Means (k, d) and covariances (k, d, d), or variances (k, d), of some of a site's blocks."""

    def set_blocks(self, site: str, mean: Tensor, cov: Tensor, at: slice = ...) -> None:
        """Write some of a site's blocks."""
