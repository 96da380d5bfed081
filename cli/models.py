"""The models that `fit` makes: which options, guides and algorithms are for which, and what each has by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .algorithms import ALGORITHMS, ESTIMATORS, as_option

OPTIONS = {
    "latent-factor": ("rank", "unstored"),
    "count-factor": ("rank", "likelihood"),
    "vae": ("likelihood", "latent", "hidden", "layers", "batch_key", "covariate", "dispersion", "library"),
}
MODELS = tuple(OPTIONS)
OF_FACTORS = {"mean-field": "MeanFieldNormal", "row-block": "RowBlockNormal"}
GUIDES = {
    "latent-factor": OF_FACTORS,
    "count-factor": OF_FACTORS,
    "vae": {"diagonal": "AmortizedNormal", "full": "AmortizedFullNormal", "flow": "AmortizedFlow"},
}
ALGORITHMS_OF = {"latent-factor": ALGORITHMS, "count-factor": ("svi",), "vae": ("svi",)}
DEFAULTS: dict[str, dict[str, Any]] = {
    "latent-factor": {"guide": "row-block", "algorithm": "coordinate-ascent", "rank": "16"},
    "count-factor": {"guide": "row-block", "algorithm": "svi", "rank": "16", "likelihood": "negative-binomial"},
    "vae": {"guide": "diagonal", "algorithm": "svi", "likelihood": "negative-binomial"},
}


def settled(given: Mapping[str, Any], estimator: str) -> dict[str, Any]:
    """What was given, with the model's defaults.

    Args:
        given: Model, guide, algorithm and the models' options, as far as they were given.
        estimator: How the expected log-likelihood is to be got.

    Raises:
        PlatewiseError: Naming the first that is not known, or that belongs to another model.
    """
    model = given.get("model", MODELS[0])
    _require_known("model", model, MODELS)
    choice = {"model": model, **DEFAULTS[model], **given}
    _require_known("guide", choice["guide"], tuple(GUIDES[model]), f" for --model {model}")
    _require_known("algorithm", choice["algorithm"], ALGORITHMS)
    _require_known("estimator", estimator, ESTIMATORS)
    _require_algorithm(model, choice["algorithm"])
    _require_own_options(model, given)
    return choice


def _require_known(kind: str, name: str, known: tuple[str, ...], what_for: str = "") -> None:
    from ..data.errors import PlatewiseError

    if name not in known:
        raise PlatewiseError(
            f"Expected --{kind} to be one that this release has{what_for} ({', '.join(known)}), got {name!r}. Choose "
            "one."
        )


def _require_algorithm(model: str, algorithm: str) -> None:
    from ..data.errors import PlatewiseError

    if algorithm not in ALGORITHMS_OF[model]:
        raise PlatewiseError(
            f"Expected an algorithm for any model with --model {model}, which has no exact updates, got {algorithm}. "
            f"Say --algorithm {ALGORITHMS_OF[model][0]}."
        )


def _require_own_options(model: str, given: Mapping[str, Any]) -> None:
    from ..data.errors import PlatewiseError

    known = {name for names in OPTIONS.values() for name in names}
    for name in (name for name in given if name in known and name not in OPTIONS[model]):
        others = " or ".join(other for other in MODELS if name in OPTIONS[other])
        raise PlatewiseError(
            f"Expected options of {model} ({', '.join(map(as_option, OPTIONS[model]))}), got {as_option(name)}, which "
            f"belongs to {others}. Leave it out, or say --model {others}."
        )
