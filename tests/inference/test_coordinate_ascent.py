"""Coordinate ascent as a person calls it: going on, going over to other algorithms, wrong use, and what it recovers."""

import os
import signal
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import torch
from platewise.data import PlatewiseError, simulate_ratings, split_entries, write_h5ad
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent, svi
from platewise.inference.elbo import ClosedFormELBO
from platewise.models import LatentFactor
from platewise.posterior import evaluate
from torch import nn

from ..regression_model import Regression, RegressionGuide
from .small_factors import FAMILIES, MEANINGS, container, small_matrix, whole

TRUTH = {"sigma": 0.5, "user_scale": [0.6, 0.5, 0.4], "item_scale": [0.6, 0.5, 0.4]}
SWEEPS = 9


@cache
def _ratings(unstored: str = "missing") -> ad.AnnData:
    return container(small_matrix(40, 18), unstored)


def _fit(model: nn.Module | None = None, guide: nn.Module | None = None, **options: object) -> Fitted:
    given = {"data": _ratings(), "sweeps": SWEEPS, "tolerance": 1e-12, "seed": 3, "progress": False} | options
    return coordinate_ascent.fit(model or LatentFactor(2), guide or RowBlockNormal(), **given)


def _closed_form(fitted: Fitted) -> float:
    return ClosedFormELBO(fitted.model, fitted.guide)(whole(_ratings().X, fitted.dtype)).item()


@pytest.fixture
def ctrl_c() -> Iterator:
    """Press Ctrl-C during a sweep; the fit must catch it."""
    with pytest.MonkeyPatch.context() as patch:

        def at(wanted: int) -> None:
            step = coordinate_ascent.step

            def pressed(state: coordinate_ascent.State) -> float:
                if len(state.records) + 1 == wanted:
                    patch.undo()
                    os.kill(os.getpid(), signal.SIGINT)
                return step(state)

            patch.setattr(coordinate_ascent, "step", pressed)

        yield at


def _assert_same(one: Fitted, two: Fitted) -> None:
    """Check that two fits are the same to the bit, but for the time that they took."""
    for part in ("model", "guide"):
        ours, theirs = getattr(one, part).state_dict(), getattr(two, part).state_dict()
        assert all(torch.equal(x, theirs[name]) for name, x in ours.items()), part
    same = ["epoch", "step", "elbo", "sigma"]
    assert one.history[same].to_dict() == two.history[same].to_dict()
    assert one.state.keys() == two.state.keys()
    assert all(torch.equal(x, two.state[name]) for name, x in one.state.items())
    assert one.stopped == two.stopped


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("unstored", MEANINGS)
@pytest.mark.parametrize(("at", "options"), [(1, {}), (4, {}), (4, {"accelerate": False}), (8, {"momentum": 0.95})])
def test_an_interrupted_fit_goes_on_as_if_it_had_not_been(ctrl_c, family, unstored, at, options):
    about = {"data": _ratings(unstored), **options}
    ctrl_c(at)
    interrupted = _fit(LatentFactor(2, unstored=unstored), family(), **about)
    assert interrupted.stopped == f"interrupted after sweep {at} of at most {SWEEPS}; resume to go on"
    assert interrupted.converged is False
    assert len(interrupted.history) == at
    resumed = _fit(LatentFactor(2, unstored=unstored), family(), resume=interrupted, **about)
    _assert_same(resumed, _fit(LatentFactor(2, unstored=unstored), family(), **about))


@pytest.mark.parametrize("unstored", MEANINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_so_does_one_that_was_saved_and_loaded(ctrl_c, tmp_path, unstored, dtype):
    about = {"data": _ratings(unstored), "dtype": dtype}
    ctrl_c(5)
    _fit(LatentFactor(2, unstored=unstored), **about).save(tmp_path / "run")
    interrupted = Fitted.load(tmp_path / "run")
    resumed = _fit(interrupted.model, interrupted.guide, resume=interrupted, **about)
    _assert_same(resumed, _fit(LatentFactor(2, unstored=unstored), **about))


def test_a_fit_may_be_interrupted_twice(ctrl_c):
    ctrl_c(2)
    first = _fit()
    ctrl_c(6)
    second = _fit(resume=first)
    assert second.stopped.startswith("interrupted after sweep 6")
    _assert_same(_fit(resume=second), _fit())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sweeps": 10}, "Expected the options of the interrupted fit"),
        ({"seed": 4}, "Expected the seed of the interrupted fit, 3, got 4"),
        ({"data": container(small_matrix(40, 18, seed=1))}, "fingerprints differ"),
        ({"dtype": torch.float64}, "Expected rows read as in the interrupted fit"),
        ({"model": LatentFactor(3)}, "Expected a LatentFactor like that of the interrupted fit, got another"),
        ({"guide": MeanFieldNormal()}, "Expected a RowBlockNormal like that of the interrupted fit, got another"),
    ],
)
def test_another_fit_is_not_gone_on_with(ctrl_c, options, message):
    ctrl_c(3)
    interrupted = _fit()
    with pytest.raises(PlatewiseError, match=message):
        _fit(resume=interrupted, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_svi_goes_on_from_coordinate_ascent(family):
    """Steps too small to move: the first epoch's bound is where the sweeps ended."""
    first = _fit(LatentFactor(2), family(), dtype=torch.float64)
    after = svi.fit(
        first.model, first.guide, _ratings(), epochs=1, learning_rate=1e-9, progress=False, dtype=torch.float64
    )
    assert after.elbo == pytest.approx(first.elbo, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_coordinate_ascent_goes_on_from_svi(family):
    """The first sweep starts at what SVI left, and cannot end below it."""
    first = svi.fit(LatentFactor(2), family(), _ratings(), epochs=3, progress=False, dtype=torch.float64)
    before = _closed_form(first)
    after = _fit(first.model, first.guide, sweeps=1, dtype=torch.float64)
    assert after.elbo >= before
    assert after.elbo == pytest.approx(_closed_form(after), rel=1e-8)


def test_a_second_fit_goes_on_where_the_first_ended():
    first = _fit(dtype=torch.float64)
    assert _fit(first.model, first.guide, sweeps=1, dtype=torch.float64).elbo >= first.elbo


@pytest.mark.parametrize("family", FAMILIES)
def test_one_seed_gives_one_fit(family):
    _assert_same(_fit(LatentFactor(2), family()), _fit(LatentFactor(2), family()))
    assert _fit(LatentFactor(2), family(), seed=4, sweeps=1).elbo != _fit(LatentFactor(2), family(), sweeps=1).elbo


def test_the_callers_generator_is_left_alone():
    before = torch.get_rng_state()
    _fit()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", [Path, str])
def test_a_path_is_as_good_as_a_matrix(tmp_path, kind):
    path = tmp_path / "x.h5ad"
    write_h5ad(_ratings(), path)
    one, two = _fit(data=kind(path)), _fit()
    assert one.data == path
    assert one.history["elbo"].to_list() == two.history["elbo"].to_list()
    ours, theirs = one.guide.state_dict(), two.guide.state_dict()
    assert all(torch.equal(x, theirs[name]) for name, x in ours.items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sweeps": 0}, "Expected sweeps above 0, got 0"),
        ({"sweeps": -1}, "Expected sweeps above 0, got -1"),
        ({"tolerance": 0.0}, r"Expected tolerance above 0, got 0\.0"),
        ({"tolerance": float("nan")}, "Expected tolerance above 0, got nan"),
        ({"momentum": 1.0}, r"Expected momentum from 0 to below 1, got 1\.0"),
        ({"momentum": -0.1}, r"Expected momentum from 0 to below 1, got -0\.1"),
        (
            {"epochs": 3},
            r"Expected options among \['accelerate', .*'tolerance'\], got \['epochs'\]",
        ),
        ({"model": Regression()}, "Expected a model with exact updates .* got Regression. Fit it by svi"),
        ({"guide": RegressionGuide(40)}, "Expected a guide with exact updates .* got RegressionGuide. Fit it by svi"),
        ({"model": LatentFactor(19)}, "Expected a rank of at most 18, the smaller side of the matrix, got 19"),
        ({"model": LatentFactor(2, unstored="zero")}, "observed zeros"),
        ({"device": "nowhere"}, "Expected a device of this machine, got 'nowhere'"),
    ],
)
def test_wrong_use_is_told_in_one_line(options, message):
    with pytest.raises(PlatewiseError, match=message) as error:
        _fit(**options)
    assert "\n" not in str(error.value)


def test_why_a_fit_stopped():
    assert _fit(tolerance=1e-3, sweeps=100).converged is True
    assert _fit(tolerance=1e-3, sweeps=100).stopped.startswith("converged: the bound changed by ")
    out_of_sweeps = _fit(sweeps=2)
    assert out_of_sweeps.converged is None
    assert out_of_sweeps.stopped.startswith("all 2 sweeps done; the bound still changes by ")


def test_the_history_has_a_line_a_sweep():
    history = _fit().history
    assert history["epoch"].to_list() == list(range(1, SWEEPS + 1))
    assert (history["seconds"].diff().dropna() > 0).all()
    assert np.isfinite(history[["elbo", "sigma", "entries_per_second"]]).all(axis=None)


@pytest.mark.parametrize("seed", [2, 4])
def test_acceleration_takes_a_third_of_the_sweeps_or_fewer(seed):
    """To the bound that forty plain sweeps reach, where users and items are many and the rank is right."""
    data, _ = simulate_ratings(LatentFactor(2, **TRUTH), 300, 100, 9000, given={"mu": 3.5}, seed=seed)
    plain = _fit(data=data, accelerate=False, sweeps=40).history["elbo"].iloc[-1]
    quick = _fit(data=data, sweeps=14).history["elbo"]
    assert quick.max() > plain


@pytest.mark.parametrize(("family", "shortfall"), [(RowBlockNormal, 0.01), (MeanFieldNormal, 0.04)])
def test_intervals_hold_held_out_entries(family, shortfall):
    """Data from the model: 90 % intervals hold 90 % of entries, less what the family is too narrow by, within error."""
    data, _ = simulate_ratings(LatentFactor(2, **TRUTH), 250, 80, 7000, given={"mu": 3.5}, seed=4)
    train, test = split_entries(data, test=0.3, seed=1)
    fitted = coordinate_ascent.fit(LatentFactor(2, **TRUTH), family(), train, progress=False, tolerance=1e-5)
    scores = evaluate(fitted, test)
    error = 3 * (0.9 * 0.1 / scores.n) ** 0.5
    assert 0.9 - shortfall - error < scores.coverage["0.9"] < 0.9 + error
    assert 0.5 < scores.rmse < 0.75


def test_learned_scales_come_near_the_true_ones():
    data, _ = simulate_ratings(LatentFactor(2, **TRUTH), 300, 100, 9000, given={"mu": 3.5}, seed=2)
    model = LatentFactor(4)
    coordinate_ascent.fit(model, RowBlockNormal(), data, progress=False, tolerance=1e-6, sweeps=300)
    assert model.sigma.item() == pytest.approx(0.5, rel=0.05)
    user, item = (model.scales()[name] for name in ("user", "item"))
    strength = user[:-1] * item[:-1]
    assert strength[1] > 0.1 > 3 * strength[2]  # two factors are there, and two are pruned
    assert (user[-1] - 0.4).abs() < 0.08
