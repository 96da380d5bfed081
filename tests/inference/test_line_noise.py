"""Coordinate ascent with noise of rows and columns: one bound, never lowered; going on; folding in; what it finds."""

import os
import signal

import numpy as np
import pytest
import torch
from platewise.data import PlatewiseError, simulate_ratings
from platewise.guides import NormalGuide, RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent, svi
from platewise.inference.elbo import ClosedFormELBO, SampledELBO
from platewise.inference.factor_modules import write_state
from platewise.inference.factor_state import FactorState
from platewise.inference.fold_in import fold_rows, fold_sites
from platewise.models import LatentFactor

from .monte_carlo import assert_agree, average
from .small_factors import FAMILIES, container, random_fit, small_matrix, whole

NOISES = ["rows", "columns", "both"]
SITES = {"user": "user_log_precision", "item": "item_log_precision"}
UPDATES = ["update_users", "update_items", "update_mean", "update_scales", "update_noise", "translate", "rotate"]
GIVEN = {
    "learned": {},
    "given": {"sigma": 0.7, "user_scale": [0.4, 0.9, 0.5], "item_scale": 0.6},
    "shapes given": {"user_shape": 2.0, "item_shape": 3.0},
}
SAME = 1e-8  # relative difference of one bound computed in two ways
ROUNDING = 1e-9  # relative fall of the bound that an exact update may show

FAMILY = pytest.mark.parametrize("family", FAMILIES)
NOISE = pytest.mark.parametrize("noise", NOISES)


def _random(
    family: type, noise: str, given: str = "learned", seed: int = 0
) -> tuple[LatentFactor, NormalGuide, FactorState]:
    shapes = {"rows": {"item_shape"}, "columns": {"user_shape"}}.get(noise, set())
    options = {name: x for name, x in GIVEN[given].items() if name not in shapes}
    return random_fit(family, seed=seed, noise=noise, **options)


def _fit(noise: str = "both", guide: NormalGuide | None = None, **options: object) -> Fitted:
    about = {"sweeps": 9, "tolerance": 1e-12, "progress": False, "dtype": torch.float64} | options
    return coordinate_ascent.fit(LatentFactor(2, noise=noise), guide or RowBlockNormal(), _data(), **about)


def _data() -> object:
    return container(small_matrix())


@FAMILY
@NOISE
def test_between_updates_the_bound_is_the_closed_form(family, noise):
    """Wherever updates stop; the frame is put back before blocks are written."""
    batch = whole(small_matrix(seed=3))
    for last in range(1, len(UPDATES) + 1):
        model, guide, state = _random(family, noise, seed=3)
        for update in UPDATES[:last]:
            getattr(state, update)()
        elbo = state.elbo()
        state.settle()
        assert state.elbo() == pytest.approx(elbo, rel=SAME)
        write_state(state, model, guide)
        assert ClosedFormELBO(model, guide)(batch).item() == pytest.approx(elbo, rel=SAME), UPDATES[last - 1]


def test_it_is_the_expectation_of_sampled_bounds():
    fitted, batch = _fit(), whole(small_matrix())
    sampled = SampledELBO(fitted.model, fitted.guide, particles=100)
    with torch.no_grad():
        assert_agree(average(lambda: sampled(batch), 20), (torch.tensor(fitted.elbo), torch.zeros(())), sigmas=5)


@FAMILY
@pytest.mark.parametrize(
    ("noise", "given"), [("rows", "learned"), ("columns", "given"), *(("both", given) for given in GIVEN)]
)
def test_no_update_lowers_the_bound(family, noise, given):
    """Updates in random orders, from random blocks, and in changing frames."""
    _, _, state = _random(family, noise, given)
    state.update_users()
    rng = np.random.default_rng(1)
    for update in [*rng.permutation(UPDATES), *rng.permutation(UPDATES), "settle", *rng.permutation(UPDATES)]:
        before = state.elbo()
        getattr(state, update)()
        assert state.elbo() >= before - ROUNDING * abs(before), update


@FAMILY
@pytest.mark.parametrize(
    ("noise", "updates", "name"),
    [
        ("both", ["update_users"], "guide.tables.user_log_precision.table.weight"),
        ("both", ["update_users", "update_items"], "guide.tables.item_log_precision.dense"),
        ("columns", ["update_items", "update_users"], "guide.tables.user.table.weight"),
        ("rows", ["update_users", "update_items"], "guide.tables.item.dense"),
        ("both", ["update_users", "update_items", "update_mean"], "guide.tables.mu.dense"),
        ("both", ["update_noise"], "model.line_noise.log_user_shape"),
        ("both", ["update_noise"], "model.line_noise.log_item_shape"),
    ],
)
def test_no_other_value_is_better_than_an_updates(family, noise, updates, name):
    """The closed form's gradient in what was updated is zero."""
    model, guide, state = _random(family, noise, seed=7)
    state.update_users()
    state.update_items()
    for update in updates:
        getattr(state, update)()
    write_state(state, model, guide)
    elbo = ClosedFormELBO(model, guide)
    elbo(whole(small_matrix(seed=7))).backward()
    gradient = dict(elbo.named_parameters())[name].grad.to_dense()
    assert gradient.abs().max() < 1e-7 * abs(state.elbo())


@NOISE
def test_at_the_end_of_a_fit_no_sweep_has_lowered_the_bound(noise):
    fitted = _fit(noise, sweeps=15, momentum=0.95)
    assert (np.diff(fitted.history["elbo"]) >= -ROUNDING * abs(fitted.elbo)).all()
    bound = ClosedFormELBO(fitted.model, fitted.guide)(whole(small_matrix())).item()
    assert fitted.elbo == pytest.approx(bound, rel=SAME)


def test_entries_of_one_noise_make_shapes_large():
    """And the fit that of constant noise."""
    data, _ = simulate_ratings(
        LatentFactor(1, sigma=0.5, user_scale=0.5, item_scale=0.5), 40, 30, 600, given={"mu": 3.0}
    )
    about = {"sweeps": 40, "tolerance": 1e-6, "progress": False, "dtype": torch.float64}
    both = coordinate_ascent.fit(LatentFactor(1, noise="both"), RowBlockNormal(), data, **about)
    plain = coordinate_ascent.fit(LatentFactor(1), RowBlockNormal(), data, **about)
    assert min(float(both.model.scales()[f"{side}_shape"]) for side in SITES) > 12
    assert both.model.sigma.item() == pytest.approx(plain.model.sigma.item(), rel=0.1)


def test_it_finds_whose_ratings_are_noisy():
    truth = LatentFactor(1, sigma=0.5, user_scale=0.5, item_scale=0.5, noise="both", user_shape=2.0, item_shape=3.0)
    data, latents = simulate_ratings(truth, 150, 80, 4000, given={"mu": 3.0})
    found = coordinate_ascent.fit(LatentFactor(1, noise="both"), RowBlockNormal(), data, progress=False)
    many = np.diff(data.X.indptr) >= 20
    for site, among in ((SITES["user"], many), (SITES["item"], np.bincount(data.X.indices, minlength=80) >= 20)):
        mean, variance = (x[:, 0].numpy()[among] for x in found.guide.blocks(site))
        assert np.corrcoef(mean, latents[site][among])[0, 1] > 0.8
        assert 0.6 < (((mean - latents[site][among]) ** 2) / variance).mean() < 2.0
    shapes = {side: float(found.model.scales()[f"{side}_shape"]) for side in SITES}
    assert 1.5 <= shapes["user"] < 3.5
    assert 2.0 < shapes["item"] < 5.5


def test_svi_goes_on_from_where_it_ended_and_finds_no_more():
    fitted = _fit(sweeps=60, tolerance=1e-8)
    on = svi.fit(fitted.model, fitted.guide, _data(), epochs=2, learning_rate=1e-3, progress=False, dtype=torch.float64)
    assert ClosedFormELBO(on.model, on.guide)(whole(small_matrix())).item() == pytest.approx(fitted.elbo, abs=0.2)


def test_coordinate_ascent_goes_on_from_svi():
    first = svi.fit(
        LatentFactor(2, noise="both"), RowBlockNormal(), _data(), epochs=3, progress=False, dtype=torch.float64
    )
    before = ClosedFormELBO(first.model, first.guide)(whole(small_matrix())).item()
    on = coordinate_ascent.fit(first.model, first.guide, _data(), sweeps=1, progress=False, dtype=torch.float64)
    assert on.elbo > before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_interrupted_fit_goes_on_as_if_it_had_not_been(tmp_path, dtype):
    whole_fit = _fit(dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        _interrupt_at(4, patch)
        _fit(dtype=dtype).save(tmp_path / "run")
    first = Fitted.load(tmp_path / "run")
    about = {"sweeps": 9, "tolerance": 1e-12, "progress": False, "dtype": dtype}
    on = coordinate_ascent.fit(first.model, first.guide, _data(), resume=first, **about)
    assert on.history["elbo"].tolist() == whole_fit.history["elbo"].tolist()
    for part in ("model", "guide"):
        ours, theirs = getattr(on, part).state_dict(), getattr(whole_fit, part).state_dict()
        assert all(torch.equal(x, theirs[name]) for name, x in ours.items()), part


def _interrupt_at(wanted: int, patch: pytest.MonkeyPatch) -> None:
    step = coordinate_ascent.step

    def pressed(state: coordinate_ascent.State) -> float:
        if len(state.records) + 1 == wanted:
            os.kill(os.getpid(), signal.SIGINT)
        return step(state)

    patch.setattr(coordinate_ascent, "step", pressed)


@FAMILY
@NOISE
def test_rows_folded_in_are_where_updates_of_rows_come_to_rest(family, noise):
    model, guide, state = _random(family, noise)
    for _ in range(40):
        state.update_users()
    batch = whole(small_matrix())
    found = fold_sites(model, guide, batch)
    assert torch.equal(fold_rows(model, guide, batch)[0], found["user"][0])
    write_state(state, model, guide)
    held = guide.posterior(batch)
    assert found.keys() == {"user"} | ({"user_log_precision"} if noise != "columns" else set())
    for site, (mean, _) in found.items():
        torch.testing.assert_close(mean.reshape(held[site].mean.shape), held[site].mean, atol=1e-5, rtol=0)


def test_rows_without_entries_get_the_prior():
    fitted = _fit()
    sites = fold_sites(fitted.model, fitted.guide, whole(small_matrix()[1:2]))  # row 1 has none
    shape = float(fitted.model.scales()["user_shape"])
    mean, variance = (x.item() for x in sites["user_log_precision"])
    assert (mean, variance) == (pytest.approx(-0.5 / shape), pytest.approx(1 / shape))


def test_a_guide_that_holds_no_rows_is_refused():
    with pytest.raises(PlatewiseError, match="Expected a guide that holds rows where each has a noise of its own"):
        _fit("rows", RowBlockNormal(hold_rows=False))
