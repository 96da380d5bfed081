"""Going on with a fit that was interrupted or cut off, in place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .algorithms import RESUMABLE, as_option, option_names, run
from .loaded import load_run

if TYPE_CHECKING:
    from ..inference import Fitted


def refuse_with_resume(given: Mapping[str, Any]) -> None:
    """Check that no setting is given again.

    Args:
        given: Settings by name; None where they are not given.

    Raises:
        PlatewiseError: Naming the first that is.
    """
    from ..data.errors import PlatewiseError

    for name in (name for name, value in given.items() if value is not None):
        raise PlatewiseError(
            f"Expected --resume with the settings of the interrupted fit, got {as_option(name)} as well. "
            "Leave it out, or fit again into another run directory."
        )


def go_on(made: Path, data: Path | None, device: str, trust: bool, max_epochs: int | None) -> Fitted:
    """Take a fit up where it stopped, by its own algorithm; one that is done is left as it is.

    Args:
        made: The run directory.
        data: The training .h5ad, if not where it was.
        device: Where to fit.
        trust: Whether source that the run holds may be run.
        max_epochs: Epochs at most, in place of those that it was allowed; more of them let one go on that they cut off.

    Raises:
        PlatewiseError: If it cannot be gone on with, or not for more epochs.
    """
    from ..data.writing import require_space
    from ..inference.run_directory import read_config, save
    from .training import as_fitted

    earlier = load_run(made, device, trust)
    if max_epochs is not None:
        _require_cap(earlier)
    more = max_epochs not in (None, earlier.options.get("max_epochs"))
    if earlier.converged is not False or (earlier.ran_out and not more):
        typer.echo(f"{made}: nothing to go on with: {earlier.stopped}", err=True)
        return earlier
    config = read_config(made)
    data = _data_of(earlier, made, data)
    from_disk: bool = config["data"]["from_disk"]
    require_space(made, sum(config["files"].values()))
    settings: dict[str, Any] = {"seed": earlier.seed, "device": device, "dtype": earlier.dtype, "resume": earlier}
    settings |= _options_of(earlier, max_epochs) | _covariates_of(earlier)
    matrix = data if from_disk else as_fitted(earlier, data)
    fitted = run(earlier.algorithm, earlier.model, earlier.guide, matrix, **settings)
    fitted.meaning = earlier.meaning
    save(fitted, made, force=True, data=data, from_disk=from_disk)
    return fitted


def _options_of(earlier: Fitted, max_epochs: int | None) -> dict[str, Any]:
    """A fit's options as its algorithm takes them today."""
    from ..inference.resume import CAP, saved_options

    return saved_options(earlier, option_names(earlier.algorithm)) | ({CAP: max_epochs} if max_epochs else {})


def _require_cap(earlier: Fitted) -> None:
    """Check that a fit goes on until it has converged, or `max_epochs` are done."""
    from ..data.errors import PlatewiseError

    if earlier.options.get("until") != "converged":
        raise PlatewiseError(
            "Expected --max-epochs with --resume of a fit --until converged, got one by another rule. Leave it out."
        )


def _covariates_of(earlier: Fitted) -> dict[str, Any]:
    """The columns of obs that a fit read covariates off, as its algorithm takes them."""
    from ..data.errors import PlatewiseError

    arrays = [name for name, about in earlier.covariates.items() if "column" not in about]
    if arrays:
        raise PlatewiseError(
            f"Expected covariates from columns of obs to go on with a fit here, got arrays for {', '.join(arrays)}. Go "
            "on in Python: svi.fit(..., covariates={...}, resume=Fitted.load(RUN))."
        )
    columns = {name: about["column"] for name, about in earlier.covariates.items()}
    return {"covariates": columns} if columns else {}


def _data_of(earlier: Fitted, made: Path, data: Path | None) -> Any:
    """The training data of a fit that can be gone on with."""
    from ..data.errors import PlatewiseError
    from .program import command
    from .training import require_training

    if earlier.algorithm not in RESUMABLE:
        raise PlatewiseError(
            f"Expected a fit by {' or '.join(RESUMABLE)} to go on with, got one by {earlier.algorithm}. Fit again."
        )
    how = f"`{command('fit')} DATA --resume {made}`"
    return require_training(data or earlier.data, made, "to go on with the fit", how)
