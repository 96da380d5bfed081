"""Fits like a fit: its model and guide made anew, by its algorithm with its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Literal

import anndata as ad
from torch import nn

from ..data.errors import PlatewiseError
from ..inference.contract import Program
from ..inference.fitted import Fitted
from ..inference.rebuild import made_by
from .covariates import Covariates, covariates_of

ALGORITHMS = {"svi": "svi", "coordinate-ascent": "coordinate_ascent", "natural-gradient": "natural_gradient"}


def made_anew(module: nn.Module, kind: Literal["model", "guide"]) -> nn.Module:
    """A module made with the settings of another one, with parameters of its own that nothing has trained.

    Raises:
        PlatewiseError: If its settings are not known.
    """
    if isinstance(module, Program):
        return Program(module.function)
    called, settings = made_by(module)
    if settings is None:
        raise PlatewiseError(
            f"Expected a {kind} that can be made again, got {type(module).__name__}, whose settings are not known. "
            "Give it an attribute `config`, a dict of the arguments that it was made with."
        )
    own = {name: made_anew(x, kind) if isinstance(x, nn.Module) else x for name, x in settings.items()}
    made: nn.Module = called(**own)
    return made


def refit(
    fitted: Fitted,
    model: nn.Module,
    guide: nn.Module,
    data: ad.AnnData,
    seed: int,
    *,
    covariates: Covariates | None = None,
    **changed: Any,
) -> Fitted:
    """Fit a model and a guide by a fit's algorithm, with its options, precision and covariates.

    Args:
        fitted: The fit whose algorithm it is.
        model: The model.
        guide: The guide.
        data: The matrix.
        seed: Seed of the new fit.
        covariates: Covariates of the rows; those that the fit read off columns of obs need not be given.
        **changed: Options that are to differ.
    """
    about: dict[str, Any] = {}
    if fitted.covariates:
        about["covariates"] = covariates_of(fitted, covariates, data.obs)
    fit = _algorithm(fitted.algorithm)
    options = _options(fitted.options) | changed
    device = str(fitted.device)
    found: Fitted = fit(
        model, guide, data, seed=seed, device=device, dtype=fitted.dtype, progress=False, **about, **options
    )
    return found


def _algorithm(name: str) -> Callable[..., Fitted]:
    if name not in ALGORITHMS:
        raise PlatewiseError(
            f"Expected a fit by one of {sorted(ALGORITHMS)}, got one by {name!r}. Fit it again by hand."
        )
    fit: Callable[..., Fitted] = import_module(f"platewise.inference.{ALGORITHMS[name]}").fit
    return fit


def _options(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Options as they were given: a run directory has lists for pairs."""
    return {name: tuple(x) if isinstance(x, list) else x for name, x in recorded.items()}


def without_training(model: nn.Module) -> nn.Module:
    """The same model, changed in place, with all of its parameters given: none is learned."""
    for part in model.modules():
        for name, x in list(part._parameters.items()):
            if x is not None and not hasattr(part, "_pyro_params"):
                del part._parameters[name]
                part.register_buffer(name, x.detach().clone())
    for x in model.parameters():  # of Pyro's own modules, which find their parameters by name
        x.requires_grad_(False)
    return model
