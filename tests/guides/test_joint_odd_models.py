"""What joint guides do with unusual models, and what they refuse."""

from functools import partial

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import PlatewiseError, RowBatch, simulate_ratings
from platewise.guides import (
    Flow,
    FullNormal,
    LowRankNormal,
    MeanFieldNormal,
    MixtureOfNormals,
)
from platewise.inference import coordinate_ascent, svi
from platewise.inference.elbo import SampledELBO, elbo_of
from platewise.models import LatentFactor
from platewise.posterior import factors
from pyro import poutine
from torch import nn

from .hierarchy import Hierarchy
from .joint_families import EVERY, data, made


@EVERY
def test_a_global_with_an_axis_and_no_plate_is_taken_along(make):
    def model(batch: RowBatch) -> None:
        x = pyro.sample("x", dist.Normal(batch.value.new_zeros(3), 1.0))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(x[..., 0] + 0 * batch.value, 1.0), obs=batch.value)

    assert np.isfinite(svi.fit(model, make(), data(), epochs=2, progress=False).elbo)


@pytest.mark.parametrize("make", [partial(MixtureOfNormals, 2), Flow, FullNormal])
def test_factors_are_read_beside_any_family_of_the_grand_mean(make):
    ratings = simulate_ratings(LatentFactor(2, sigma=0.5, user_scale=0.4), 30, 12, 150, given={"mu": 3.0}, seed=1)[0]
    fitted = svi.fit(LatentFactor(2), make(), ratings, epochs=30, progress=False)
    assert abs(factors(fitted).mu - ratings.X.data.mean()) < 1.0


def test_strata_are_never_passed_over_for_a_closed_form():
    guide, batch = made(partial(MixtureOfNormals, 2), LatentFactor(2)), RowBatch.blank(12, 4)
    assert isinstance(elbo_of(LatentFactor(2), guide, batch), SampledELBO)


def test_joints_may_stand_in_joints_and_locals_may_have_parameters_before():
    class Own(MeanFieldNormal):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.Parameter(torch.zeros(()))

        def forward(self, batch: RowBatch) -> dict[str, torch.Tensor]:
            return {name: x + 0 * self.more for name, x in super().forward(batch).items()}

    for guide in (FullNormal(FullNormal(sites=("spread",)), sites=("level", "slope")), FullNormal(Own())):
        other = svi.fit(Hierarchy(), guide, data(), epochs=1, progress=False)
        assert np.isfinite(other.elbo)


def test_a_mask_or_scale_on_a_global_is_refused():
    def model(batch: RowBatch) -> None:
        with poutine.scale(scale=0.5):
            pyro.sample("x", dist.Normal(batch.value.new_zeros(()), 1.0))

    with pytest.raises(PlatewiseError, match="global site 'x' without mask or scale"):
        made(FullNormal, model)


class _RowsAlone(nn.Module):
    def forward(self, batch: RowBatch) -> None:
        with batch.row_plate("rows"):
            pyro.sample("x", dist.Normal(batch.value.new_zeros(()), 1.0))


class _Wide(nn.Module):
    def forward(self, batch: RowBatch) -> None:
        pyro.sample("w", dist.Normal(batch.value.new_zeros(2001), 1.0).to_event(1))


@pytest.mark.parametrize(
    ("make", "model", "message"),
    [
        (FullNormal, _RowsAlone, "FullNormal to have global sites .any., got a model with 'x' of rows"),
        (partial(FullNormal, sites=["x"]), _RowsAlone, "got a model with 'x' of rows. Use the guide of its rows"),
        (partial(FullNormal, sites=["level", "lev"]), Hierarchy, "to have global sites .level, lev."),
        (FullNormal, _Wide, "at most 2,000 numbers in the global sites for FullNormal, got 2,001"),
        (MixtureOfNormals, _Wide, "for MixtureOfNormals, got 2,001"),
    ],
)
def test_what_a_joint_cannot_do_is_refused(make, model, message):
    with pytest.raises(PlatewiseError, match=message):
        made(make, model())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(LowRankNormal, 0), "a rank of at least 1, got 0"),
        (partial(MixtureOfNormals, 0), "at least 1 component, got 0"),
        (partial(Flow, maps=0), "maps and units of at least 1, got 0 and 32"),
    ],
)
def test_numbers_out_of_range_are_refused(make, message):
    with pytest.raises(PlatewiseError, match=message):
        make()


def test_exact_updates_are_refused():
    data = simulate_ratings(LatentFactor(2, sigma=0.5, user_scale=0.4), 30, 12, 150, seed=1)[0]
    with pytest.raises(PlatewiseError, match="Fit it by svi"):
        coordinate_ascent.fit(LatentFactor(2), FullNormal(), data)
