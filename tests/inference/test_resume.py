"""Ctrl-C and going on: what comes out is what would have come out."""

import os
import signal

import numpy as np
import pytest
import torch
from platewise.data import PlatewiseError, simulate_ratings, write_h5ad
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, svi
from platewise.inference.resume import saved_options
from platewise.models import LatentFactor
from torch import nn

from ..regression_model import Regression, RegressionGuide, regression_data
from .same_fit import assert_same_fit

RATINGS, _ = simulate_ratings(LatentFactor(2, sigma=0.5), 60, 30, 500, given={"mu": 3.5})
TOTAL = 16  # four epochs of four steps


def _fit(model: nn.Module | None = None, guide: nn.Module | None = None, **options: object) -> Fitted:
    given = {"data": RATINGS, "epochs": 4, "batch_rows": 16, "seed": 3, "progress": False} | options
    return svi.fit(model or LatentFactor(2), guide or RowBlockNormal(), **given)


@pytest.mark.parametrize("at", [1, 3, 4, 5, 8, 15])
@pytest.mark.parametrize("likelihood", ["closed-form", "sampled"])
def test_an_interrupted_fit_goes_on_as_if_it_had_not_been(ctrl_c, at, likelihood):
    """In the middle of an epoch, at its end, and in the first."""
    ctrl_c(at)
    interrupted = _fit(likelihood=likelihood)
    assert interrupted.stopped == f"interrupted after step {at} of {TOTAL}; resume to go on"
    assert interrupted.converged is False
    assert len(interrupted.history) == at // 4
    resumed = _fit(interrupted.model, interrupted.guide, resume=interrupted, likelihood=likelihood)
    assert resumed.stopped.startswith("all 4 epochs done")
    assert_same_fit(resumed, _fit(likelihood=likelihood))


def test_ctrl_c_in_the_last_step_comes_too_late(ctrl_c):
    ctrl_c(TOTAL)
    assert_same_fit(_fit(), _fit())
    assert _fit().stopped.startswith("all 4 epochs done")


def test_new_modules_take_up_the_parameters_of_the_interrupted_fit(ctrl_c):
    ctrl_c(6)
    interrupted = _fit()
    assert_same_fit(_fit(resume=interrupted), _fit())
    assert_same_fit(_fit(resume=interrupted), _fit())  # and again: what was resumed from is as it was


def test_a_fit_may_be_interrupted_twice(ctrl_c):
    ctrl_c(3)
    first = _fit()
    ctrl_c(9)
    second = _fit(resume=first)
    assert second.stopped.startswith("interrupted after step 9")
    assert_same_fit(_fit(resume=second), _fit())


def test_a_fit_from_disk_goes_on_too(ctrl_c, tmp_path):
    write_h5ad(RATINGS, tmp_path / "x.h5ad")
    ctrl_c(6)
    interrupted = _fit(data=tmp_path / "x.h5ad")
    assert_same_fit(_fit(data=tmp_path / "x.h5ad", resume=interrupted), _fit(data=tmp_path / "x.h5ad"))


def test_a_model_that_is_not_ours_goes_on_too(ctrl_c):
    data, covariates = regression_data()
    about = {"data": data, "covariates": covariates}
    ctrl_c(6)
    interrupted = _fit(Regression(), RegressionGuide(60), **about)
    assert_same_fit(
        _fit(Regression(), RegressionGuide(60), resume=interrupted, **about),
        _fit(Regression(), RegressionGuide(60), **about),
    )


def test_the_speed_of_an_epoch_gone_on_with_is_that_of_its_rest(ctrl_c):
    ctrl_c(3)
    resumed = _fit(resume=_fit())
    speeds = resumed.history["entries_per_second"]
    assert (speeds < 500 / 4 / 1e-4).all()
    assert np.isfinite(speeds).all()


def test_before_the_first_epoch_ends_there_is_no_bound(ctrl_c):
    ctrl_c(2)
    assert np.isnan(_fit().elbo)


def test_a_fit_that_is_done_is_left_as_it_is():
    done = _fit()
    before = {name: x.clone() for name, x in done.guide.state_dict().items()}
    again = _fit(done.model, done.guide, resume=done)
    assert all(torch.equal(x, before[name]) for name, x in again.guide.state_dict().items())
    assert len(again.history) == 4


def test_ctrl_c_works_as_before_after_a_fit(ctrl_c):
    before = signal.getsignal(signal.SIGINT)
    ctrl_c(2)
    _fit()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once(monkeypatch):
    def pressed(state: svi.State, batch: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(svi, "step", pressed)
    with pytest.raises(KeyboardInterrupt):
        _fit()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 5}, "Expected the options of the interrupted fit"),
        ({"seed": 4}, "Expected the seed of the interrupted fit, 3, got 4"),
        ({"data": simulate_ratings(LatentFactor(2), 60, 30, 500, seed=9)[0]}, "fingerprints differ"),
        ({"model": LatentFactor(3)}, "Expected a LatentFactor like that of the interrupted fit, got another"),
        (
            {"guide": MeanFieldNormal()},
            "Expected a RowBlockNormal like that of the interrupted fit, got another Mean",
        ),
    ],
)
def test_another_fit_is_not_gone_on_with(ctrl_c, options, message):
    ctrl_c(6)
    interrupted = _fit()
    with pytest.raises(PlatewiseError, match=message):
        _fit(resume=interrupted, **options)


LATER = ("until", "max_epochs", "min_steps", "max_steps", "weight_decay", "kl_warmup", "validation", "patience")


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_fit_of_an_earlier_version_with_fewer_options_goes_on(ctrl_c, tmp_path, on_disk):
    ctrl_c(6)
    interrupted = _fit()
    for name in LATER:
        del interrupted.options[name]
    if on_disk:
        interrupted.save(tmp_path / "run")
        interrupted = Fitted.load(tmp_path / "run")
    assert_same_fit(_fit(resume=interrupted), _fit())


def test_options_that_a_fit_lacks_are_what_it_then_did():
    earlier = _fit()
    options = dict(earlier.options)
    for name in LATER:
        del earlier.options[name]
    assert saved_options(earlier, options) == options
    with pytest.raises(PlatewiseError, match="Expected the options of the interrupted fit"):
        _fit(resume=earlier, weight_decay=0.1)


def test_an_option_that_is_unknown_today_is_refused_in_one_line(ctrl_c):
    ctrl_c(6)
    interrupted = _fit()
    interrupted.options["shrinkage"] = 0.1
    with pytest.raises(PlatewiseError, match="Expected a fit whose options this version has, got one with shrinkage"):
        _fit(resume=interrupted)


def test_a_fit_without_its_state_is_not_gone_on_with():
    fitted = _fit()
    fitted.state = {}
    with pytest.raises(PlatewiseError, match="Expected a fit with its optimiser's state, got one without"):
        _fit(resume=fitted)
