"""The posterior of the noise's variance of each entry, as a few values with weights.

Where rows or columns have precisions of their own, an entry's noise has variance sigma^2 exp(-g_i - h_j). Of rows and
columns that the fit knows, g and h are normal, and so is their sum: one Gauss rule of the standard normal serves all
entries. Of new ones they are logarithms of gamma variables, the prior's, which have a rule of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from ..inference.factor_modules import precision_sites
from ..models.log_gamma import LogGamma
from .blocks import Block
from .gauss_rules import Rule, log_gamma_rule, normal_rule

OF_NORMAL = 16  # points: log densities down to 1e-6 are right to 2e-4 where g + h has sd 0.6, 5e-3 at 1.15
BESIDE_NEW = 6  # points where the other side is new, and much less certain
OF_PRIOR = 16


@dataclass(frozen=True, eq=False)
class NoiseLaw:
    """Variances of the noise of each entry, (e, k), and how much each of the k counts, (k,)."""

    variance: Float[np.ndarray, "e k"]
    weight: Float[np.ndarray, " k"]

    def scaled(self, factor: Float[np.ndarray, " e"]) -> NoiseLaw:
        """The same with standard deviations times a factor for each entry."""
        return replace(self, variance=self.variance * factor[:, None] ** 2)


def has_uncertain_noise(model: Any) -> bool:
    """Whether the noise of a model's entries has a posterior of its own."""
    return any(precision_sites(model))


def noise_law(model: Any, block: Block, q: Mapping[str, Distribution]) -> NoiseLaw | None:
    """The law of the noise of a block's entries; None where all entries have one noise, which is known.

    Args:
        model: A model whose log precisions, if any, are of rows or columns, and sigma is the scale "noise".
        block: The entries.
        q: Independent sites; log precisions are normal, or the prior's.
    """
    if not has_uncertain_noise(model):
        return None
    places = zip(precision_sites(model), (block.batch.row, block.batch.col), strict=True)
    sides = [(q[name], at) for name, at in places if name is not None]
    known = [(side, at) for side, at in sides if not isinstance(side, LogGamma)]
    rules = [log_gamma_rule(_shape(side), OF_PRIOR) for side, _ in sides if isinstance(side, LogGamma)]
    mean, sd = np.zeros(len(block.at)), np.zeros(len(block.at))
    for side, at in known:
        mean, sd = mean + _numpy(side.mean[at]), np.hypot(sd, _numpy(side.stddev[at]))
    normal = normal_rule(BESIDE_NEW if rules else OF_NORMAL) if known else Rule(np.zeros(1), np.ones(1))
    log_precision, weight = mean[:, None] + sd[:, None] * normal.point, normal.weight
    for rule in rules:
        log_precision = (log_precision[:, :, None] + rule.point).reshape(len(mean), -1)
        weight = np.outer(weight, rule.weight).ravel()
    return NoiseLaw(float(model.scales()["noise"]) ** 2 * np.exp(-log_precision), weight)


def _shape(prior: Any) -> float:
    """Shape of a side's prior, which its rows have in common."""
    return float(prior.concentration.flatten()[0])


def _numpy(x: Tensor) -> Float[np.ndarray, " e"]:
    return x.double().cpu().numpy()
