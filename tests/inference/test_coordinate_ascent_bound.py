"""The bound of coordinate ascent: the same number as the other bounds, and never lowered by an update."""

import numpy as np
import pytest
import torch
from platewise.inference import Fitted, coordinate_ascent
from platewise.inference.elbo import ClosedFormELBO, SampledELBO
from platewise.inference.factor_modules import write_state
from platewise.inference.factor_state import FactorState
from platewise.models import LatentFactor
from pyro.infer import Trace_ELBO

from .monte_carlo import assert_agree, average
from .small_factors import FAMILIES, GIVEN, MEANINGS, container, random_fit, small_matrix, whole

BOTH = [pytest.mark.parametrize("family", FAMILIES), pytest.mark.parametrize("unstored", MEANINGS)]
UPDATES = ["update_users", "update_items", "update_mean", "update_scales", "update_noise", "translate", "rotate"]
SAME = 1e-8  # relative difference of one bound computed in two ways
ROUNDING = 1e-9  # relative fall of the bound that an exact update may show
EXACTLY = torch.zeros(())


def both(test: object) -> object:
    """Run a test for both guides and both meanings of gaps."""
    for mark in BOTH:
        test = mark(test)
    return test


def _fit(family: type, unstored: str, given: str = "learned", **options: object) -> Fitted:
    model = LatentFactor(2, unstored=unstored, **GIVEN[given])
    about = {"sweeps": 6, "tolerance": 1e-12, "progress": False, "dtype": torch.float64} | options
    return coordinate_ascent.fit(model, family(), container(small_matrix(), unstored), **about)


@both
@pytest.mark.parametrize(("given", "accelerate"), [*((given, True) for given in GIVEN), ("learned", False)])
def test_the_last_bound_is_the_closed_form_of_the_fit(family, unstored, given, accelerate):
    fitted = _fit(family, unstored, given, accelerate=accelerate)
    bound = ClosedFormELBO(fitted.model, fitted.guide)(whole(small_matrix())).item()
    assert fitted.elbo == pytest.approx(bound, rel=SAME)


@both
def test_it_is_the_expectation_of_sampled_bounds(family, unstored):
    fitted, batch = _fit(family, unstored), whole(small_matrix())
    pyros = Trace_ELBO(num_particles=100, vectorize_particles=True, max_plate_nesting=1)
    sampled = SampledELBO(fitted.model, fitted.guide, particles=100)
    bound = torch.tensor(fitted.elbo), EXACTLY
    with torch.no_grad():
        assert_agree(average(lambda: sampled(batch), 40), bound, sigmas=5)
        loss = average(lambda: -pyros.differentiable_loss(fitted.model, fitted.guide, batch), 40)
        assert_agree(loss, bound, sigmas=5)


@both
@pytest.mark.parametrize("given", ["learned", "items given"])
def test_between_updates_it_is_the_closed_form_too(family, unstored, given):
    """Wherever updates stop; the frame is put back before blocks are written."""
    batch = whole(small_matrix(seed=3))
    for last in range(1, len(UPDATES) + 1):
        model, guide, state = random_fit(family, unstored, 3, **GIVEN[given])
        for update in UPDATES[:last]:
            getattr(state, update)()
        elbo = state.elbo()
        state.settle()
        write_state(state, model, guide)
        assert ClosedFormELBO(model, guide)(batch).item() == pytest.approx(elbo, rel=SAME), UPDATES[last - 1]


def _assert_risen(state: FactorState, update: str) -> None:
    before = state.elbo()
    getattr(state, update)()
    after = state.elbo()
    assert after >= before - ROUNDING * abs(before), f"{update}: {before} to {after}"


@both
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_update_lowers_the_bound(family, unstored, given, seed):
    """Updates in random orders, from random blocks, and in changing frames."""
    _, _, state = random_fit(family, unstored, seed, **GIVEN[given])
    state.update_users()
    rng = np.random.default_rng(seed)
    for _ in range(5):
        for update in rng.permutation(UPDATES):
            _assert_risen(state, update)
        if rng.random() < 0.3:
            _assert_risen(state, "settle")


@both
@pytest.mark.parametrize("given", ["learned", "given"])
def test_an_update_made_twice_changes_nothing_more(family, unstored, given):
    _, _, state = random_fit(family, unstored, 5, **GIVEN[given])
    state.update_users()
    for update in UPDATES:
        getattr(state, update)()
        elbo = state.elbo()
        if update != "translate":  # three shifts in turn, each exact
            getattr(state, update)()
        assert state.elbo() == pytest.approx(elbo, rel=1e-10), update


@both
@pytest.mark.parametrize("update", ["update_users", "update_items", "update_mean", "update_scales", "update_noise"])
def test_no_other_value_is_better_than_an_updates(family, unstored, update):
    """The closed form's gradient in what was updated is zero."""
    names = {
        "update_users": "guide.tables.user.table.weight",
        "update_items": "guide.tables.item.dense",
        "update_mean": "guide.tables.mu.dense",
        "update_scales": "model.log_user_scale",
        "update_noise": "model.log_sigma",
    }
    model, guide, state = random_fit(family, unstored, 7)
    state.update_users()
    state.update_items()
    getattr(state, update)()
    write_state(state, model, guide)
    elbo = ClosedFormELBO(model, guide)
    elbo(whole(small_matrix(seed=7))).backward()
    gradient = dict(elbo.named_parameters())[names[update]].grad.to_dense()
    assert gradient.abs().max() < 1e-7 * abs(state.elbo())


@both
@pytest.mark.parametrize(
    ("given", "momentum"), [("learned", 0.8), ("learned", 0.99), ("given", 0.99), ("items given", 0.0)]
)
def test_no_sweep_lowers_the_bound(family, unstored, given, momentum):
    """With momentum a sweep that would is done again without."""
    elbo = _fit(family, unstored, given, momentum=momentum, sweeps=25).history["elbo"].to_numpy()
    assert (np.diff(elbo) >= -ROUNDING * abs(elbo[-1])).all()


def test_a_sweep_that_starts_ahead_and_falls_is_undone():
    """Columns far off: the sweep that starts there is thrown away, with all that it changed."""
    ahead = _state_after(3)
    ahead.factors.trail = ahead.factors.items.mean + 1e4 * torch.randn_like(ahead.factors.items.mean)
    plain = _state_after(3)
    plain.factors.trail = None
    assert coordinate_ascent.step(ahead) == coordinate_ascent.step(plain)
    assert torch.equal(ahead.factors.items.mean, plain.factors.items.mean)
    assert ahead.factors.trail is None


def _state_after(sweeps: int) -> coordinate_ascent.State:
    _, _, factors = random_fit(FAMILIES[1])
    state = coordinate_ascent.State(factors, coordinate_ascent.Options(), [])
    for _ in range(sweeps):
        state.records.append({"elbo": coordinate_ascent.step(state)})
    return state
