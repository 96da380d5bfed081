"""Fits that stop themselves: when, with which parameters, in which words, and after an interruption."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from platewise.data import PlatewiseError, RowLoader, simulate_ratings, write_h5ad
from platewise.data.loader import MemoryRows
from platewise.guides import AmortizedNormal, FullNormal, MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, convergence, stages, svi
from platewise.inference.stages import Plan
from platewise.inference.svi_options import chosen_options
from platewise.inference.validation import bound_per_row
from platewise.models import VAE, CountFactor, LatentFactor
from torch import nn

from ..count_data import small_counts
from ..regression_model import Regression, regression_data
from .same_fit import assert_same_fit

RATINGS, _ = simulate_ratings(
    LatentFactor(2, sigma=0.5, user_scale=0.4, item_scale=0.4), 60, 30, 900, given={"mu": 3.5}
)


def _fit(guide: nn.Module | None = None, data: object = RATINGS, **options: object) -> Fitted:
    given = {"until": "converged", "batch_rows": 15, "progress": False, "seed": 3} | options
    return svi.fit(LatentFactor(2), guide or MeanFieldNormal(), data, **given)


def _bound(fitted: Fitted, draws: int = 1) -> float:
    loader = RowLoader(MemoryRows(RATINGS.X), 10, dtype=fitted.dtype)
    elbo = svi.elbo_of(fitted.model, fitted.guide, loader.look(10))
    return bound_per_row(elbo, loader, draws) * RATINGS.n_obs


@pytest.fixture(scope="module", autouse=True)
def _short_stages() -> Iterator[None]:
    """What is tested here holds for stages of any length."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convergence, "Plan", partial(Plan, warmup=4, wait=2, settle=1, window=5, windows=2))
        patch.setattr(stages, "STEPS", 4)
        yield


@pytest.fixture(scope="module")
def whole(_short_stages: None) -> Fitted:
    return _fit()


def test_a_small_fit_converges_to_where_a_long_one_ends(whole):
    assert whole.converged is True
    long = _fit(until="epochs", epochs=2 * len(whole.history))
    assert _bound(whole) == pytest.approx(_bound(long), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("guide", [MeanFieldNormal, RowBlockNormal])
def test_stages_of_their_true_length_end_where_four_times_as_many_epochs_do(monkeypatch, guide):
    monkeypatch.setattr(convergence, "Plan", Plan)
    monkeypatch.setattr(stages, "STEPS", 12)
    fitted = _fit(guide())
    assert fitted.converged is True
    long = _fit(guide(), until="epochs", epochs=4 * len(fitted.history))
    assert _bound(fitted) == pytest.approx(_bound(long), rel=1e-3)


def test_scales_wait_for_the_latents_to_grow(monkeypatch):
    monkeypatch.setattr(convergence, "Plan", partial(Plan, warmup=4, wait=3, settle=1, window=5, windows=2))
    begun, held, released = (_fit(max_epochs=n).model.scales() for n in (1, 3, 4))
    assert all(torch.equal(begun[name], held[name]) for name in begun)
    assert not any(torch.equal(held[name], released[name]) for name in ("user", "item", "noise"))


def test_a_fit_says_why_it_has_converged(whole):
    assert whole.stopped.startswith(f"converged after {len(whole.history)} epochs, in stage ")
    assert "a smaller step is predicted to gain" in whole.stopped
    assert "less than 0.005%" in whole.stopped
    assert "split R-hat" in whole.stopped
    assert "parameters are averages over" in whole.stopped


def test_the_last_bound_of_the_history_is_that_of_the_averages(whole):
    assert whole.elbo == pytest.approx(_bound(whole), rel=1e-5)
    assert whole.elbo > whole.history["elbo"].iloc[-2]  # the iterates before wander about their average


def test_stages_halve_the_step_and_the_first_rises_slowly(whole):
    rates = whole.history["learning_rate"]
    assert rates.iloc[0] < 0.5 * rates.max()
    falls = rates[rates.diff() < 0].tolist()
    assert len(falls) >= 2
    assert falls == [0.5 * 0.5**k for k in range(1, len(falls) + 1)]


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_fit_that_is_cut_off_claims_nothing(whole, share):
    cut = _fit(max_epochs=round(share * len(whole.history)))
    assert cut.converged is False
    assert cut.stopped.startswith("not converged after ")
    assert "the most allowed" in cut.stopped
    assert "Raise max_epochs to go on" in cut.stopped
    assert cut.elbo == pytest.approx(_bound(cut), rel=1e-5)


def test_one_seed_is_one_fit_to_the_bit(whole):
    assert_same_fit(whole, _fit())


@pytest.mark.parametrize("at", [3, 48, 75])
def test_an_interrupted_fit_goes_on_as_if_it_had_not_been(whole, ctrl_c, tmp_path, at):
    """In the warm-up, at the end of an epoch, and inside windows that are averaged; from a run directory."""
    ctrl_c(at)
    interrupted = _fit()
    assert interrupted.stopped.startswith(f"interrupted after step {at} in stage ")
    assert interrupted.converged is False
    interrupted.save(tmp_path / "run")
    assert_same_fit(_fit(resume=Fitted.load(tmp_path / "run")), whole)


@pytest.mark.slow
def test_rows_streamed_from_disk_converge_as_well(tmp_path, whole):
    write_h5ad(RATINGS, tmp_path / "x.h5ad")
    streamed = _fit(data=tmp_path / "x.h5ad")
    assert streamed.converged is True
    assert streamed.elbo == pytest.approx(whole.elbo, rel=3e-3)


@pytest.mark.parametrize(
    ("model", "guide", "data"),
    [
        (lambda: LatentFactor(2), RowBlockNormal, RATINGS),
        (Regression, FullNormal, regression_data()[0]),
        (lambda: CountFactor(2), MeanFieldNormal, small_counts()),
        (lambda: VAE(2, hidden=8), lambda: AmortizedNormal(hidden=8), small_counts()),
    ],
    ids=["blocks", "joint", "counts", "networks"],
)
def test_every_kind_of_guide_can_be_averaged(model, guide, data):
    about = regression_data()[1] if model is Regression else None
    fitted = svi.fit(
        model(), guide(), data, covariates=about, until="converged", max_epochs=12, batch_rows=32, progress=False
    )
    assert fitted.elbo > fitted.history["elbo"].iloc[0]
    assert all(p.isfinite().all() for p in fitted.guide.parameters())


@pytest.mark.slow
def test_a_fit_of_no_data_converges_to_the_prior():
    fitted = svi.fit(LatentFactor(1), MeanFieldNormal(), None, until="converged", progress=False)
    assert fitted.converged is True
    assert abs(fitted.elbo) < 0.05


def test_rows_held_out_do_not_go_with_it():
    with pytest.raises(PlatewiseError, match="Expected no rows held out with until='converged', got validation="):
        _fit(validation=0.1)


class _Advises:
    recommended = {"epochs": 7, "min_steps": 100, "validation": 0.1, "patience": 5, "learning_rate": 0.1}  # noqa: RUF012


def test_a_recommended_length_is_one_of_epochs_and_gives_way_to_being_asked_for_convergence():
    advised, asked = chosen_options(_Advises(), {}), chosen_options(_Advises(), {"until": "converged"})
    assert (advised.until, advised.epochs) == ("epochs", 7)
    assert (asked.until, asked.min_steps, asked.validation, asked.patience) == ("converged", None, 0.0, None)
    assert asked.learning_rate == 0.1


def test_epochs_that_are_given_mean_a_number_of_them():
    assert chosen_options(None, {"epochs": 5}).until == "epochs"
    assert chosen_options(None, {"max_epochs": 5}).until == "converged"
    with pytest.raises(PlatewiseError, match="Give one or the other"):
        chosen_options(None, {"epochs": 5, "until": "converged"})
