"""The models that `fit` makes: which options, guides and algorithms are for which, and what each has by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .algorithms import ALGORITHMS, ESTIMATORS, as_option
from .families import AUTO, LOCALS, NAMES, require_family
from .own_file import is_own

OPTIONS = {
    "latent-factor": ("rank", "unstored", "noise"),
    "count-factor": ("rank", "likelihood"),
    "vae": ("likelihood", "latent", "hidden", "layers", "batch_key", "covariate", "dispersion", "library"),
}
MODELS = tuple(OPTIONS)
OWN = "FILE.py:NAME"  # a model of a person's own
OF_VAE = {"diagonal": "AmortizedNormal", "full": "AmortizedFullNormal", "flow": "AmortizedFlow"}
GUIDES: dict[str, tuple[str, ...]] = {"latent-factor": NAMES, "count-factor": NAMES, "vae": tuple(OF_VAE)}
ALGORITHMS_OF: dict[str, tuple[str, ...]] = {
    "latent-factor": ALGORITHMS,
    "count-factor": ("svi",),
    "vae": ("svi",),
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "latent-factor": {"guide": "row-block", "algorithm": "coordinate-ascent", "rank": "16"},
    "count-factor": {"guide": "row-block", "algorithm": "svi", "rank": "16", "likelihood": "negative-binomial"},
    "vae": {"guide": "diagonal", "algorithm": "svi", "likelihood": "negative-binomial"},
}
DEFAULTS_OF_OWN = {"guide": AUTO, "algorithm": "svi"}
FOR_OWN = ("covariate", "set")  # options of models that one's own have, too


def settled(given: Mapping[str, Any], estimator: str) -> dict[str, Any]:
    """What was given, with the model's defaults.

    Args:
        given: Model, guide, algorithm and the models' options, as far as they were given.
        estimator: How the expected log-likelihood is to be got.

    Raises:
        PlatewiseError: Naming the first that is not known, or that belongs to another model.
    """
    model = given.get("model", MODELS[0])
    if not is_own(model):
        _require_known("model", model, (*MODELS, OWN))
    choice = {"model": model, **DEFAULTS.get(model, DEFAULTS_OF_OWN), **given}
    _require_known("algorithm", choice["algorithm"], ALGORITHMS)
    _require_guide(model, choice["guide"], choice["algorithm"])
    _require_known("estimator", estimator, ESTIMATORS)
    _require_algorithm(model, choice["algorithm"])
    (_require_options_for_own if is_own(model) else _require_own_options)(model, given)
    return choice


def algorithms_of(model: str) -> tuple[str, ...]:
    """The algorithms that a model can be fitted by."""
    return ALGORITHMS_OF.get(model, ("svi",))


def _require_guide(model: str, guide: str, algorithm: str) -> None:
    """Check that there is such a guide, and that the algorithm is for it: exact updates are of blocks."""
    from ..data.errors import PlatewiseError

    if model == "vae":
        _require_known("guide", guide, GUIDES[model], f" for --model {model}")
        return
    require_family(guide, model)
    if algorithm != "svi" and guide not in LOCALS:
        raise PlatewiseError(
            f"Expected --guide {' or '.join(LOCALS)} with --algorithm {algorithm}, got {guide!r}, which svi alone "
            "fits. Say --algorithm svi."
        )


def _require_known(kind: str, name: str, known: tuple[str, ...], what_for: str = "") -> None:
    from ..data.errors import PlatewiseError

    if name not in known:
        raise PlatewiseError(
            f"Expected --{kind} to be one that this release has{what_for} ({', '.join(known)}), got {name!r}. Choose "
            "one."
        )


def _require_algorithm(model: str, algorithm: str) -> None:
    from ..data.errors import PlatewiseError

    if algorithm not in algorithms_of(model):
        raise PlatewiseError(
            f"Expected an algorithm for any model with --model {model}, which has no exact updates, got {algorithm}. "
            f"Say --algorithm {algorithms_of(model)[0]}."
        )


def _require_own_options(model: str, given: Mapping[str, Any]) -> None:
    from ..data.errors import PlatewiseError

    if "set" in given:
        raise PlatewiseError(
            f"Expected --set with a model of one's own (--model {OWN}), got it with {model}. Use its options: "
            f"{', '.join(map(as_option, OPTIONS[model]))}."
        )
    known = {name for names in OPTIONS.values() for name in names}
    for name in (name for name in given if name in known and name not in OPTIONS[model]):
        others = " or ".join(other for other in MODELS if name in OPTIONS[other])
        raise PlatewiseError(
            f"Expected options of {model} ({', '.join(map(as_option, OPTIONS[model]))}), got {as_option(name)}, which "
            f"belongs to {others}. Leave it out, or say --model {others}."
        )


def _require_options_for_own(model: str, given: Mapping[str, Any]) -> None:
    """Check that a model of a person's own is not given the options of one of ours."""
    from ..data.errors import PlatewiseError

    of_ours = {name for names in OPTIONS.values() for name in names}.difference(FOR_OWN)
    for name in (name for name in given if name in of_ours):
        others = " or ".join(other for other in MODELS if name in OPTIONS[other])
        instead = "--covariate COLUMN" if name == "batch_key" else f"--set {name}=VALUE, if {model} takes it"
        raise PlatewiseError(
            f"Expected --set NAME=VALUE for settings of {model}, got {as_option(name)}, which belongs to {others}. Say "
            f"{instead}."
        )
