"""A model and a guide made for data, with all that an algorithm needs beside them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .algorithms import OF_THE_GUIDE, OF_WHOLE_ROWS
from .families import family
from .rank import AUTO, AUTO_OPTIONS, rank_of, require_prunes
from .values import require_values, taken

if TYPE_CHECKING:
    import anndata as ad
    from torch import nn

CONSTANT = "constant"  # noise, if none is given
BYTES_PER_NAME = 64  # of a row or column, with its side columns


@dataclass
class Made:
    """What is to be fitted.

    Attributes:
        model: The model.
        guide: Its guide.
        take: Reads the data; or gives the path, where they are streamed.
        options: The algorithm's options.
        size: Bytes that the fit will take on disk, about.
        covariates: Columns of obs by the names that the model has for them.
    """

    model: nn.Module
    guide: nn.Module
    take: Callable[[], ad.AnnData | Path]
    options: dict[str, Any]
    size: int
    covariates: dict[str, str] = field(default_factory=dict)


def size_on_disk(shape: tuple[int, int], numbers: int) -> int:
    """Bytes of names, and of parameters with two moments each."""
    return sum(shape) * BYTES_PER_NAME + numbers * 3 * 4


def latent_factor(choice: dict[str, Any], options: dict[str, Any], data: Path, from_disk: bool) -> Made:
    """The latent factor model of ratings, or of cells.

    Raises:
        PlatewiseError: If it is not for these data, or the rank is not.
    """
    from ..models import LatentFactor
    from .matrix import said_by, size_of

    algorithm = choice["algorithm"]
    if choice["rank"] == AUTO:
        require_prunes(algorithm)
        options = AUTO_OPTIONS[algorithm] | options
    shape, n_entries = size_of(data)
    unstored = choice.get("unstored") or said_by(data)
    if unstored == "zero":
        options = OF_WHOLE_ROWS.get(algorithm, {}) | options
    rank = rank_of(choice["rank"], shape, shape[0] * shape[1] if unstored == "zero" else n_entries)
    noise = choice.get("noise", CONSTANT)
    _require_noise(noise, algorithm)
    model = LatentFactor(rank, unstored=unstored, noise=noise)
    guide = family(choice["guide"], hold_rows=OF_THE_GUIDE not in options)
    _require_fits(data, unstored, algorithm, from_disk)
    kept = shape[0] * getattr(guide, "hold_rows", True) + shape[1]
    numbers = _width(guide, rank + 1) * kept
    return Made(model, guide, partial(_taken, data, unstored, from_disk), options, size_on_disk(shape, numbers))


def count_factor(choice: dict[str, Any], options: dict[str, Any], data: Path, from_disk: bool) -> Made:
    """The latent factor model of counts.

    Raises:
        PlatewiseError: If the file holds no counts, or the rank is not for it.
    """
    from ..data.errors import PlatewiseError
    from ..models import CountFactor
    from .matrix import size_of

    if choice["rank"] == AUTO:
        raise PlatewiseError("Expected a number for --rank with --model count-factor, got auto. Choose, say, 16.")
    shape, _ = size_of(data)
    rank, likelihood = rank_of(choice["rank"], shape, 0), choice["likelihood"]
    model, guide = CountFactor(rank, likelihood), family(choice["guide"])
    require_values(data, "count-factor", likelihood, from_disk)
    size = size_on_disk(shape, _width(guide, rank + 1) * sum(shape))
    return Made(model, guide, partial(taken, data, likelihood, from_disk), options, size)


def _width(guide: nn.Module, d: int) -> int:
    """Numbers that describe a row or column of `d` dimensions; the most, of a guide that does not say."""
    from ..guides import RowBlockNormal

    width: int = getattr(guide, "width", RowBlockNormal().width)(d)
    return width


def _require_fits(data: Path, unstored: str, algorithm: str, from_disk: bool) -> None:
    """Check that a file may be taken so, by this algorithm."""
    from ..data.errors import PlatewiseError
    from ..data.preparation import require_takeable
    from .matrix import require_streamable, said_by

    require_takeable(said_by(data), unstored)
    if algorithm == "natural-gradient" and unstored == "zero":
        raise PlatewiseError(
            "Expected entries not stored to be missing for natural-gradient, got observed zeros. Say --algorithm "
            "coordinate-ascent, or svi."
        )
    if from_disk:
        require_streamable(data, unstored)


def _require_noise(noise: str, algorithm: str) -> None:
    """Check that an algorithm is for noise of rows or columns."""
    from ..data.errors import PlatewiseError

    if noise != CONSTANT and algorithm == "natural-gradient":
        raise PlatewiseError(
            f"Expected --noise {CONSTANT} for natural-gradient, got {noise}. Say --algorithm coordinate-ascent, or svi."
        )


def _taken(data: Path, unstored: str, from_disk: bool) -> ad.AnnData | Path:
    from ..data.preparation import prepared
    from ..data.storage import read_h5ad

    return data if from_disk else prepared(read_h5ad(data), unstored)
