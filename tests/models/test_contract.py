"""The contract, over every model and guide, and over a model and a guide that are not ours."""

from functools import cache
from typing import ClassVar

import anndata as ad
from platewise.data import mark, simulate_ratings
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.models import LatentFactor
from platewise.testing.contract import ContractTests
from pyro.infer.autoguide import AutoNormal

from ..regression_model import Regression, RegressionGuide, regression_data

GIVEN = {"sigma": 0.5, "user_scale": 0.4, "item_scale": [0.3, 0.6, 0.5]}


@cache
def ratings() -> ad.AnnData:
    return simulate_ratings(LatentFactor(2, **GIVEN), 40, 15, 200, given={"mu": 3.5})[0]


class LatentFactorContract(ContractTests):
    global_sites = ("mu", "item")
    make_data = staticmethod(ratings)


class TestLearnedScalesMeanField(LatentFactorContract):
    make_model = staticmethod(lambda: LatentFactor(2))
    make_guide = MeanFieldNormal


class TestLearnedScalesRowBlock(LatentFactorContract):
    make_model = staticmethod(lambda: LatentFactor(2))
    make_guide = RowBlockNormal


class TestGivenScalesMeanField(LatentFactorContract):
    make_model = staticmethod(lambda: LatentFactor(2, **GIVEN))
    make_guide = MeanFieldNormal


class TestGivenScalesRowBlock(LatentFactorContract):
    make_model = staticmethod(lambda: LatentFactor(2, **GIVEN))
    make_guide = RowBlockNormal


class TestSampledLikelihood(TestLearnedScalesRowBlock):
    options: ClassVar = {"likelihood": "sampled", "particles": 3}


class ObservedZerosContract(LatentFactorContract):
    make_model = staticmethod(lambda: LatentFactor(2, unstored="zero"))

    def make_data(self) -> ad.AnnData:
        return mark(ratings().copy(), unstored="zero")


class TestObservedZerosMeanField(ObservedZerosContract):
    make_guide = MeanFieldNormal


class TestObservedZerosRowBlock(ObservedZerosContract):
    make_guide = RowBlockNormal


class TestObservedZerosSampled(TestObservedZerosRowBlock):
    options: ClassVar = {"likelihood": "sampled", "particles": 3}


class RegressionContract(ContractTests):
    global_sites = ("slope", "group_scale")
    make_model = Regression

    def make_data(self) -> ad.AnnData:
        return regression_data()[0]

    def make_covariates(self) -> dict:
        return regression_data()[1]


class TestRegressionMeanField(RegressionContract):
    make_guide = MeanFieldNormal


class TestRegressionRowBlock(RegressionContract):
    make_guide = RowBlockNormal


class TestRegressionGuideByHand(RegressionContract):
    def make_guide(self) -> RegressionGuide:
        return RegressionGuide(60)


class TestRegressionAutoNormal(RegressionContract):
    """Pyro's own automatic guide, told to subsample rows as the batch does."""

    def make_guide(self) -> AutoNormal:
        return AutoNormal(self.make_model(), create_plates=lambda batch: batch.row_plate("groups"))
