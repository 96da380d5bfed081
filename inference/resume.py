"""Going on with a fit that was interrupted or cut off: only with the same model, guide, data, options and seed."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.errors import PlatewiseError
from ..data.loader import RowLoader
from ..data.row_subset import RowSubset
from .fitted import Fitted
from .obs_columns import MOST_NAMED

CAP = "max_epochs"  # the one option that may be another: it says when a fit is cut off, and nothing of its steps
THEN: dict[str, Any] = {  # what fits did that were made before there was such an option
    **{"weight_decay": 0.0, "kl_warmup": 0.0, "validation": 0.0},
    **{"min_steps": None, "max_steps": None, "patience": None},
    **{"until": "epochs", CAP: 500},
}


def inputs_of(loader: RowLoader) -> Tensor:
    """Digest, as one int64, of how a fit reads its rows: memory or disk, precision, covariates."""
    digest = hashlib.blake2b(digest_size=7)
    source = loader.source.source if isinstance(loader.source, RowSubset) else loader.source
    digest.update(f"{type(source).__name__} {loader.dtype}".encode())
    for name, values in sorted(loader.covariates.items()):
        digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
    return torch.tensor(int.from_bytes(digest.digest(), "big"))


def require_same_fit(
    earlier: Fitted, algorithm: str, options: Mapping[str, Any], loader: RowLoader, fingerprint: str
) -> None:
    """Check that a fit can go on from an earlier one.

    Raises:
        PlatewiseError: If it was another fit, or there is nothing to go on with.
    """
    if not earlier.state:
        raise PlatewiseError("Expected a fit with its optimiser's state, got one without. Fit again.")
    if earlier.algorithm != algorithm:
        raise PlatewiseError(
            f"Expected a fit by {algorithm} to go on with, got one by {earlier.algorithm}. Go on with it by that."
        )
    if earlier.fingerprint != fingerprint:
        raise PlatewiseError(
            "Expected the data that the fit was made on, got others (fingerprints differ). Give those."
        )
    if earlier.seed != loader.seed:
        raise PlatewiseError(
            f"Expected the seed of the interrupted fit, {earlier.seed}, got {loader.seed}. Leave seed as it was."
        )
    _require_same_options(earlier, options)
    if int(earlier.state["inputs"]) != int(inputs_of(loader)):
        raise PlatewiseError(
            "Expected rows read as in the interrupted fit, got another source (memory or disk), precision or "
            "covariates. Give the same."
        )


def saved_options(earlier: Fitted, known: Collection[str]) -> dict[str, Any]:
    """Options of an earlier fit; those that there were not yet say what it then did.

    Args:
        earlier: The fit.
        known: Names of its algorithm's options today.

    Raises:
        PlatewiseError: If it has an option that there is not today.
    """
    if unknown := sorted(set(earlier.options) - set(known)):
        raise PlatewiseError(
            f"Expected a fit whose options this version has, got one with {', '.join(unknown)}. Go on with it in the "
            "version that made it, or fit again."
        )
    return {name: x for name, x in THEN.items() if name in known} | earlier.options


def _require_same_options(earlier: Fitted, options: Mapping[str, Any]) -> None:
    before = saved_options(earlier, options)
    if _without_cap(before) != _without_cap(options):
        raise PlatewiseError(
            f"Expected the options of the interrupted fit, {before}, got {dict(options)}. Leave them as they were."
        )
    done = len(earlier.history)
    if options.get("until") == "converged" and options[CAP] != before[CAP] and options[CAP] <= done:
        raise PlatewiseError(
            f"Expected {CAP} above {done}, the epochs that the fit has done, got {options[CAP]}. Give more to go on."
        )


def _without_cap(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != CAP}


def require_same_covariates(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that columns of obs have the levels and units of an interrupted fit: codes alone do not tell.

    Args:
        earlier: What the interrupted fit recorded of its covariates.
        now: What is recorded of them now.

    Raises:
        PlatewiseError: Naming the first that has others.
    """
    for name, about in now.items():
        before = earlier.get(name, {})
        for what in ("levels", "mean", "sd"):
            if {what} <= set(before) & set(about) and before[what] != about[what]:
                raise PlatewiseError(
                    f"Expected covariate {name!r} with the {what} of the interrupted fit, {_short(before[what])}, got "
                    f"{_short(about[what])}. Give the column as it was."
                )


def _short(value: Any) -> str:
    return ", ".join(map(str, value[:MOST_NAMED])) if isinstance(value, list) else f"{value:g}"


def take_up(module: nn.Module, earlier: nn.Module) -> None:
    """Give a module the parameters of an earlier one like it.

    Raises:
        PlatewiseError: If they are not alike.
    """
    try:
        module.load_state_dict(earlier.state_dict())
    except RuntimeError as error:
        raise PlatewiseError(
            f"Expected a {type(earlier).__name__} like that of the interrupted fit, got another "
            f"{type(module).__name__}. Make it with the same settings."
        ) from error
