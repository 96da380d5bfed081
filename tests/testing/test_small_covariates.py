"""A model that says what covariates it takes is tested with small ones of them."""

from typing import ClassVar

import numpy as np
import pyro
import pyro.distributions as dist
from platewise.data import RowBatch
from platewise.guides import MeanFieldNormal
from platewise.inference.covariates import require_taken
from platewise.testing.contract import ContractTests
from platewise.testing.small_data import small_covariates
from torch import nn

from ..inference.broken_models import Levels


class ReadsCovariates(nn.Module):
    """Levels of rows around what their group, their age and two scores say."""

    covariates: ClassVar = {"categories": {"group": 3}, "continuous": {"age": 1, "scores": 2}}

    def forward(self, batch: RowBatch) -> None:
        zeros = batch.value.new_zeros(3)
        weight = pyro.sample("weight", dist.Normal(zeros, 1.0).to_event(1))
        group = pyro.sample("group", dist.Normal(zeros, 1.0).to_event(1))
        known = batch.covariates
        told = weight[..., :1] * known["age"] + (weight[..., None, 1:] * known["scores"]).sum(-1)
        with batch.row_plate("rows"):
            level = pyro.sample("level", dist.Normal(told + group[..., known["group"]], 1.0))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(batch.at_rows(level, 0), 1.0), obs=batch.value)


class TestReadsCovariates(ContractTests):
    model, guide = ReadsCovariates, MeanFieldNormal
    global_sites = ("weight", "group")


def test_they_are_what_the_model_takes() -> None:
    model, arrays = ReadsCovariates(), TestReadsCovariates().make_covariates()
    require_taken(model, arrays)
    assert {name: x.shape for name, x in arrays.items()} == {"group": (40,), "age": (40,), "scores": (40, 2)}
    assert np.bincount(arrays["group"]).tolist() == [14, 13, 13]
    assert set(small_covariates(model, 2)["group"]) <= {0, 1, 2}


def test_they_are_the_same_at_every_call() -> None:
    once, again = (small_covariates(ReadsCovariates(), 20) for _ in range(2))
    for name, x in once.items():
        np.testing.assert_array_equal(x, again[name])


def test_a_model_that_does_not_say_has_none() -> None:
    assert small_covariates(Levels(), 20) == {}
    assert small_covariates(lambda batch: None, 20) == {}
