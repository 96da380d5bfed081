"""A new fit: what was asked for, checked as far as it can be before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .algorithms import require_own_options, run, settings_of
from .made import count_factor, latent_factor
from .made_vae import vae
from .models import algorithms_of, settled
from .own_file import is_own
from .own_model import own_model

if TYPE_CHECKING:
    from ..inference import Fitted

MAKE = {"latent-factor": latent_factor, "count-factor": count_factor, "vae": vae}


def begin(
    given: dict[str, Any], options: dict[str, Any], data: Path, made: Path, from_disk: bool, settings: dict[str, Any]
) -> Fitted:
    """Fit a model to data.

    Args:
        given: Model, guide, algorithm and the models' options, as far as they were given.
        options: The algorithms' options, likewise.
        data: The .h5ad.
        made: The run directory to be made.
        from_disk: Whether to stream the data.
        settings: Seed and device.

    Raises:
        PlatewiseError: If something does not fit the rest.
    """
    from ..data.writing import require_space

    choice = settled(given, options.get("estimator", "auto"))
    require_own_options(choice["algorithm"], options, from_disk, algorithms_of(choice["model"]))
    todo = MAKE.get(choice["model"], own_model)(choice, options, data, from_disk)
    require_space(made, todo.size)
    settings = settings | settings_of(todo.options) | ({"covariates": todo.covariates} if todo.covariates else {})
    fitted = run(choice["algorithm"], todo.model, todo.guide, todo.take(), **settings)
    return fitted if _takes_counts(choice, fitted, data) else _said_how_normalised(fitted)


def _takes_counts(choice: dict[str, Any], fitted: Fitted, data: Path) -> bool:
    """Whether entries were taken as counts, and nobody's as normalised."""
    from ..data.preparation import is_expression
    from .matrix import holds_counts

    if is_own(choice["model"]):
        return is_expression(fitted.meaning) and holds_counts(data)
    return choice.get("likelihood", "gaussian") != "gaussian"


def _said_how_normalised(fitted: Fitted) -> Fitted:
    """A fit that says how its entries were normalised; streamed ones were taken as the file has them."""
    from ..data.normalise import ELSEWHERE, NORMALISED
    from ..data.preparation import is_expression

    if is_expression(fitted.meaning):
        fitted.meaning.setdefault(NORMALISED, ELSEWHERE)
    return fitted
