"""Between a model and a guide, and the numbers that exact updates work on: read at the start, written at the end."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.errors import PlatewiseError
from .affine import at_rest
from .bound import GrandMean, Scales
from .entries import Matrix
from .factor_state import FactorState, floors_of
from .log_precisions import LogPrecisions, Precisions
from .moments import Moments, pack, packed_size, slices, sums_of, unpack
from .protocols import Bilinear, HoldsBlocks


def require_exact_updates(model: nn.Module, guide: nn.Module, algorithm: str) -> None:
    """Check that a model and a guide have what exact updates need.

    Raises:
        PlatewiseError: If one does not.
    """
    for kind, module, protocol in (("model", model, Bilinear), ("guide", guide, HoldsBlocks)):
        if not isinstance(module, protocol):
            raise PlatewiseError(
                f"Expected a {kind} with exact updates (LatentFactor; MeanFieldNormal or RowBlockNormal) for "
                f"{algorithm}, got {type(module).__name__}. Fit it by svi."
            )


def require_streamed(model: Any) -> None:
    """Check that a model's rows can stream by: entries not stored are missing, and all have one noise.

    Raises:
        PlatewiseError: If not.
    """
    if any(precision_sites(model)):
        raise PlatewiseError(
            "Expected one noise for all entries for natural gradients, got a model with noise of rows or columns. Fit "
            "it by coordinate_ascent or svi."
        )
    if model.unstored != "missing":
        raise PlatewiseError(
            "Expected a model of a matrix with missing entries for natural gradients, got one of a matrix observed "
            "whole. Fit it by coordinate_ascent, which reads its stored entries alone."
        )


def read_state(model: Any, guide: Any, matrix: Matrix) -> FactorState:
    """The state that a model and a guide are in; users are left to the first update, which needs the items alone."""
    name_mu, _, name_item = model.factor_sites
    mean, variance = (float(x) for x in guide.blocks(name_mu))
    scales = scales_of(model)
    spread = matrix.spread or abs(matrix.centre) or 1.0
    return FactorState(
        matrix,
        None,
        read_blocks(guide, name_item, slice(0, matrix.cols.n_rows)),
        GrandMean(mean - matrix.centre, variance, matrix.centre),
        scales,
        frozenset(model.learned),
        floors_of(scales, spread),
        guide.factorised,
        at_rest(len(scales.user)),
        precisions=_all_precisions(model, guide),
    )


def write_state(state: FactorState, model: Any, guide: Any) -> None:
    """Put a state's scales into the model and its blocks, which are settled, into the guide."""
    name_mu, name_user, name_item = model.factor_sites
    roots = {"user": state.scales.user.sqrt(), "item": state.scales.item.sqrt()}
    roots["noise"] = torch.tensor(state.scales.noise, dtype=torch.float64).sqrt()
    model.set_scales(**{name: roots[name] for name in state.learned & roots.keys()})
    mu = torch.tensor([[state.mu.mean + state.mu.centre, state.mu.variance]], dtype=torch.float64)
    guide.set_blocks(name_mu, mu[:, :1], mu[:, 1:])
    write_blocks(guide, name_item, state.items)
    if state.users is not None and guide.hold_rows:
        write_blocks(guide, name_user, state.users)
    write_precisions(state.precisions, model, guide)


def precision_sites(model: Any) -> tuple[str | None, str | None]:
    """Names of a model's log precisions of rows and of columns; None where the noise is not theirs."""
    sites: tuple[str | None, str | None] = getattr(model, "precision_sites", (None, None))
    return sites


def read_precisions(model: Any, guide: Any, cols: Tensor | slice, n_rows: int) -> Precisions:
    """Log precisions of some columns as they are in a guide, and of `n_rows` rows before any entries."""
    of_rows, of_cols = precision_sites(model)
    users = items = None
    if of_rows is not None:
        zeros = next(guide.parameters()).new_zeros(n_rows, dtype=torch.float64)
        users = _log_precisions(model, "user_shape", zeros, zeros).without_data()
    if of_cols is not None:
        items = _log_precisions(model, "item_shape", *_scalars(guide, of_cols, cols))
    return Precisions(users, items)


def _all_precisions(model: Any, guide: Any) -> Precisions:
    """All log precisions as they are in a guide."""
    of_rows, _ = precision_sites(model)
    if of_rows is not None and not guide.hold_rows:
        raise PlatewiseError(
            "Expected a guide that holds rows where each has a noise of its own, got one with hold_rows=False. Make it "
            "without."
        )
    found = read_precisions(model, guide, slice(None), 0)
    if of_rows is None:
        return found
    return Precisions(_log_precisions(model, "user_shape", *_scalars(guide, of_rows, slice(None))), found.items)


def _scalars(guide: Any, site: str, at: Tensor | slice) -> tuple[Tensor, Tensor]:
    mean, variance = (x[:, 0].double() for x in guide.blocks(site, at))
    return mean, variance


def _log_precisions(model: Any, shape: str, mean: Tensor, variance: Tensor) -> LogPrecisions:
    bounds = model.shape_bounds if shape in model.learned else None
    return LogPrecisions(mean, variance, float(model.scales()[shape]), bounds)


def write_precisions(precisions: Precisions, model: Any, guide: Any) -> None:
    """Put log precisions into the guide, and their shapes, where learned, into the model."""
    of_rows, of_cols = precision_sites(model)
    for site, own, shape in ((of_rows, precisions.users, "user_shape"), (of_cols, precisions.items, "item_shape")):
        if site is None or own is None:
            continue
        guide.set_blocks(site, own.mean[:, None], own.variance[:, None])
        if own.bounds is not None:
            model.set_scales(**{shape: torch.tensor(own.shape, dtype=torch.float64)})


def read_blocks(guide: Any, site: str, at: slice | Tensor) -> Moments:
    """Some of a site's blocks, part by part: a range of them, or those of the given indices."""
    n = at.stop - at.start if isinstance(at, slice) else len(at)
    mean = guide.blocks(site, slice(0, 1))[0]
    d = mean.shape[1]
    means, cov = mean.new_empty(n, d), mean.new_empty(n, d if guide.factorised else packed_size(d))
    for part in slices(n, d):
        here = slice(at.start + part.start, at.start + part.stop) if isinstance(at, slice) else at[part]
        means[part], spread = guide.blocks(site, here)
        cov[part] = spread if guide.factorised else pack(spread)
    return Moments(means, cov, sums_of(means, cov, guide.factorised), guide.factorised)


def write_blocks(guide: Any, site: str, moments: Moments, first: int = 0) -> None:
    """Write a site's blocks from the `first` on, slice by slice."""
    n, d = moments.mean.shape
    for at in slices(n, d):
        mean, cov = moments.mean[at], moments.cov[at].double()
        there = slice(first + at.start, first + at.stop)
        full = cov if moments.factorised else unpack(cov, d)
        try:
            guide.set_blocks(site, mean, full, there)
        except PlatewiseError:  # rare, and looking for it first would take as long as writing
            if moments.factorised:
                raise
            guide.set_blocks(site, mean, definite(full, torch.finfo(moments.cov.dtype).eps), there)


def definite(cov: Float[Tensor, "n d d"], eps: float) -> Float[Tensor, "n d d"]:
    """Covariances; where rounding to `eps` left one indefinite, its correlations' eigenvalues are raised to that."""
    failed = (torch.linalg.cholesky_ex(cov).info > 0) & cov.isfinite().all(-1).all(-1)
    if not failed.any():
        return cov
    scale = cov[failed].diagonal(dim1=1, dim2=2).sqrt()
    outer = scale[:, :, None] * scale[:, None, :]
    values, vectors = torch.linalg.eigh(cov[failed] / outer)
    raised = values.clamp_min(scale.shape[1] * eps)
    cov[failed] = outer * ((vectors * raised[:, None, :]) @ vectors.mT)
    return cov


def scales_of(model: Any) -> Scales:
    """A model's variances."""
    variances: dict[str, Tensor] = {name: x.double().cpu() ** 2 for name, x in model.scales().items()}
    return Scales(variances["user"], variances["item"], float(variances["noise"]), float(variances["mu"]))
