"""Every joint family, small, with the data that they are tried on."""

from functools import cache, partial

import anndata as ad
import pytest
from platewise.data import RowBatch
from platewise.guides import Flow, FullNormal, LowRankNormal, MixtureOfNormals
from torch import nn

from .hierarchy import hierarchy_data

FAMILIES = {
    "full": FullNormal,
    "low-rank": LowRankNormal,
    "mixture": partial(MixtureOfNormals, 2),
    "flow": partial(Flow, units=8),
}
EVERY = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)


@cache
def data() -> ad.AnnData:
    return hierarchy_data()


def made(make, model: nn.Module, shape: tuple[int, int] = (12, 4)) -> nn.Module:
    guide = make()
    guide.setup(model, RowBatch.blank(*shape))
    return guide.double()
