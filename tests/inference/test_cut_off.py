"""Fits that `max_epochs` cut off: going on with more of them gives what would have come without."""

from collections.abc import Iterator
from dataclasses import fields
from functools import partial

import pytest
import torch
from platewise.data import PlatewiseError, simulate_ratings
from platewise.guides import MeanFieldNormal
from platewise.inference import Fitted, convergence, stages, svi
from platewise.inference.stages import Plan
from platewise.models import LatentFactor
from torch import nn

from .same_fit import assert_same_fit

RATINGS, _ = simulate_ratings(LatentFactor(2, sigma=0.5), 60, 30, 900, given={"mu": 3.5})
SHORT = partial(Plan, **({length.name: 2 for length in fields(Plan)} | {"window": 4}))
BEGINS = SHORT().first_window(0)  # epochs before the first window
MOST = BEGINS + 6  # all epochs: a window, and half of the next


def _fit(max_epochs: int, guide: nn.Module | None = None, resume: Fitted | None = None, **options: object) -> Fitted:
    given = {"max_epochs": max_epochs, "batch_rows": 30, "progress": False, "seed": 3} | options
    return svi.fit(LatentFactor(2), guide or MeanFieldNormal(), RATINGS, resume=resume, **given)


@pytest.fixture(scope="module", autouse=True)
def _short_stages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convergence, "Plan", SHORT)
        patch.setattr(stages, "STEPS", 2)
        yield


@pytest.fixture(scope="module")
def uncut(_short_stages: None) -> Fitted:
    return _fit(MOST)


@pytest.fixture(scope="module")
def cut(_short_stages: None) -> Fitted:
    """Cut off inside the first window."""
    return _fit(BEGINS + 2)


@pytest.mark.parametrize("at", [BEGINS - 1, BEGINS + 4], ids=["before it is averaged", "as a window ends"])
def test_a_fit_goes_on_as_if_it_had_not_been_cut_off(uncut, at):
    assert_same_fit(_fit(MOST, resume=_fit(at)), uncut)


def test_it_does_so_from_a_run_directory_which_stays_as_it_was(uncut, cut, tmp_path):
    before = {name: x.clone() for name, x in cut.guide.state_dict().items()}
    cut.save(tmp_path / "run")
    assert_same_fit(_fit(MOST, resume=Fitted.load(tmp_path / "run")), uncut)
    assert_same_fit(_fit(MOST, resume=cut), uncut)
    assert all(torch.equal(x, before[name]) for name, x in cut.guide.state_dict().items())


def test_it_may_be_cut_off_again(uncut, cut):
    again = _fit(BEGINS + 3, resume=cut)
    assert_same_fit(_fit(MOST, again.guide, again), uncut)


def test_it_stays_as_it_is_where_no_more_is_allowed(cut):
    assert cut.ran_out
    assert_same_fit(_fit(BEGINS + 2, resume=cut), cut)


def test_epochs_that_are_done_cannot_be_forbidden(cut):
    with pytest.raises(PlatewiseError, match=f"Expected max_epochs above {BEGINS + 2}, the epochs that .* got 5"):
        _fit(5, resume=cut)


def test_other_options_are_as_they_were(cut):
    with pytest.raises(PlatewiseError, match="Expected the options of the interrupted fit"):
        _fit(MOST, resume=cut, learning_rate=0.1)


def test_one_that_an_earlier_version_cut_off_has_nothing_to_go_on_from(tmp_path, cut):
    cut.save(tmp_path / "run")
    earlier = Fitted.load(tmp_path / "run")
    del earlier.state["stages:estimate"]
    with pytest.raises(PlatewiseError, match="got one of an earlier version, which has the averages alone"):
        _fit(MOST, resume=earlier)


@pytest.mark.slow
def test_it_converges_as_if_it_had_not_been_cut_off_and_then_stays_as_it_is(cut):
    whole = _fit(500)
    assert whole.converged
    converged = _fit(500, resume=_fit(len(whole.history) - 3))
    assert_same_fit(converged, whole)
    assert not [name for name in converged.state if name.startswith(convergence.ITERATE)]
    assert_same_fit(_fit(1000, resume=whole), whole)
