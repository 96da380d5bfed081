"""The noise of entries as a calibration split would have it, where a fit was recalibrated."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch.distributions import Normal

from ..data.errors import PlatewiseError
from ..data.source import COUNT
from ..inference.fitted import Fitted
from .blocks import Block
from .noise_law import has_uncertain_noise


def noise_factors(fitted: Fitted, block: Block) -> Float[np.ndarray, " e"]:
    """Factor on the standard deviation of each entry's noise: 1 without recalibration; new rows have 0 entries."""
    if fitted.recalibration is None:
        return np.ones(len(block.at))
    counts = fitted.obs[COUNT].to_numpy()
    code = block.batch.rows[block.batch.row].cpu().numpy()
    return fitted.recalibration.of(np.where(code < len(counts), counts[np.minimum(code, len(counts) - 1)], 0))


def recalibrated(site: dict[str, Any], fitted: Fitted, block: Block) -> dict[str, Any]:
    """An observed site of entries with its noise recalibrated, if that of the fit was.

    Raises:
        PlatewiseError: If its distribution is no normal.
    """
    if fitted.recalibration is None:
        return site
    fn = site["fn"]
    if not isinstance(fn, Normal):
        raise PlatewiseError(
            f"Expected a normal likelihood to recalibrate the noise of, got {type(fn).__name__}. Read the fit out as "
            "it was before."
        )
    factor = torch.from_numpy(noise_factors(fitted, block)).to(fn.scale)
    return site | {"fn": Normal(fn.loc, fn.scale * factor)}


def predictive_in_words(fitted: Fitted, closed: bool) -> str:
    """What kind of predictive distribution figures are of."""
    mixed = closed and has_uncertain_noise(fitted.model)
    kind = (
        ("moment-matched normals mixed over the noise" if mixed else "moment-matched normal") if closed else "sampled"
    )
    return kind if fitted.recalibration is None else f"{kind}, {fitted.recalibration.in_words()}"
