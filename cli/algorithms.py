"""The algorithms that `fit` runs, and which of its options are for which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import anndata as ad
    from torch import nn

    from ..inference import Fitted

OPTIONS = {
    "coordinate-ascent": ("sweeps", "tolerance"),
    "natural-gradient": ("passes", "batch_rows", "drop_users"),
    "svi": (
        *("epochs", "until", "max_epochs", "batch_rows", "learning_rate"),
        *("estimator", "validation", "patience"),
    ),
}
ALGORITHMS = tuple(OPTIONS)
OF_WHOLE_ROWS: dict[str, dict[str, Any]] = {  # all entries of a row make a bound that factors move little
    "coordinate-ascent": {"sweeps": 300, "tolerance": 1e-7},
}
STREAMING = ("natural-gradient", "svi")  # these read DATA a batch at a time, from disk if they are to
RESUMABLE = ("coordinate-ascent", "svi")
OF_THE_GUIDE = "drop_users"  # the one option that is the guide's
ESTIMATORS = ("auto", "closed-form", "sampled")


def require_own_options(
    algorithm: str, given: Mapping[str, Any], from_disk: bool, among: tuple[str, ...] = ALGORITHMS
) -> None:
    """Check that the options given are those of the algorithm.

    Args:
        algorithm: The algorithm.
        given: The options given, by name.
        from_disk: Whether data are to be streamed.
        among: The algorithms that the model has.

    Raises:
        PlatewiseError: Naming the first that is not, and the algorithms that it belongs to.
    """
    from ..data.errors import PlatewiseError

    own = ", ".join(map(as_option, OPTIONS[algorithm]))
    for name in (name for name in given if name not in OPTIONS[algorithm]):
        others = " or ".join(other for other in ALGORITHMS if name in OPTIONS[other])
        instead = " or ".join(other for other in among if name in OPTIONS[other])
        raise PlatewiseError(
            f"Expected options of {algorithm} ({own}), got {as_option(name)}, which belongs to {others}. Leave it out"
            + (f", or say --algorithm {instead}." if instead else ".")
        )
    if from_disk and algorithm not in STREAMING:
        raise PlatewiseError(
            f"Expected data in memory for {algorithm}, which reads all of them in every sweep, got --from-disk. Leave "
            f"it out, or say --algorithm {' or '.join(STREAMING)}."
        )


def as_option(name: str) -> str:
    """An option as it is typed."""
    return f"--{name.replace('_', '-')}"


def run(algorithm: str, model: nn.Module, guide: nn.Module, data: ad.AnnData | Path, **settings: Any) -> Fitted:
    """Run an algorithm on data.

    Args:
        algorithm: The algorithm.
        model: The model.
        guide: The guide.
        data: The matrix, or the .h5ad to stream.
        **settings: What its `fit` takes.
    """
    fitted: Fitted = _module(algorithm).fit(model, guide, data, **settings)
    return fitted


def option_names(algorithm: str) -> list[str]:
    """Names of all options that an algorithm has, of the command line or not."""
    return [field.name for field in fields(_module(algorithm).Options)]


def _module(algorithm: str) -> Any:
    return import_module(f"..inference.{algorithm.replace('-', '_')}", __package__)


def settings_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """An algorithm's options of the command line as its `fit` names them."""
    renamed = {"estimator": "likelihood"}
    return {renamed.get(name, name): value for name, value in given.items() if name != OF_THE_GUIDE}
