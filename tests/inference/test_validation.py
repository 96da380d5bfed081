"""Rows held out of a fit: its bound on them, the best epoch, patience, and going on."""

import os
import signal

import numpy as np
import pytest
import torch
from platewise.data import PlatewiseError, RowLoader, simulate_ratings
from platewise.data.loader import MemoryRows
from platewise.guides import AmortizedNormal, MeanFieldNormal
from platewise.inference import Fitted, svi
from platewise.inference.elbo import SampledELBO
from platewise.inference.validation import bound_per_row, held_out_of
from platewise.models import VAE, LatentFactor

from ..count_data import N_CELLS, small_counts

CELLS = small_counts()
BY_ENTRIES = {"model": LatentFactor(2), "guide": MeanFieldNormal()}
RATINGS, _ = simulate_ratings(LatentFactor(2), 60, 30, 500)
SMALL = {"hidden": 8, "layers": 1, "dropout": 0.2}
HELD = 12  # a fifth of the cells


def _fit(**options: object) -> Fitted:
    given = {"epochs": 4, "batch_rows": 16, "validation": 0.2, "seed": 3, "progress": False, "data": CELLS}
    given |= {"model": VAE(2, **SMALL), "guide": AmortizedNormal(**SMALL), "min_steps": None, "max_steps": None}
    given |= {"patience": None} | options
    return svi.fit(given.pop("model"), given.pop("guide"), given.pop("data"), **given)


@pytest.fixture
def spoiled(monkeypatch):
    """From the fourth epoch on, every step takes the model further off: an earlier epoch is the best."""
    step = svi.step

    def spoil(state: svi.State, batch: object) -> None:
        step(state, batch)
        if state.step > 9:
            with torch.no_grad():
                torch._foreach_mul_(list(state.elbo.model.parameters()), 1.05)

    monkeypatch.setattr(svi, "step", spoil)


def _held_out_loader(seed: int = 3, covariates: dict | None = None) -> RowLoader:
    n_entries = np.diff(CELLS.X.indptr)
    whole = RowLoader(MemoryRows(CELLS.X), 16, seed, covariates=covariates or {})
    return held_out_of(whole, n_entries, 0.2, None)[1].loader


def _bound(fitted: Fitted) -> float:
    return bound_per_row(SampledELBO(fitted.model, fitted.guide), _held_out_loader())


@pytest.mark.usefixtures("spoiled")
def test_a_fit_ends_with_the_parameters_of_its_best_epoch():
    fitted = _fit(epochs=6)
    bounds = fitted.history["validation_elbo"]
    best = int(bounds.idxmax()) + 1
    assert best <= 3
    assert _bound(fitted) == pytest.approx(bounds.max(), rel=1e-6)
    assert fitted.stopped == f"all 6 epochs done; parameters are those of epoch {best}, with the best held-out bound"
    assert fitted.converged is None


@pytest.mark.usefixtures("spoiled")
def test_patience_ends_a_fit():
    fitted = _fit(epochs=20, patience=2)
    bounds = fitted.history["validation_elbo"]
    best = int(bounds.idxmax()) + 1
    assert len(bounds) == best + 2 < 20
    assert fitted.stopped == (
        f"stopped at epoch {best + 2} of 20 epochs: no better held-out bound for 2 epochs; parameters are those of "
        f"epoch {best}, with the best held-out bound"
    )
    assert fitted.converged is True
    assert _bound(fitted) == pytest.approx(bounds.max(), rel=1e-6)


def test_the_bound_is_that_of_the_held_out_rows_in_evaluation_mode():
    fitted = _fit(epochs=1)
    elbo, held = SampledELBO(fitted.model, fitted.guide), np.flatnonzero(fitted.obs["held_out"])
    batch = RowLoader(MemoryRows(CELLS.X[held]), HELD).look(HELD)
    elbo.eval()
    with torch.no_grad():
        expected = np.mean([elbo(batch).item() / HELD for _ in range(400)])
    assert fitted.history["validation_elbo"].iloc[-1] == pytest.approx(expected, abs=1.0)


def test_the_bound_is_whole_while_the_divergence_is_warmed_up():
    one, two = (_fit(epochs=1, learning_rate=1e-9, kl_warmup=w).history["validation_elbo"] for w in (0.0, 0.9))
    assert one.iloc[0] == pytest.approx(two.iloc[0], rel=1e-5)


def test_the_bound_leaves_modes_and_generators_as_they_were():
    fitted = _fit(epochs=1)
    elbo = SampledELBO(fitted.model, fitted.guide).train()
    elbo.guide.eval()
    before = torch.get_rng_state()
    assert bound_per_row(elbo, _held_out_loader()) == bound_per_row(elbo, _held_out_loader())
    assert torch.equal(before, torch.get_rng_state())
    assert elbo.model.training
    assert not elbo.guide.training


def test_held_out_rows_are_in_no_step_and_in_no_plate(monkeypatch):
    seen, step = [], svi.step
    monkeypatch.setattr(svi, "step", lambda state, batch: seen.append(batch) or step(state, batch))
    fitted = _fit(epochs=1)
    held = fitted.obs["held_out"].to_numpy()
    assert held.sum() == HELD
    assert {batch.n_rows for batch in seen} == {N_CELLS - HELD}
    rows = torch.cat([batch.rows for batch in seen])
    values = torch.cat([batch.dense() for batch in seen])[rows.argsort()]
    np.testing.assert_array_equal(values.numpy(), CELLS.X[~held].toarray())


def test_rows_are_chosen_by_the_seed():
    chosen = [_fit(epochs=1, seed=seed).obs["held_out"].to_numpy() for seed in (1, 1, 2)]
    assert (chosen[0] == chosen[1]).all()
    assert (chosen[0] != chosen[2]).any()


def test_without_validation_nothing_is_held_out():
    fitted = _fit(validation=0.0)
    assert "held_out" not in fitted.obs
    assert "validation_elbo" not in fitted.history


@pytest.mark.usefixtures("spoiled")
@pytest.mark.parametrize("at", [5, 9, 20])  # in the middle of an epoch, at the end of one, past the best
def test_an_interrupted_fit_goes_on_as_if_it_had_not_been(monkeypatch, tmp_path, at):
    given = {"epochs": 9, "patience": 5}
    whole = _fit(**given)
    step = svi.step

    def pressed(state: svi.State, batch: object) -> None:
        if state.step + 1 == at:
            os.kill(os.getpid(), signal.SIGINT)
        step(state, batch)

    with monkeypatch.context() as patch:
        patch.setattr(svi, "step", pressed)
        interrupted = _fit(**given)
    assert interrupted.stopped.startswith(f"interrupted after step {at} of 27; resume to go on; parameters are those")
    interrupted.save(tmp_path / "run")
    resumed = _fit(**given, resume=Fitted.load(tmp_path / "run"))
    assert resumed.stopped == whole.stopped
    assert resumed.history["validation_elbo"].tolist() == pytest.approx(whole.history["validation_elbo"].tolist())
    for part in ("model", "guide"):
        ours, theirs = getattr(resumed, part).state_dict(), getattr(whole, part).state_dict()
        assert all(torch.equal(x, theirs[name]) for name, x in ours.items())


@pytest.mark.usefixtures("spoiled")
def test_a_fit_that_was_stopped_is_left_as_it_is():
    given = {"epochs": 20, "patience": 2}
    stopped = _fit(**given)
    again = _fit(**given, resume=stopped)
    assert len(again.history) == len(stopped.history)
    assert again.stopped == stopped.stopped
    assert _bound(again) == _bound(stopped)


def test_rows_streamed_from_a_file_are_held_out_alike(tmp_path):
    CELLS.write_h5ad(tmp_path / "x.h5ad")
    disk, memory = _fit(epochs=1, data=tmp_path / "x.h5ad"), _fit(epochs=1)
    assert (disk.obs["held_out"].to_numpy() == memory.obs["held_out"].to_numpy()).all()
    assert np.isfinite(disk.history["validation_elbo"]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": LatentFactor(2), "guide": MeanFieldNormal(), "data": RATINGS},
            "Expected a .* VAE. for validation, got LatentFactor",
        ),
        ({"guide": MeanFieldNormal()}, "for validation, got VAE by MeanFieldNormal. Set validation=0"),
        ({"validation": 0.0, "patience": 3}, "Expected patience with rows held out to judge by, got patience=3"),
        ({"validation": 1.0}, "Expected validation from 0 to below 1, got 1.0"),
        ({"patience": 0}, "Expected patience above 0, got 0"),
        ({"validation": 0.999}, "Expected rows with entries to fit besides those held out, got 60 rows"),
    ],
)
def test_what_cannot_be_validated_is_refused(options, message):
    with pytest.raises(PlatewiseError, match=message) as error:
        _fit(**options)
    assert "\n" not in str(error.value)
